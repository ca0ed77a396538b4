"""Another address for the same reader: asked for behind the fresh link, pressed in the new mailbox."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import flask
import pytest
import time_machine
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import db, folder, links, outbox, settings, themes, throttle
from service.privacy import erasure
from service.subscribers import (
    address_change,
    addresses,
    consent,
    intake,
    letters,
    own_data,
    signup,
    unsubscribe,
)
from service.subscribers.models import (
    Consent,
    ConsentEvent,
    EndReason,
    Erasure,
    Letter,
    LetterKind,
    SignupRequest,
    State,
    Subscriber,
    Subscription,
    SuppressionReason,
)
from tests import make
from tests.integration import letterbox
from tests.integration.conftest import Visitor
from tests.integration.letterbox import Mail, press, words
from tests.integration.races import Beside
from tests.make import NOW

OLD, NEW, ELSEWHERE = "saskia@gemeente.example", "saskia@Provincie.example", "pim@elders.example"
NEW_KEY = NEW.lower()

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture
def reader(clock: object) -> int:
    with db.transaction() as session:
        return make.reader(session, OLD, "innovatie", "democratie").id


@pytest.fixture
def data(reader: int) -> str:
    """The path of the fresh link to the reader's own data."""
    with db.transaction() as session:
        own_data.ask(session=session, now=NOW, subscriber_id=reader)
    (mail,) = letterbox.emptied()
    return mail.path("data")


def ask(visitor: Visitor, data: str, email: str = NEW) -> list[Mail]:
    answer = visitor.post(f"{data}/address", data={"email": email})
    assert answer.status_code == 200
    assert f"We mailen een knop naar {email}" in words(answer)
    return letterbox.emptied()


def readers() -> dict[str, list[str]]:
    """Address → the themes it gets."""
    with db.transaction() as session:
        found: dict[str, list[str]] = {}
        for reader in session.scalars(select(Subscriber)):
            query = (
                select(themes.Theme.slug)
                .join(Subscription, Subscription.theme_id == themes.Theme.id)
                .where(Subscription.subscriber_id == reader.id, Subscription.state == State.ACTIVE)
            )
            found[reader.email] = sorted(session.scalars(query))
        return found


def evidence(subscriber_id: int) -> list[tuple[str, str, str, str]]:
    with db.transaction() as session:
        query = select(Consent).where(Consent.subscriber_id == subscriber_id).order_by(Consent.id)
        return [(str(one.event), str(one.channel), one.wording, one.source) for one in session.scalars(query)]


MOVED = (str(ConsentEvent.CHANGED), "preferences", f"{consent.ADDRESS}.nl", "address change")


def test_the_new_mailbox_decides_and_the_old_one_is_told(visitor: Visitor, reader: int, data: str) -> None:
    (mail,) = ask(visitor, data)
    assert mail.to == "saskia@provincie.example"
    assert "s•••@gemeente.example" in mail.text
    assert OLD not in mail.text
    link = mail.path("address")
    for _ in range(2):
        page = visitor.get(link)
        assert visitor.head(link).status_code == page.status_code == 200
    assert re.search(rf'<form method="post" action="{link}">.*?<button', page.text, re.DOTALL)
    assert "Democratie Innovatie" in words(page)
    assert readers() == {OLD: ["democratie", "innovatie"]}

    assert "Uw adres is gewijzigd" in words(press(visitor, link))
    assert readers() == {"saskia@provincie.example": ["democratie", "innovatie"]}
    assert evidence(reader) == [MOVED, MOVED]
    (told,) = letterbox.emptied()
    assert told.to == OLD
    assert "s•••@provincie.example" in told.text
    assert NEW_KEY not in told.text
    assert "/preferences/" not in told.text

    again = visitor.post(link)
    assert "Uw adres was al gewijzigd" in words(again)
    assert "Uw adres was al gewijzigd" in words(visitor.get(link))
    assert letterbox.emptied() == []
    assert len(evidence(reader)) == 2
    with db.transaction() as session:  # a backup of before it is brought back in line
        assert session.scalars(select(Erasure.address_hash)).all() == [links.keyed_hash("erasure", OLD)]


@pytest.mark.parametrize(
    ("new", "alike"), [("s.devries@gemeente.example", True), ("sas@gemeente.example", True), (NEW, False)]
)
def test_two_addresses_that_look_alike_are_kept_apart_in_words(
    visitor: Visitor, reader: int, data: str, new: str, alike: bool
) -> None:
    """A longer mask would tell more to whom a mail is forwarded."""
    (mail,) = ask(visitor, data, new)
    masked = f"s•••@{new.partition('@')[2].lower()}"
    page = visitor.get(mail.path("address"))
    assert f"het oude adres mailen, s•••@gemeente.example, moet naar het nieuwe: {masked}." in words(page)
    changed = press(visitor, mail.path("address"))
    assert f"We mailen u voortaan op uw nieuwe adres: {masked}." in words(changed)
    (told,) = letterbox.emptied()
    assert ("twee verschillende adressen" in words(page)) is alike
    for text in (mail.text, told.text):
        assert ("Dat is een ander adres dan dit" in " ".join(text.split())) is alike
    assert OLD not in mail.text + page.text + changed.text
    assert new not in page.text + changed.text + told.text


def test_the_old_mailbox_opens_nothing_any_more(visitor: Visitor, reader: int, data: str) -> None:
    """The link to the data is dead once it was used for a change, and so is what a sign-up brought to the old mailbox.
    The links below old newsletters open the way out: test_passed_on.py.
    """
    with db.transaction() as session:
        make.theme(session, "organisatie")
        signup.sign_up(
            session=session, now=NOW, email=OLD, slugs=["organisatie"], language="nl", network="192.0.2.0/24"
        )
    (confirm, change) = letterbox.emptied() + ask(visitor, data)
    press(visitor, change.path("address"))
    for path in (data, f"{data}/export", f"{data}/erase", f"{data}/address"):
        assert visitor.get(path).status_code == 410
    assert visitor.post(f"{data}/erase").status_code == 410
    assert visitor.post(confirm.path("confirm")).status_code == 410
    assert readers() == {NEW_KEY: ["democratie", "innovatie"]}
    letterbox.emptied()
    with time_machine.travel(NOW + timedelta(minutes=11), tick=False):
        visitor.post(links.preferences(reader, 1).removeprefix(settings.current().base_url), data={"letter": "data"})
        (mail,) = letterbox.emptied()
        assert mail.to == NEW_KEY
        assert consent.wording(consent.ADDRESS, "nl").text in words(visitor.get(mail.path("data")))


def test_the_old_mailbox_can_not_block_the_new_address(visitor: Visitor, clock: object) -> None:
    """Who presses in the mail of the first sign-up doesn't speak for the new mailbox."""
    with db.transaction() as session:
        make.theme(session, "innovatie")
        signup.sign_up(session=session, now=NOW, email=OLD, slugs=["innovatie"], language="nl", network="n")
    (mail,) = letterbox.emptied()
    visitor.post(mail.path("confirm"))
    with db.transaction() as session:
        reader = session.scalars(select(Subscriber.id)).one()
        address_change.ask(session=session, now=NOW, subscriber_id=reader, email=NEW)
    (change,) = letterbox.emptied()
    press(visitor, change.path("address"))
    for door in ("block", "confirm"):
        for answer in (visitor.get(mail.path(door)), visitor.post(mail.path(door))):
            assert answer.status_code == 410
            assert "/preferences/" not in answer.text
    assert readers() == {NEW_KEY: ["innovatie"]}
    with db.transaction() as session:
        assert not addresses.blocked(session=session, email_key=NEW_KEY)


def test_a_slip_is_said_and_changes_nothing(visitor: Visitor, data: str) -> None:
    assert visitor.get(f"{data}/address").status_code == 200
    for typed, said in (
        ("saskia@", "Dit is geen e-mailadres"),
        ("", "Vul uw e-mailadres in"),
        (OLD, "dat we al hebben"),
    ):
        answer = visitor.post(f"{data}/address", data={"email": typed})
        assert answer.status_code == 422
        assert "<title>Fout: " in answer.text
        assert said in words(answer)
        assert f'value="{typed}"' in answer.text
    assert letterbox.emptied() == []


def test_only_the_newest_request_counts(visitor: Visitor, data: str) -> None:
    """An address typed wrong is somebody's: who has it must not get this reader's newsletter."""
    (wrong,), (right,) = ask(visitor, data, ELSEWHERE), ask(visitor, data, NEW)
    assert visitor.get(wrong.path("address")).status_code == 410
    assert visitor.post(wrong.path("address")).status_code == 410
    assert press(visitor, right.path("address")).status_code == 200
    assert list(readers()) == [NEW_KEY]


def test_nobody_learns_who_reads_and_no_mailbox_is_filled(
    visitor: Visitor, data: str, clock: time_machine.Traveller
) -> None:
    """requirements 4.4, 4.6: the same page for whatever address"""
    with db.transaction() as session:
        make.reader(session, ELSEWHERE, "innovatie")
        addresses.suppress(session=session, now=NOW, email_key="kees@elders.example", reason=SuppressionReason.BLOCKED)
    pages = set()
    for email in (NEW, ELSEWHERE, "kees@elders.example", NEW):  # nobody's, a reader's, blocked, over its cap
        pages.add(visitor.post(f"{data}/address", data={"email": email}).text.replace(email, "…"))
    assert len(pages) == 1
    assert letterbox.emptied() == []  # only the newest request counts, and that one was too soon
    clock.shift(timedelta(minutes=11))
    assert [mail.to for mail in ask(visitor, data, NEW)] == [NEW_KEY]
    clock.shift(timedelta(minutes=11))
    assert ask(visitor, data, "zesde@elders.example") == []  # strangers are spared one reader's sixth


def test_what_a_reader_is_shown_of_the_letter_tells_nothing_either(visitor: Visitor, reader: int, data: str) -> None:
    """requirements 4.6: whether a mail went out tells who is blocked, or signed up a moment ago"""
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key="kees@elders.example", reason=SuppressionReason.BLOCKED)
        throttle.note(session=session, kind=signup.MAILED, who=ELSEWHERE, now=NOW - timedelta(minutes=1))
    shown, mails = set(), []
    for email in (NEW_KEY, "kees@elders.example", ELSEWHERE):  # nobody's, blocked, over its cap
        visitor.post(f"{data}/address", data={"email": email})
        for settle in (False, True):
            mails += _settled(email) if settle else []
            (told,) = (
                row for row in json.loads(visitor.get(f"{data}/export").text)["letters"] if row["kind"] == "address_new"
            )
            page = re.sub(
                r"\d+ kenmerk(en)?", "…", words(visitor.get(data))
            )  # how often one asked, for whatever address
            assert email in page
            shown.add((page.replace(email, "…"), str(told).replace(email, "…")))
    assert mails == [NEW_KEY]
    assert len(shown) == 1


def _settled(email: str) -> list[str]:
    """To whom a worker mails the letter; then its row says what became of it, as after a real line."""
    with db.transaction() as session:
        query = select(Letter.id).where(Letter.kind == LetterKind.ADDRESS_NEW, Letter.email == email)
        letter_id = session.scalars(query).one()
        made = [letters.compose_letter(session=session, now=NOW, letter_id=letter_id) for _ in range(2)]  # a second try
        settle = outbox.sent if made[1] else outbox.refused
        settle(session=session, model=Letter, row_id=letter_id, now=NOW)
    assert bool(made[0]) == bool(made[1])
    return [made[1].recipient] if made[1] else []


def test_the_link_ends_after_three_days(visitor: Visitor, data: str, clock: time_machine.Traveller) -> None:
    (mail,) = ask(visitor, data)
    clock.shift(address_change.LIFE + timedelta(minutes=1))
    for answer in (visitor.get(mail.path("address")), visitor.post(mail.path("address"))):
        assert answer.status_code == 410
        assert "Er is niets veranderd" in words(answer)
    assert list(readers()) == [OLD]


def test_two_mailboxes_of_one_person_become_one_reader(visitor: Visitor, reader: int, data: str) -> None:
    with db.transaction() as session:
        heir = make.reader(session, NEW_KEY, "innovatie", "organisatie", language="en").id
    (mail,) = ask(visitor, data)
    answer = press(visitor, mail.path("address"))
    assert "Uw adres is gewijzigd" in words(answer)
    assert links.preferences(heir) in answer.text
    assert readers() == {NEW_KEY: ["democratie", "innovatie", "organisatie"]}
    assert evidence(heir) == [MOVED]  # of the theme that is new to that address
    (told,) = letterbox.emptied()
    assert (told.to, NEW_KEY in told.text) == (OLD, False)
    assert "al gewijzigd" in words(visitor.post(mail.path("address")))
    assert visitor.get(data).status_code == 410
    with db.transaction() as session:
        assert session.get(Subscriber, reader) is None
        assert session.get_one(Subscriber, heir).language == "en"


def test_a_press_is_a_fresh_opt_in_after_a_bounce_and_no_way_round_a_block(visitor: Visitor, data: str) -> None:
    """requirements 4.14"""
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=NEW_KEY, reason=SuppressionReason.COMPLAINT)
    (mail,) = ask(visitor, data)
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=NEW_KEY, reason=SuppressionReason.BLOCKED)
    assert visitor.post(mail.path("address")).status_code == 410
    with db.transaction() as session:
        assert addresses.unblock(session=session, email_key=NEW_KEY)
        addresses.suppress(session=session, now=NOW, email_key=NEW_KEY, reason=SuppressionReason.HARD_BOUNCE)
    assert press(visitor, mail.path("address")).status_code == 200
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=[NEW_KEY]) == set()
    assert list(readers()) == [NEW_KEY]


@pytest.mark.parametrize("new", ["Saskia@gemeente.example", NEW])
def test_a_press_that_agrees_to_no_theme_lifts_nothing(visitor: Visitor, reader: int, data: str, new: str) -> None:
    """requirements 4.14: who reads nothing read no words, and an old list must not bring them back"""
    key = addresses.key(new)
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=key, reason=SuppressionReason.COMPLAINT)
        unsubscribe.end_all(session=session, now=NOW, subscriber_id=reader, reason=EndReason.COMPLAINT)
    (mail,) = ask(visitor, data, new)
    assert consent.wording(consent.ADDRESS, "nl").text not in words(visitor.get(mail.path("address")))
    assert "Uw adres is gewijzigd" in words(press(visitor, mail.path("address")))
    assert list(readers()) == [new.partition("@")[0] + "@" + new.partition("@")[2].lower()]
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=[key]) == {key}


def test_links_of_two_changes_open_one_each(visitor: Visitor, reader: int, data: str) -> None:
    with db.transaction() as session:
        other = make.reader(session, ELSEWHERE, "innovatie").id
        address_change.ask(session=session, now=NOW, subscriber_id=other, email="pim@thuis.example")
    (his,), (hers,) = letterbox.emptied(), ask(visitor, data)
    a, b = (mail.path("address").rpartition("/")[2] for mail in (his, hers))
    for token in (a.partition(".")[0] + "." + b.partition(".")[2], data.rpartition("/")[2]):
        assert visitor.get(f"/address/{token}").status_code == visitor.post(f"/address/{token}").status_code == 404
    for door in ("data", "block", "confirm", "preferences"):
        assert visitor.get(f"/{door}/{a}").status_code == 404
    press(visitor, his.path("address"))
    assert sorted(readers()) == ["pim@thuis.example", OLD]


def test_a_capital_in_the_same_address_is_a_change_too(visitor: Visitor, reader: int, data: str) -> None:
    (mail,) = ask(visitor, data, "Saskia@gemeente.example")
    press(visitor, mail.path("address"))
    assert list(readers()) == ["Saskia@gemeente.example"]
    with db.transaction() as session:
        assert session.scalars(select(Erasure)).all() == []


def test_who_is_erased_meanwhile_gets_nothing(visitor: Visitor, reader: int, data: str) -> None:
    (mail,) = ask(visitor, data)
    with db.transaction() as session:
        erasure.erase(session=session, now=NOW, subscriber_id=reader)
    assert visitor.get(mail.path("address")).status_code == visitor.post(mail.path("address")).status_code == 410
    assert readers() == {}
    assert letterbox.emptied() == []


def test_two_presses_at_once_change_it_once(app: flask.Flask, reader: int, data: str) -> None:
    with db.transaction() as session:
        address_change.ask(session=session, now=NOW, subscriber_id=reader, email=NEW)
        letter_id = session.scalars(select(Letter.id).where(Letter.kind == LetterKind.ADDRESS_NEW)).one()

    answers: list[address_change.Answer] = []

    def deed(session: Session) -> None:
        answers.append(make.pressed(session, letter_id).answer)

    beside = Beside(app, deed)
    with db.transaction() as session:
        deed(session)
        beside.start()
    assert beside.refusal() is None
    assert answers == [address_change.Answer.CHANGED, address_change.Answer.ALREADY]


def test_a_sign_up_of_a_moment_earlier_is_joined(app: flask.Flask, reader: int, data: str) -> None:
    """Two who make a row for one address at once: the later one finds the other's."""
    with db.transaction() as session:
        address_change.ask(session=session, now=NOW, subscriber_id=reader, email=NEW)
        letter_id = session.scalars(select(Letter.id).where(Letter.kind == LetterKind.ADDRESS_NEW)).one()

    beside = Beside(app, lambda session: make.pressed(session, letter_id))
    with db.transaction() as session:
        session.add(Subscriber(email=NEW_KEY, email_key=NEW_KEY, language="nl", created_at=NOW))
        session.flush()
        beside.start()
    assert beside.refusal() is None
    assert readers()[NEW_KEY] == ["democratie", "innovatie"]


def test_a_sign_up_from_the_old_address_waits_for_no_change(app: flask.Flask, reader: int) -> None:
    """A worker that takes a form holds it and asks for the reader's row, which two that become one hold to the end."""
    with db.transaction() as session:
        make.reader(session, NEW_KEY, "innovatie")
        address_change.ask(session=session, now=NOW, subscriber_id=reader, email=NEW)
        letter_id = session.scalars(select(Letter.id)).one()
        intake.ask(session=session, now=NOW, email=OLD, slugs=["innovatie"], language="nl", network="n")
        session.flush()
        request_id = session.scalars(select(SignupRequest.id)).one()
    beside = Beside(app, lambda session: intake.take(session=session, now=NOW, request_id=request_id))
    with db.transaction() as session:
        pressed = make.pressed(session, letter_id)
        beside.start()
        assert pressed.left_over is not None
        erasure.erase_held(session=session, now=NOW, subscriber_id=pressed.left_over)
    assert beside.refusal() is None
    assert readers() == {NEW_KEY: ["democratie", "innovatie"]}


def test_two_readers_who_swap_addresses_do_not_wait_for_each_other(app: flask.Flask, reader: int) -> None:
    with db.transaction() as session:
        other = make.reader(session, NEW_KEY, "innovatie").id
        asked = ((reader, NEW), (other, OLD))
        for subscriber_id, email in asked:
            address_change.ask(session=session, now=NOW, subscriber_id=subscriber_id, email=email)
        mine, theirs = session.scalars(select(Letter.id).order_by(Letter.id))

    def deed(session: Session, letter_id: int) -> None:
        """Of who was shown both themes: what the one press brings the other reader is no surprise."""
        shown = session.scalars(select(themes.Theme.id)).all()
        address_change.change(session=session, now=NOW, letter_id=letter_id, shown_in="nl", shown=shown)

    beside = Beside(app, lambda session: deed(session, theirs))
    with db.transaction() as session:
        own_data.hold(session=session, subscriber_id=reader)  # so far the first press came
        beside.start()
        deed(session, mine)
    assert beside.refusal() is None
    assert sorted(readers().values()) == [[], ["democratie", "innovatie"]]


def test_a_caught_mail_to_the_old_address_can_be_read(visitor: Visitor, reader: int, data: str) -> None:
    """Where mails are caught, the tick throws away those to who was erased: the old address was told, not erased."""
    (mail,) = ask(visitor, data)
    press(visitor, mail.path("address"))
    box = settings.current().data_dir / folder.MAILBOX
    box.mkdir(exist_ok=True)
    told = box / f"{int(NOW.timestamp() * 1e9) + 1:020d}.eml"
    told.write_text(f"To: {OLD}\n\nUw nieuwsbrief gaat naar een ander adres\n")
    with db.transaction() as session:
        erasure.follow_up(session=session, now=NOW)
    assert told.exists()
    with db.transaction() as session:
        session.execute(delete(Letter))  # a week later
    with db.transaction() as session:
        erasure.follow_up(session=session, now=NOW)
    assert not told.exists()
