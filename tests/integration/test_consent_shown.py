"""Consent can be shown for every active subscription: who, which theme, which words, when, through what."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import flask
import pytest
import time_machine
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import db, demo, links, settings, themes
from service.subscribers import (
    address_change,
    addresses,
    blocking,
    confirmation,
    consent,
    evidence,
    importing,
    intake,
    own_data,
    preferences,
    signup,
    unsubscribe,
)
from service.subscribers.csv_rows import Row
from service.subscribers.models import Channel, Confirmation, Consent, Letter, State, Subscriber, Subscription
from tests import make
from tests.integration import letterbox
from tests.integration.conftest import Visitor
from tests.integration.letterbox import words
from tests.integration.operator import done, refused, vinkje
from tests.make import NOW

SASKIA, NEW = "saskia@gemeente.example", "s.devries@gemeente.example"
LATER = NOW + timedelta(days=1)
Way = Callable[[Session], None]

pytestmark = pytest.mark.usefixtures("doorbells")


def who(session: Session, email: str = SASKIA) -> int:
    return session.scalars(select(Subscriber.id).where(Subscriber.email_key == email)).one()


def form(session: Session) -> None:
    intake.ask(session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="x")
    make.taken(session)
    press(session)


def form_elsewhere(session: Session) -> None:
    intake.ask(session=session, now=NOW, email=SASKIA, slugs=["zorg"], language="en", network="x", elsewhere=True)
    make.taken(session)
    press(session)


def press(session: Session) -> None:
    asked = session.scalars(select(Confirmation.id).order_by(Confirmation.id.desc())).first()
    assert asked is not None
    confirmation.confirm(session=session, now=LATER, confirmation_id=asked)


def form_again(session: Session) -> None:
    """Who has one theme ticks both: they are told that they have the one, and confirm the other."""
    form(session)
    signup.sign_up(session=session, now=LATER, email=SASKIA, slugs=["innovatie", "zorg"], language="nl", network="y")
    press(session)


def back_after_leaving(session: Session) -> None:
    form(session)
    unsubscribe.leave_all(session=session, now=NOW, subscriber_id=who(session), channel=Channel.UNSUBSCRIBE_PAGE)
    signup.sign_up(session=session, now=LATER, email=SASKIA, slugs=["innovatie"], language="nl", network="y")
    press(session)


def preference_centre(session: Session) -> None:
    form(session)
    slugs = {"innovatie", "zorg"}
    preferences.change(session=session, now=LATER, subscriber_id=who(session), slugs=slugs, language="en")


def back_by_preference_centre(session: Session) -> None:
    form(session)
    for slugs in (set[str](), {"innovatie"}):
        preferences.change(session=session, now=LATER, subscriber_id=who(session), slugs=slugs, language="nl")
    press(session)


def imported(session: Session) -> None:
    row = Row(2, addresses.parse(SASKIA), ("innovatie", "zorg"), "nl", NOW - timedelta(days=900), "beurs Gent 2024")
    assert importing.take(session=session, now=NOW, lines=[row]).added == 1


def imported_while_pending(session: Session) -> None:
    signup.sign_up(session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="x")
    imported(session)


def another_address(session: Session) -> None:
    form(session)
    address_change.ask(session=session, now=LATER, subscriber_id=who(session), email=NEW)
    letter = session.scalars(select(Letter.id).where(Letter.email == NEW)).one()
    make.pressed(session, letter, now=LATER)
    assert who(session, NEW)


def the_address_of_another_reader(session: Session) -> None:
    """Themes move to the reader who has the address already."""
    preference_centre(session)
    make.reader(session, NEW)
    another_address_of = who(session)
    address_change.ask(session=session, now=LATER, subscriber_id=another_address_of, email=NEW)
    letter = session.scalars(select(Letter.id).where(Letter.email == NEW)).one()
    make.pressed(session, letter, now=LATER, shown_in="en")


def the_demo(session: Session) -> None:
    demo.seed(session=session, now=NOW)


WAYS: tuple[Way, ...] = (
    form, form_elsewhere, form_again, back_after_leaving, preference_centre, back_by_preference_centre, imported,
    imported_while_pending, another_address, the_address_of_another_reader, the_demo,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _themes(app: flask.Flask, request: pytest.FixtureRequest) -> None:
    if "the_demo" not in request.node.name:
        with db.transaction() as session:
            for slug in ("innovatie", "zorg"):
                make.theme(session, slug)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_in_leaves_its_evidence(session: Session, way: Way) -> None:
    way(session)
    session.flush()
    active = select(Subscription.subscriber_id, Subscription.theme_id).where(Subscription.state == State.ACTIVE)
    pairs = {tuple(row) for row in session.execute(active)}
    found = evidence.shown(session=session).rows
    assert pairs
    assert {(shown.subscriber_id, theme_id) for theme_id, shown in found} == pairs
    assert evidence.missing(session=session) == []
    for _, shown in found:
        name, _, language = shown.wording.rpartition(".")
        assert consent.wording(name, language).hash == shown.wording_hash
        assert (shown.channel is Channel.IMPORT) == bool(shown.source == "beurs Gent 2024")


@pytest.mark.parametrize("way", [form, preference_centre, imported, back_after_leaving])
def test_a_way_in_that_forgets_its_evidence_is_seen(
    session: Session, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = consent.record

    def forgetful(**given: object) -> None:
        if given["event"] not in evidence.GIVING:
            real(**given)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(consent, "record", forgetful)
    way(session)
    session.flush()
    assert {slug for _, slug in evidence.missing(session=session)} >= {"innovatie"}


@pytest.mark.parametrize("to_a_reader", [False, True])
def test_a_new_address_agrees_to_the_themes_that_its_page_showed(visitor: Visitor, to_a_reader: bool) -> None:
    """The link in a newsletter ticks one more, while the page with the button stands open in the new mailbox."""
    with time_machine.travel(LATER, tick=False):
        with db.transaction() as session:
            form(session)
            number = who(session)
            if to_a_reader:
                make.reader(session, NEW)
            address_change.ask(session=session, now=LATER, subscriber_id=number, email=NEW)
        button = next(mail for mail in letterbox.emptied() if mail.to == NEW).path("address")
        assert "Het gaat om dit thema: Innovatie" in words(visitor.get(button))
        ticked = {"themes": ["innovatie", "zorg"], "language": "nl", "shown_in": "nl"}
        shown = letterbox.carried(visitor, button)
        visitor.post(path(links.preferences(number)), data=ticked)
        refused = visitor.post(button, data=shown)
        assert refused.status_code == 409
        assert "Uw thema’s zijn intussen gewijzigd. Kijk nog één keer." in words(refused)
        assert "Het gaat om deze thema’s: Innovatie Zorg" in words(refused)
        assert moved() == {}
        assert "Uw adres is gewijzigd" in words(letterbox.press(visitor, button))
        assert moved() == {"innovatie": f"{consent.ADDRESS}.nl", "zorg": f"{consent.ADDRESS}.nl"}


def test_what_was_left_meanwhile_is_agreed_to_no_more(visitor: Visitor) -> None:
    with time_machine.travel(LATER, tick=False):
        with db.transaction() as session:
            preference_centre(session)
            number = who(session)
            address_change.ask(session=session, now=LATER, subscriber_id=number, email=NEW)
        button = next(mail for mail in letterbox.emptied() if mail.to == NEW).path("address")
        kept = {"themes": "innovatie", "language": "en", "shown_in": "en"}
        shown = letterbox.carried(visitor, button)
        visitor.post(path(links.preferences(number)), data=kept)
        assert visitor.post(button, data=shown).status_code == 200
        assert moved() == {"innovatie": f"{consent.ADDRESS}.en"}


def test_a_press_without_what_the_page_showed_changes_nothing(visitor: Visitor) -> None:
    """From a page of before it carried them, or with a number that is none."""
    with time_machine.travel(LATER, tick=False):
        with db.transaction() as session:
            form(session)
            address_change.ask(session=session, now=LATER, subscriber_id=who(session), email=NEW)
        button = next(mail for mail in letterbox.emptied() if mail.to == NEW).path("address")
        for shown in ([], ["x"], ["9" * 5000], ["-1"]):
            assert visitor.post(button, data={"language": "nl", "shown": shown}).status_code == 409
        assert moved() == {}
        assert letterbox.press(visitor, button).status_code == 200


def path(link: str) -> str:
    return link.removeprefix(settings.current().base_url)


def moved() -> dict[str, str]:
    """Theme → the words that were agreed to with another address."""
    with db.transaction() as session:
        query = select(themes.Theme.slug, Consent.wording).join(Consent, Consent.theme_id == themes.Theme.id)
        found = session.execute(query.where(Consent.source == address_change.SOURCE))
        return {row.slug: row.wording for row in found}


def test_what_ended_needs_no_evidence_and_words_that_are_none_show_nothing(session: Session) -> None:
    form(session)
    number = who(session)
    unsubscribe.leave_all(session=session, now=LATER, subscriber_id=number, channel=Channel.ONE_CLICK)
    session.flush()
    assert (evidence.shown(session=session).rows, evidence.missing(session=session)) == ([], [])
    assert own_data.hold(session=session, subscriber_id=number) is not None
    asked = session.scalars(select(Confirmation.id)).one()
    assert blocking.block(session=session, now=LATER, confirmation_id=asked)
    assert evidence.missing(session=session) == []


def test_the_operator_lists_them_and_hears_of_one_without(app: flask.Flask) -> None:
    with db.transaction() as session:
        form(session)
        make.reader(session, "bo@gemeente.example")
        preferences.change(
            session=session, now=LATER, subscriber_id=who(session), slugs={"innovatie", "zorg"}, language="nl"
        )
    listed = list(csv.DictReader(io.StringIO(done(app, "privacy", "consents"))))
    assert [(row["email"], row["theme"], row["event"], row["channel"]) for row in listed] == [
        (SASKIA, "innovatie", "confirmed", "mail"),
        (SASKIA, "zorg", "changed", "preferences"),
    ]
    assert listed[1]["text"] == consent.wording("preferences-1", "nl").text
    assert listed[1]["at"] == "2026-11-25T09:00:00+00:00"
    assert done(app, "privacy", "consents", "--theme", "zorg").count("\n") == 2
    assert "no theme" in refused(app, "privacy", "consents", "--theme", "nergens")
    assert done(app, "privacy", "consents", "--check") == "", "for cron: it mails nobody's address about"
    assert vinkje(app, "privacy", "consents", "--check", "--theme", "zorg").exit_code == 2, "it looks at each theme"
    with db.transaction() as session:
        session.execute(delete(Consent).where(Consent.channel == Channel.PREFERENCES))
    assert "Subscriptions without consent to show: 1" in refused(app, "privacy", "consents", "--check")
    result = vinkje(app, "privacy", "consents")
    assert (result.exit_code, result.stdout.count("\n")) == (1, 2)
    assert "Subscriptions without consent to show: 1" in result.stderr
