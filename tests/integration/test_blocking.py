"""“This wasn’t me, never mail me again”: the small link in the mail that a sign-up caused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import flask
import pytest
import time_machine
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service import db, links, settings, throttle
from service.subscribers import address_change, addresses, blocking, confirmation, signup
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

EMAIL, PIM = "saskia@gemeente.example", "pim@gemeente.example"

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


def test_a_mail_that_is_forwarded_later_blocks_nobody(visitor: Visitor, clock: time_machine.Traveller) -> None:
    """Its link ends everything, and only an operator undoes that: it works as long as the request could be answered."""
    _, (mail,) = sign_up(visitor)
    visitor.post(mail.path("confirm"))
    clock.shift(confirmation.LIFE)
    assert "Die stopt dan ook: Innovatie" in words(visitor.get(mail.path("block")))
    clock.shift(timedelta(minutes=1))
    for answer in (visitor.get(mail.path("block")), visitor.post(mail.path("block"))):
        assert answer.status_code == 410
        said = words(answer)
        assert "werkt 72 uur" in said
        assert "Onder elke nieuwsbrief staat een link die altijd werkt." in said
        assert 'href="mailto:nieuws@vinkje.example"' in answer.text
    assert "suppressions" not in kept()
    with db.transaction() as session:
        assert session.scalars(select(Subscription.state)).all() == [State.ACTIVE]


@pytest.fixture
def change() -> Callable[[str], Mail]:
    """Pim fills in an address as his new one: the mail that goes there."""

    def ask(email: str) -> Mail:
        with db.transaction() as session:
            pim = session.scalar(select(Subscriber.id).where(Subscriber.email == PIM))
            pim = pim or make.reader(session, PIM, "innovatie").id
            address_change.ask(session=session, now=datetime.now(UTC), subscriber_id=pim, email=email)
        return next(mail for mail in letterbox.emptied() if mail.to.lower() == email.lower())

    return ask


def test_who_is_asked_whether_an_address_is_theirs_can_say_so_too(
    visitor: Visitor, change: Callable[[str], Mail], clock: time_machine.Traveller
) -> None:
    """requirements 4.3, 4.4: this mail comes unasked as well"""
    mail = change(EMAIL)
    assert "Ik was dit niet, mail mij nooit meer:" in mail.text
    assert "we sturen verder niets" not in mail.text, "somebody may fill it in again"
    link = mail.path("block")
    before = kept()
    for _ in range(2):
        page = visitor.get(link)
        assert visitor.head(link).status_code == page.status_code == 200
    assert "Heeft iemand anders s•••@gemeente.example ingevuld?" in words(page)
    assert EMAIL not in page.text
    assert PIM not in page.text
    assert "Innovatie" not in words(page), "that's what Pim reads"
    assert kept() == before

    assert "We mailen u niet meer" in words(letterbox.press(visitor, link))
    assert kept() == {"subscribers": 1, "subscriptions": 1, "suppressions": 1}
    for answer in (visitor.get(link), visitor.post(link), visitor.get(mail.path("address"))):
        assert answer.status_code == 410
    assert "Drukte u eerder op de knop? Dan mailen we u niet meer." in words(visitor.get(link))
    clock.shift(timedelta(days=1))
    with db.transaction() as session:
        (pim,) = session.scalars(select(Subscriber.id)).all()
        address_change.ask(session=session, now=NOW + timedelta(days=1), subscriber_id=pim, email=EMAIL)
    assert letterbox.emptied() == []
    assert sign_up(visitor)[1] == []


def test_a_reader_whose_address_another_filled_in_leaves_everything(
    visitor: Visitor, change: Callable[[str], Mail]
) -> None:
    with db.transaction() as session:
        saskia = make.reader(session, EMAIL, "democratie").id
    link = change(EMAIL.upper()).path("block")
    assert "Die stopt dan ook: Democratie" in words(visitor.get(link))
    letterbox.press(visitor, link)
    with db.transaction() as session:
        assert addresses.blocked(session=session, email_key=EMAIL)
        of_whom = Subscription.subscriber_id == Subscriber.id
        states = session.execute(select(Subscriber.email, Subscription.state).join(Subscription, of_whom))
        assert {row.email: row.state for row in states} == {EMAIL: State.ENDED, PIM: State.ACTIVE}
        (told,) = session.scalars(select(Consent)).all()
        assert (told.subscriber_id, told.event, told.channel) == (saskia, ConsentEvent.WITHDRAWN, Channel.MAIL)


def test_the_letter_has_an_end_and_so_has_its_way_out(
    visitor: Visitor, change: Callable[[str], Mail], clock: time_machine.Traveller
) -> None:
    """Pressed by its owner, followed by another, too old: in each case it's a link that others may have by now."""
    pressed = change("prive@elders.example")
    letterbox.press(visitor, pressed.path("address"))
    with db.transaction() as session:
        session.execute(update(Subscriber).values(email=PIM, email_key=PIM))
    older, newer = change(EMAIL), change("ander@elders.example")
    for mail in (pressed, older):
        assert visitor.get(mail.path("block")).status_code == visitor.post(mail.path("block")).status_code == 410
    clock.shift(address_change.LIFE)
    assert visitor.get(newer.path("block")).status_code == 200
    clock.shift(timedelta(minutes=1))
    assert visitor.get(newer.path("block")).status_code == visitor.post(newer.path("block")).status_code == 410
    assert "suppressions" not in kept()


def test_a_press_of_the_other_button_at_the_same_moment_takes_nothing_back(
    app: flask.Flask, change: Callable[[str], Mail]
) -> None:
    """Who says "never again" first is not made a reader by who says "this is my address" a moment later."""
    change(EMAIL)
    with db.transaction() as session:
        letter_id, shown = session.scalars(select(Letter.id)).one(), [make.theme(session, "innovatie").id]
    answers: list[address_change.Answer] = []

    def press(session: Session) -> None:
        pressed = address_change.change(session=session, now=NOW, letter_id=letter_id, shown_in="nl", shown=shown)
        answers.append(pressed.answer)

    beside = Beside(app, press)
    with db.transaction() as session:
        assert blocking.block(session=session, now=NOW, letter_id=letter_id)
        session.flush()
        beside.start()
    assert beside.refusal() is None
    assert answers == [address_change.Answer.EXPIRED]
    with db.transaction() as session:
        assert session.scalars(select(Subscriber.email)).all() == [PIM]
        assert addresses.blocked(session=session, email_key=EMAIL)


def test_a_link_of_a_letter_is_no_link_of_a_request(visitor: Visitor, change: Callable[[str], Mail]) -> None:
    """Their numbers may be the same."""
    _, (mail,) = sign_up(visitor, email="kees@elders.example")
    letter = change(EMAIL)
    (number,) = links.read(links.Purpose.ADDRESS, letter.path("address").rpartition("/")[2])
    letterbox.press(visitor, letter.path("block"))
    with db.transaction() as session:
        assert addresses.blocked(session=session, email_key=EMAIL)
        assert not addresses.blocked(session=session, email_key="kees@elders.example")
    assert visitor.get(mail.path("block")).status_code == 200
    for numbers in ((0,), (0, 0), (0, number + 1), (number, number)):
        token = links.token(links.Purpose.BLOCK, *numbers)
        assert visitor.post(f"/block/{token}").status_code == 410, numbers


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
