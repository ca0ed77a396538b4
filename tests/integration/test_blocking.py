"""“This wasn’t me, never mail me again”: the small link in the mail that a sign-up caused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import flask
import pytest
import time_machine
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import db, links, settings, throttle
from service.subscribers import addresses, blocking, confirmation, signup
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    ConsentEvent,
    EndReason,
    Letter,
    SignupRequest,
    State,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)
from tests import make
from tests.integration import letterbox
from tests.integration.conftest import Visitor
from tests.integration.letterbox import Mail, words
from tests.integration.operator import done, refused
from tests.integration.races import Beside
from tests.make import NOW

EMAIL = "saskia@gemeente.example"

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture(autouse=True)
def clock(app: flask.Flask) -> Iterator[time_machine.Traveller]:
    with db.transaction() as session:
        for slug in ("innovatie", "democratie"):
            make.theme(session, slug)
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def sign_up(visitor: Visitor, *slugs: str, email: str = EMAIL) -> tuple[str, list[Mail]]:
    """Somebody fills in the form: the page that they see, and what is mailed."""
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"form_min_seconds": 0}))
    page = visitor.post("/subscribe", data={"email": email, "themes": list(slugs or ["innovatie"]), "language": "nl"})
    settings.use(chosen)
    assert page.status_code == 200
    with db.transaction() as session:
        make.taken(session)
    return page.text, letterbox.emptied()


def kept() -> dict[str, int]:
    """Rows about people; what is empty is left out."""
    with db.transaction() as session:
        models = (Subscriber, Subscription, Consent, Confirmation, Letter, SignupRequest, Suppression)
        counted = {model.__tablename__: session.scalar(select(func.count()).select_from(model)) for model in models}
        counted["mails counted"] = session.scalar(select(func.count()).where(throttle.Attempt.kind == "signup_mail"))
    return {name: count for name, count in counted.items() if count}


def test_of_who_never_confirmed_only_the_mark_stays(visitor: Visitor, clock: time_machine.Traveller) -> None:
    first, (mail,) = sign_up(visitor)
    link = mail.path("block")
    for _ in range(2):
        page = visitor.get(link)
        assert visitor.head(link).status_code == page.status_code == 200
    assert re.search(rf'<form method="post" action="{link}">.*?<button', page.text, re.DOTALL)
    assert "Nooit meer mail van ons?" in words(page)
    assert EMAIL not in page.text
    assert kept()["subscribers"] == 1

    assert "We mailen u niet meer" in words(visitor.post(link))
    assert kept() == {"suppressions": 1}
    clock.shift(timedelta(days=1))
    again, mails = sign_up(visitor)
    assert (mails, again) == ([], first)
    assert kept() == {"suppressions": 1}


def test_a_second_press_and_the_other_link_find_nothing(visitor: Visitor) -> None:
    _, (mail,) = sign_up(visitor)
    visitor.post(mail.path("block"))
    for answer in (visitor.post(mail.path("block")), visitor.get(mail.path("block"))):
        assert answer.status_code == 410
        assert "Drukte u eerder op de knop?" in words(answer)
    for answer in (visitor.post(mail.path("confirm")), visitor.get(mail.path("confirm"))):
        assert answer.status_code == 410
        assert "nooit meer mogen mailen? Dan kunt u zich pas weer aanmelden als u ons schrijft" in words(answer)
        assert 'href="mailto:nieuws@vinkje.example"' in answer.text
    assert kept() == {"suppressions": 1}


def test_a_mail_that_is_due_stays_here(visitor: Visitor, app: flask.Flask) -> None:
    _, (mail,) = sign_up(visitor)
    with time_machine.travel(NOW + timedelta(minutes=11), tick=False):
        visitor.post("/subscribe", data={"email": EMAIL, "themes": "democratie", "language": "nl"})
        with db.transaction() as session:
            make.taken(session)
        visitor.post(mail.path("block"))
        assert letterbox.emptied() == []


def test_a_sign_up_at_the_same_moment_is_no_way_round_it(app: flask.Flask, visitor: Visitor) -> None:
    """The form is taken while the button is pressed: it waits for the row, and finds the mark."""
    sign_up(visitor)
    with db.transaction() as session:
        asked = session.scalars(select(Confirmation.id)).one()
    later = NOW + timedelta(minutes=11)

    def take(session: Session) -> None:
        signup.sign_up(session=session, now=later, email=EMAIL, slugs=["innovatie"], language="nl", network="n")

    beside = Beside(app, take)
    with db.transaction() as session:
        assert blocking.block(session=session, now=later, confirmation_id=asked)
        session.flush()
        beside.start()
    assert beside.refusal() is None
    assert kept() == {"suppressions": 1}


def test_a_reader_is_asked_plainly_and_leaves_everything(visitor: Visitor) -> None:
    with db.transaction() as session:
        make.reader(session, EMAIL, "democratie")
    _, (mail,) = sign_up(visitor, "innovatie")
    page = visitor.get(mail.path("block"))
    assert "U krijgt onze nieuwsbrief over dit thema. Die stopt dan ook: Democratie" in words(page)
    assert "Stop alle nieuwsbrieven en mail mij nooit meer" in words(page)
    visitor.post(mail.path("block"))
    with db.transaction() as session:
        (held,) = session.scalars(select(Subscription)).all()
        assert (held.state, held.end_reason) == (State.ENDED, EndReason.UNSUBSCRIBED)
        (told,) = session.scalars(select(Consent)).all()
        assert (told.event, told.channel) == (ConsentEvent.WITHDRAWN, Channel.MAIL)
        assert addresses.blocked(session=session, email_key=EMAIL)
    assert "confirmations" not in kept()


def test_who_confirmed_first_can_still_say_so(visitor: Visitor) -> None:
    _, (mail,) = sign_up(visitor)
    visitor.post(mail.path("confirm"))
    visitor.post(mail.path("block"))
    for answer in (visitor.get(mail.path("block")), visitor.post(mail.path("block"))):
        assert "We mailen u niet meer" in words(answer)
    with db.transaction() as session:
        reader = session.scalars(select(Subscriber)).one()
        assert session.scalars(select(Subscription.state)).all() == [State.ENDED]
    link = links.preferences(reader.id).removeprefix(settings.current().base_url)
    answer = visitor.post(link, data={"themes": "innovatie", "language": "nl"})
    assert (answer.status_code, "Mail ons, dan maken we dat ongedaan" in words(answer)) == (422, True)
    for answer in (visitor.get(mail.path("confirm")), visitor.post(mail.path("confirm"))):
        assert "We mailen u niet meer" in words(answer)
        assert "evestig" not in words(answer)
        assert "/preferences/" not in answer.text


def test_a_block_of_a_request_that_vanished_says_so(visitor: Visitor, clock: time_machine.Traveller) -> None:
    _, (mail,) = sign_up(visitor)
    clock.shift(timedelta(hours=80))
    with db.transaction() as session:
        confirmation.expire(session=session, now=NOW + timedelta(hours=80))
    assert visitor.post(mail.path("block")).status_code == 410
    assert "suppressions" not in kept()


def test_the_link_opens_this_door_only(visitor: Visitor) -> None:
    _, (mail,) = sign_up(visitor)
    tokens = {door: mail.path(door).rpartition("/")[2] for door in ("block", "confirm")}
    for door in ("confirm", "preferences", "unsubscribe", "data", "address"):
        assert visitor.post(f"/{door}/{tokens['block']}").status_code in (404, 405)
    assert visitor.post(f"/block/{tokens['confirm']}").status_code == 404
    assert kept()["subscribers"] == 1


def test_a_stronger_mark_wins_and_stays_with_an_older_key(visitor: Visitor) -> None:
    _, (mail,) = sign_up(visitor)
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=EMAIL, reason=SuppressionReason.HARD_BOUNCE)
    visitor.post(mail.path("block"))
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"secret_key": "x" * 40, "secret_keys_previous": (chosen.secret_key,)}))
    with db.transaction() as session:
        assert addresses.blocked(session=session, email_key=EMAIL)


def test_an_operator_undoes_it(visitor: Visitor, app: flask.Flask, clock: time_machine.Traveller) -> None:
    _, (mail,) = sign_up(visitor)
    visitor.post(mail.path("block"))
    assert "can sign up again" in done(app, "subscriber", "unblock", "Saskia@gemeente.example")
    assert kept() == {}
    _, mails = sign_up(visitor)
    assert [mail.to for mail in mails] == [EMAIL]
    assert "isn’t blocked" in refused(app, "subscriber", "unblock", EMAIL)
    assert "no e-mail address" in refused(app, "subscriber", "unblock", "saskia")
