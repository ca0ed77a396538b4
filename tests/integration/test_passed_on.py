"""Who has a newsletter that was passed on has its links: little more than the way out (decision 0021)."""

from __future__ import annotations

from datetime import timedelta

import flask
import pytest
import time_machine
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from service import db, links, settings, themes
from service.subscribers import addresses, preferences, signup, unsubscribe
from service.subscribers.models import (
    Channel,
    Consent,
    ConsentEvent,
    Letter,
    State,
    Subscriber,
    Subscription,
    SuppressionReason,
)
from tests import fakes, make
from tests.integration import letterbox, races
from tests.integration.conftest import Visitor
from tests.integration.letterbox import words
from tests.integration.trips import Begin, address
from tests.make import NOW

SASKIA = "saskia@gemeente.example"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture
def reader(clock: object) -> int:
    with db.transaction() as session:
        for slug in ("democratie", "innovatie", "organisatie"):
            make.theme(session, slug)
        return make.reader(session, SASKIA, "innovatie", language="en").id


def path(link: str) -> str:
    return link.removeprefix(settings.current().base_url)


def reads() -> list[str]:
    with db.transaction() as session:
        query = select(themes.Theme.slug).join(Subscription).where(Subscription.state == State.ACTIVE)
        return sorted(session.scalars(query))


def choose(visitor: Visitor, link: str, *slugs: str, language: str = "en") -> str:
    answer = visitor.post(link, data={"themes": list(slugs), "language": language, "shown_in": "en"})
    assert answer.status_code in (200, 422), answer.status_code
    return words(answer)


def test_the_reader_is_told_of_a_theme_that_was_added(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    assert "Your choice has been saved" in choose(visitor, link, "innovatie", "organisatie")
    assert reads() == ["innovatie", "organisatie"]
    (told,) = letterbox.emptied()
    assert told.to == SASKIA
    assert "- Organisatie" in told.text
    assert path(links.preferences(reader)) == told.path("preferences"), "the way to put it right"


def test_and_of_another_language_in_that_language_but_not_of_leaving(
    visitor: Visitor, reader: int, clock: time_machine.Traveller
) -> None:
    link = path(links.preferences(reader))
    choose(visitor, link, "innovatie", language="nl")
    (told,) = letterbox.emptied()
    assert told.text.startswith("Vanaf nu krijgt u")
    clock.shift(timedelta(hours=1))
    choose(visitor, link, "innovatie", "organisatie", language="nl")
    assert len(letterbox.emptied()) == 1
    clock.shift(timedelta(hours=1))
    choose(visitor, link, "innovatie", language="nl")
    assert letterbox.emptied() == []


def test_what_comes_too_soon_is_told_when_its_turn_has_come(
    visitor: Visitor, reader: int, clock: time_machine.Traveller
) -> None:
    """A stranger who changes the language first doesn't use up the mail that tells of the themes."""
    link = path(links.preferences(reader))
    choose(visitor, link, "innovatie", language="nl")
    assert len(letterbox.emptied()) == 1
    clock.shift(timedelta(minutes=5))
    choose(visitor, link, "innovatie", "organisatie", language="nl")
    choose(visitor, link, "innovatie", "organisatie", "democratie", language="nl")
    assert letterbox.emptied() == []
    clock.shift(timedelta(minutes=10))
    (told,) = letterbox.emptied()
    assert told.text.index("- Democratie") < told.text.index("- Organisatie")


def test_what_waits_goes_to_no_mailbox_that_is_left_meanwhile(visitor: Visitor, reader: int) -> None:
    """Its link would be that of the new address."""
    choose(visitor, path(links.preferences(reader)), "innovatie", "organisatie")
    with db.transaction() as session:
        new = {"email": "saskia@thuis.example", "email_key": "saskia@thuis.example", "moved": 1}
        session.execute(update(Subscriber).values(**new))
    assert letterbox.emptied() == []


def test_what_still_waits_for_the_old_mailbox_keeps_nothing_from_the_new_one(visitor: Visitor, reader: int) -> None:
    choose(visitor, path(links.preferences(reader)), "innovatie", "organisatie")
    with db.transaction() as session:
        new = {"email": "saskia@thuis.example", "email_key": "saskia@thuis.example", "moved": 1}
        session.execute(update(Subscriber).values(**new))
    with time_machine.travel(NOW + timedelta(minutes=11), tick=False):
        choose(visitor, path(links.preferences(reader, 1)), "innovatie", "organisatie", "democratie")
        assert [mail.to for mail in letterbox.emptied()] == ["saskia@thuis.example"]


def test_who_reads_nothing_and_chooses_another_language_is_told_nothing(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    choose(visitor, link)
    assert "You get no newsletter" not in choose(visitor, link, language="nl")
    with db.transaction() as session:
        assert session.get_one(Subscriber, reader).language == "nl"
        assert session.scalars(select(Letter)).all() == []


def test_a_link_that_grows_old_while_it_is_used_changes_nothing(session: Session) -> None:
    reader = make.reader(session, SASKIA, "innovatie")
    make.theme(session, "democratie")
    reader.moved = 1
    answer = preferences.change(
        session=session, now=NOW, subscriber_id=reader.id, slugs=["democratie"], language="en", moved=0
    )
    assert answer is preferences.Change.OLDER
    assert session.scalars(select(Subscription.state)).all() == [State.ACTIVE]
    assert reader.language == "nl"


@pytest.mark.parametrize("door", ["back", "form"])
def test_who_leaves_everything_while_they_ask_for_themes_is_in_nobodys_way(app: flask.Flask, door: str) -> None:
    """Both hold what was ticked in order of theme, whatever the themes are called."""
    with db.transaction() as session:
        make.theme(session, "zebra")
        make.theme(session, "aap")
        reader = make.reader(session, SASKIA, "zebra", "aap", at=NOW - timedelta(days=1)).id
        session.execute(update(Subscription).values(state=State.PENDING, ended_at=NOW))

    def leave(session: Session) -> None:
        unsubscribe.leave_all(session=session, now=NOW, subscriber_id=reader, channel=Channel.PREFERENCES)

    leaver = races.Beside(app, leave)
    began: list[str] = []

    def after(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("UPDATE subscriptions") and not began:
            began.append(statement)
            leaver.start()

    event.listen(db.db.engine, "after_cursor_execute", after)
    slugs = {"zebra", "aap"}
    try:
        with db.transaction() as session:
            if door == "back":
                preferences.change(session=session, now=NOW, subscriber_id=reader, slugs=slugs, language="nl")
            else:
                signup.sign_up(
                    session=session, now=NOW, email=SASKIA, slugs=sorted(slugs), language="nl", network="192.0.2.0/24"
                )
    finally:
        event.remove(db.db.engine, "after_cursor_execute", after)
    assert began
    assert leaver.refusal() is None


def test_a_reader_is_not_told_of_each_of_many_and_a_day_has_an_end(
    visitor: Visitor, reader: int, clock: time_machine.Traveller
) -> None:
    link, told = path(links.preferences(reader)), 0
    for _ in range(10):
        choose(visitor, link, "innovatie", "organisatie")
        choose(visitor, link, "innovatie")
        told += len(letterbox.emptied())
        clock.shift(timedelta(minutes=6))
    assert told == 3
    assert "added themes many times today" in choose(visitor, link, "innovatie", "organisatie")
    assert reads() == ["innovatie"]
    clock.shift(timedelta(hours=24))
    assert len(letterbox.emptied()) == 1, "the rest in one, when its turn has come"
    assert "You get no newsletter" in choose(visitor, link), "leaving always works"
    assert reads() == []


def test_who_left_everything_comes_back_by_their_own_press_only(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    visitor.post(path(links.unsubscribe(reader, 1)), data={"scope": "all"})
    assert "we mail you a button to confirm it" in words(visitor.get(link))
    said = choose(visitor, link, "innovatie", "organisatie", language="nl")
    assert "We mailen u een knop" in said
    assert "hoogstens één keer per tien minuten, drie keer per dag en vijf keer per dertig dagen" in said
    assert reads() == []
    (button,) = letterbox.emptied()
    assert button.to == SASKIA
    assert visitor.post(button.path("confirm")).status_code == 200
    assert reads() == ["innovatie", "organisatie"]
    with db.transaction() as session:
        asked = select(Consent.channel, Consent.wording).where(Consent.event == ConsentEvent.REQUESTED)
        assert session.execute(asked).all() == [(Channel.PREFERENCES, "preferences-1.en")] * 2
        assert session.get_one(Subscriber, reader).language == "nl"


def test_nobody_fills_a_mailbox_that_way(visitor: Visitor, reader: int, clock: time_machine.Traveller) -> None:
    link = path(links.preferences(reader))
    choose(visitor, link)
    pages, mails = set(), 0
    for _ in range(40):
        pages.add(choose(visitor, link, "innovatie"))
        mails += len(letterbox.emptied())
        clock.shift(timedelta(hours=1))
    assert mails == 5, "three on the first day; the caps of a sign-up hold"
    assert len(pages) == 1, "and nobody can tell"


def test_after_a_complaint_a_press_undoes_it_and_after_never_again_nothing_does(
    visitor: Visitor, reader: int, clock: time_machine.Traveller
) -> None:
    link = path(links.preferences(reader))
    with db.transaction() as session:  # a mark beside a theme that is read: by an older import, say
        addresses.suppress(session=session, now=NOW, email_key=SASKIA, reason=SuppressionReason.COMPLAINT)
    assert "We mail you a button" in choose(visitor, link, "organisatie")
    assert reads() == [], "what was unticked stops at once"
    (button,) = letterbox.emptied()
    visitor.post(button.path("confirm"))
    assert reads() == ["organisatie"]
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=[SASKIA]) == set()
        addresses.suppress(session=session, now=NOW, email_key=SASKIA, reason=SuppressionReason.BLOCKED)
    clock.shift(timedelta(hours=1))
    assert "never to mail you again" in choose(visitor, link, "innovatie", "organisatie")
    assert letterbox.emptied() == []


@pytest.fixture
def moved(reader: int) -> int:
    with db.transaction() as session:
        new = {"email": "saskia@thuis.example", "email_key": "saskia@thuis.example", "moved": 1}
        session.execute(update(Subscriber).values(**new))
    return reader


def test_the_old_mailbox_sees_nothing_and_can_stop_everything(visitor: Visitor, moved: int) -> None:
    link = path(links.preferences(moved))
    page = words(visitor.get(link))
    assert "only opens the way out" in page
    assert "Innovatie" not in page
    assert "thuis" not in page
    for form in (
        {"themes": ["innovatie", "organisatie"], "language": "en"},
        {"letter": "data", "language": "en"},
    ):
        assert "way out" in words(visitor.post(link, data=form))
    assert (reads(), letterbox.emptied()) == (["innovatie"], [])
    with db.transaction() as session:
        assert session.get_one(Subscriber, moved).language == "en"
    assert "You get no newsletter from us any more." in words(visitor.post(link, data={"leave": "all"}))
    assert reads() == []


def test_the_button_of_an_old_newsletter_works_for_ever(visitor: Visitor, moved: int) -> None:
    with db.transaction() as session:
        theme_id = make.theme(session, "innovatie").id
        session.add(
            Subscription(
                theme_id=make.theme(session, "democratie").id,
                subscriber_id=moved,
                state=State.ACTIVE,
                requested_at=NOW,
                confirmed_at=NOW,
            )
        )
    link = path(links.unsubscribe(moved, theme_id))
    before = visitor.get(link)
    assert "Stop Innovatie" in words(before)
    assert "Stop all newsletters" in words(before)
    assert "Democratie" not in before.text
    assert "/preferences/" not in before.text
    assert visitor.post(link, data=ONE_CLICK).status_code == 200
    assert reads() == ["democratie"]
    assert "Democratie" in visitor.get(path(links.unsubscribe(moved, theme_id, 1))).text, "the newest one shows it"
    visitor.post(link, data={"scope": "all"})
    assert reads() == []


def test_a_newsletter_after_the_move_opens_everything(begin: Begin, relay: fakes.Relay, visitor: Visitor) -> None:
    trip = begin(2)
    with db.transaction() as session:
        session.execute(update(Subscriber).where(Subscriber.email == address(0)).values(moved=3))
    trip.send()
    for mail in relay.caught:
        link = mail.part("plain").partition("/preferences/")[2].split()[0]
        leave = str(mail.message["List-Unsubscribe"]).partition("/unsubscribe/")[2].rstrip(">")
        assert links.read_preferences(link)[1] == links.read_unsubscribe(leave)[2] == 3 * (mail.recipient == address(0))
        assert "Thema’s van uw nieuwsbrief" not in words(visitor.get(f"/preferences/{link}"))
        assert "Innovatie" in words(visitor.get(f"/preferences/{link}"))
