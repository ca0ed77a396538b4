"""A reader goes: what is left says nothing about who they were."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import flask
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import db, settings
from service.delivery.models import Delivery
from service.privacy import erasure
from service.subscribers import addresses, confirmation, erasures, importing, intake, own_data, signup, unsubscribe
from service.subscribers.csv_rows import Row
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    ConsentCount,
    ConsentEvent,
    Letter,
    LetterKind,
    SignupRequest,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)
from tests import fakes, make, processes
from tests.integration import trips
from tests.integration.races import Beside
from tests.make import NOW

SASKIA = "Saskia.de.Vries@gemeente.example"
KEY = SASKIA.lower()
ROWS = (Subscriber, Subscription, Consent, Confirmation, Letter, SignupRequest)

pytestmark = pytest.mark.usefixtures("doorbells")


def fill_in(session: Session, *slugs: str, email: str = SASKIA) -> int:
    """A form that no worker took yet."""
    for slug in slugs:
        make.theme(session, slug)
    intake.ask(session=session, now=NOW, email=email, slugs=slugs, language="nl", network="198.51.100.0/24")
    return session.scalars(select(func.max(SignupRequest.id))).one()


def confirmed(session: Session, *slugs: str, email: str = SASKIA) -> int:
    """Somebody who came by the form and the button; gives their number."""
    fill_in(session, *slugs, email=email)
    make.taken(session)
    asked = session.scalars(select(Confirmation).order_by(Confirmation.id.desc())).first()
    assert asked is not None
    confirmation.confirm(session=session, now=NOW, confirmation_id=asked.id)
    session.flush()
    return asked.subscriber_id


def left(session: Session) -> dict[str, int]:
    counted = {model.__name__: session.scalar(select(func.count()).select_from(model)) or 0 for model in ROWS}
    return {name: count for name, count in counted.items() if count}


def erase(session: Session, number: int) -> None:
    erasure.erase(session=session, now=NOW + timedelta(hours=1), subscriber_id=number)


def test_nothing_is_left_but_marks_and_counts(session: Session) -> None:
    number = confirmed(session, "innovatie", "zorg")
    fill_in(session, "innovatie", email=SASKIA.upper())
    session.add(Letter(subscriber_id=number, kind=LetterKind.DATA, language="nl", email=SASKIA, asked_at=NOW))
    addresses.suppress(session=session, now=NOW, email_key=KEY, reason=SuppressionReason.COMPLAINT)
    other = confirmed(session, "innovatie", email="bo@gemeente.example")

    erase(session, number)

    assert left(session) == {"Subscriber": 1, "Subscription": 1, "Consent": 2, "Confirmation": 1}
    assert session.get(Subscriber, other) is not None
    assert addresses.suppressed(session=session, email_keys=[KEY]) == {KEY}
    assert erasures.known(session=session, email_keys=[KEY]) == {KEY: NOW + timedelta(hours=1)}
    query = select(ConsentCount.week, ConsentCount.event, func.sum(ConsentCount.count))
    rows = session.execute(query.group_by(ConsentCount.week, ConsentCount.event).order_by(ConsentCount.event))
    assert [tuple(row) for row in rows] == [
        ("2026-W48", ConsentEvent.CONFIRMED, 2),
        ("2026-W48", ConsentEvent.REQUESTED, 2),
    ]


def test_a_second_erasure_adds_to_the_same_counts_and_an_empty_one_does_nothing(session: Session) -> None:
    for email in (SASKIA, "bo@gemeente.example"):
        erase(session, confirmed(session, "innovatie", email=email))
    erase(session, 4711)
    assert set(session.scalars(select(ConsentCount.count))) == {2}
    assert left(session) == {}


def test_tries_stay_so_that_going_and_coming_gives_no_more_mails(session: Session) -> None:
    number = confirmed(session, "innovatie")
    erase(session, number)
    fill_in(session, "innovatie")
    make.taken(session)
    assert left(session) == {}  # one mail in ten minutes, as for anybody


def test_who_signs_up_anew_is_a_new_reader(session: Session) -> None:
    number = confirmed(session, "innovatie")
    erase(session, number)
    signup.sign_up(
        session=session, now=NOW + timedelta(hours=2), email=SASKIA, slugs=["innovatie"], language="nl", network="x"
    )
    new = session.scalars(select(Subscriber)).one()
    assert (new.email, new.id > number) == (SASKIA, True)


def test_an_old_file_brings_nobody_back_and_new_consent_does(session: Session) -> None:
    number = confirmed(session, "innovatie")
    erase(session, number)
    address = addresses.parse(SASKIA)
    before, after = (
        Row(2, address, ("innovatie",), "nl", NOW + timedelta(hours=hours), "beurs Gent") for hours in (0, 2)
    )
    taken = importing.take(session=session, now=NOW + timedelta(hours=3), lines=[before])
    assert [refusal.reason for refusal in taken.refusals] == [importing.ERASED]
    assert importing.take(session=session, now=NOW + timedelta(hours=3), lines=[after]).added == 1


def test_an_address_without_reader_is_erased_too(session: Session) -> None:
    fill_in(session, "innovatie")
    erasure.erase_address(session=session, now=NOW, address=addresses.parse(SASKIA))
    assert left(session) == {}
    assert KEY in erasures.known(session=session, email_keys=[KEY])


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("kind", [LetterKind.ADDRESS_NEW, LetterKind.ADDRESS_TOLD])
def test_a_letter_to_them_about_another_reader_goes_too(session: Session, kind: LetterKind, reads: bool) -> None:
    """Somebody typed their address as a new one, or took over from it: afterwards nobody mails them."""
    other = make.reader(session, "bo@gemeente.example", "innovatie")
    for email in (SASKIA, "x" + SASKIA):
        own_data.post(session=session, now=NOW, reader=other, kind=kind, email=email)
    if reads:
        erase(session, make.reader(session, KEY, "innovatie").id)
    else:
        erasure.erase_address(session=session, now=NOW, address=addresses.parse(KEY.upper()))
    assert session.scalars(select(Letter.email)).all() == ["x" + SASKIA]


def test_it_is_known_again_under_a_new_key(session: Session) -> None:
    erase(session, confirmed(session, "innovatie"))
    chosen = settings.current()
    keys = {"secret_key": "another " * 8, "secret_keys_previous": (chosen.secret_key,)}
    settings.use(chosen.model_copy(update=keys))
    assert KEY in erasures.known(session=session, email_keys=[KEY])
    erasures.note(session=session, now=NOW + timedelta(days=1), email_key=KEY)
    assert erasures.known(session=session, email_keys=[KEY]) == {KEY: NOW + timedelta(days=1)}


@pytest.fixture
def mailbox(app: flask.Flask, tmp_path: Path) -> Path:
    settings.use(settings.current().model_copy(update={"data_dir": tmp_path}))
    folder = tmp_path / "mailbox"
    folder.mkdir()
    return folder


def put(mailbox: Path, to: str, text: str = "", later: timedelta = timedelta(0)) -> Path:
    nanoseconds = int((NOW + later).timestamp() * 1e9) + len(list(mailbox.iterdir()))
    path = mailbox / f"{nanoseconds:020d}.eml"
    path.write_bytes(f"From: nieuws@vinkje.example\r\nTo: {to}\r\nSubject: Hallo\r\n\r\n{text}\r\n".encode())
    return path


def test_caught_mails_to_and_about_a_reader_go(mailbox: Path, session: Session) -> None:
    number = confirmed(session, "innovatie")
    confirmed(session, "innovatie", email="bo@gemeente.example")
    for email, kind in (("old@gemeente.example", LetterKind.ADDRESS_TOLD), ("bo@gemeente.example", LetterKind.DATA)):
        session.add(Letter(subscriber_id=number, kind=kind, language="nl", email=email, asked_at=NOW))
    session.flush()
    gone = [put(mailbox, SASKIA.upper()), put(mailbox, "chief@vinkje.example", f"Over {SASKIA[:9]}=\r\n{SASKIA[9:]}.")]
    gone.append(put(mailbox, "old@gemeente.example"))
    gone.append(put(mailbox, SASKIA).rename(mailbox / f"{1:020d}.half"))  # what a kill left
    stays = [put(mailbox, "bo@gemeente.example", "Beste Bo"), put(mailbox, "x" + SASKIA)]
    erase(session, number)
    assert [path.exists() for path in gone] == [False, False, False, False]
    assert [path.exists() for path in stays] == [True, True]


def test_a_mail_that_was_on_its_way_goes_at_the_next_tick(mailbox: Path, session: Session) -> None:
    number = confirmed(session, "innovatie")
    old = put(mailbox, SASKIA, later=timedelta(days=-1))
    erase(session, number)
    assert not old.exists()
    late, others = (put(mailbox, email, later=timedelta(minutes=61)) for email in (SASKIA, "bo@gemeente.example"))
    erasure.follow_up(session=session, now=NOW + timedelta(minutes=62))
    assert (late.exists(), others.exists()) == (False, True)
    confirmed_again = put(mailbox, SASKIA, later=timedelta(minutes=63))
    make.reader(session, SASKIA)
    erasure.follow_up(session=session, now=NOW + timedelta(minutes=64))
    assert confirmed_again.exists()


def test_a_rollback_erases_nothing(app: flask.Flask) -> None:
    def fails(number: int) -> None:
        with db.transaction() as session:
            erase(session, number)
            raise RuntimeError

    with db.transaction() as session:
        number = confirmed(session, "innovatie")
    with pytest.raises(RuntimeError):
        fails(number)
    with db.transaction() as session:
        assert session.get(Subscriber, number) is not None
        assert erasures.known(session=session, email_keys=[KEY]) == {}


def numbers(count: int) -> list[int]:
    with db.transaction() as session:
        return list(session.scalars(select(Subscriber.id).order_by(Subscriber.id)))[:count]


def erase_beside(app: flask.Flask, number: int) -> None:
    """As another process does, in the middle of a round."""

    def run() -> None:
        with app.app_context(), db.transaction() as session:
            erasure.erase(session=session, now=NOW, subscriber_id=number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_the_books_balance_when_readers_go_during_a_round(
    app: flask.Flask, begin: trips.Begin, relay: fakes.Relay
) -> None:
    """One whose mail went out, one who stands in the batch that goes out, one whose batch comes later."""
    round_ = begin(6, size=3)
    erased = numbers(6)

    def answer(address: str) -> None:
        if address == trips.address(1) and erased:
            for number in (erased[0], erased[2], erased[4]):
                erase_beside(app, number)
            erased.clear()

    relay.answer_data = answer
    found = round_.send()
    assert found.audience == 6
    assert (found.accepted + found.left, found.waiting) == (6, 0)
    assert found.left >= 1  # nobody mailed the one whose batch came later
    assert trips.address(4) not in trips.got(relay)
    assert round_.issue().state == "sent"


def test_a_deferred_reader_who_goes_counts_as_left(app: flask.Flask, begin: trips.Begin, relay: fakes.Relay) -> None:
    round_ = begin(3)
    relay.answer_rcpt = lambda to: trips.BUSY if to == trips.address(1) else None
    assert round_.send().deferred == 1
    erase_beside(app, numbers(3)[1])
    assert round_.books().deferred == 1  # until its turn comes
    found = round_.send(timedelta(hours=1))
    assert (found.accepted, found.deferred, found.left) == (2, 0, 1)


def test_who_bounces_just_after_going_is_still_not_mailed_again(
    app: flask.Flask, begin: trips.Begin, relay: fakes.Relay
) -> None:
    round_ = begin(2, names=lambda number: f"x{number}@gemeente.example")
    gone = numbers(1)

    def answer(address: str) -> str | None:
        if address.startswith("x0"):
            erase_beside(app, gone[0])
            return trips.DEAD
        return None

    relay.answer_rcpt = answer
    assert (round_.send().rejected, round_.books().accepted) == (1, 1)
    with db.transaction() as session:
        assert session.scalars(select(Suppression.reason)).all() == [SuppressionReason.HARD_BOUNCE]
        assert session.scalar(select(func.count()).select_from(Delivery)) == 2
        assert session.scalar(select(func.count()).select_from(Subscriber)) == 1


Deed = Callable[[Session, int], object]


def leaves(session: Session, number: int) -> None:
    unsubscribe.leave_all(session=session, now=NOW, subscriber_id=number, channel=Channel.ONE_CLICK)


def presses(session: Session, number: int) -> None:
    asked = session.scalars(select(Confirmation.id).where(Confirmation.subscriber_id == number)).all()
    for confirmation_id in asked:
        confirmation.confirm(session=session, now=NOW, confirmation_id=confirmation_id)


def asks_again(session: Session, number: int) -> None:
    signup.sign_up(
        session=session, now=NOW + timedelta(days=1), email=SASKIA, slugs=["zorg"], language="en", network="x"
    )


def expires(session: Session, number: int) -> None:
    confirmation.expire(session=session, now=NOW + timedelta(days=9))


@pytest.mark.parametrize("deed", [leaves, presses, asks_again, expires, erase])
@pytest.mark.parametrize("known", [True, False], ids=["confirmed", "pending"])
def test_two_who_act_at_once_wait_for_each_other_and_never_both(app: flask.Flask, deed: Deed, known: bool) -> None:
    with db.transaction() as session:
        fill_in(session, "innovatie", "zorg")
        make.taken(session)
        asked = session.scalars(select(Confirmation)).one()
        number = asked.subscriber_id
        if known:
            confirmation.confirm(session=session, now=NOW, confirmation_id=asked.id)
    beside = Beside(app, lambda work: erase(work, number))
    with db.transaction() as session:
        # What a deed holds first is held before the erasure begins, and all the rest is asked for after that.
        held = select(Subscription).where(Subscription.subscriber_id == number).order_by(Subscription.theme_id)
        if deed is leaves:
            session.execute(held.with_for_update())
        else:
            deed(session, number)
        session.flush()
        beside.start()
        deed(session, number)
    assert beside.refusal() is None
    with db.transaction() as session:
        assert session.get(Subscriber, number) is None
        assert session.scalar(select(func.count()).select_from(Consent)) == 0


@pytest.mark.parametrize("deed", [leaves, presses, asks_again, expires])
def test_who_comes_second_finds_nobody(app: flask.Flask, deed: Deed) -> None:
    with db.transaction() as session:
        number = confirmed(session, "innovatie", "zorg")
    beside = Beside(app, lambda work: deed(work, number))
    with db.transaction() as session:
        erase(session, number)
        session.flush()
        beside.start()
    assert beside.refusal() is None
    with db.transaction() as session:
        assert session.get(Subscriber, number) is None
        assert (session.scalar(select(func.count()).select_from(Subscriber)) or 0) == (1 if deed is asks_again else 0)


def test_a_form_that_is_being_taken_goes_with_its_reader(app: flask.Flask) -> None:
    with db.transaction() as session:
        number = confirmed(session, "innovatie")
        request_id = fill_in(session, "zorg")
    beside = Beside(app, lambda work: erase(work, number))
    with db.transaction() as session:
        query = select(SignupRequest.id).where(SignupRequest.id == request_id)
        session.execute(query.with_for_update())
        beside.start()
        intake.take(session=session, now=NOW, request_id=request_id)
    assert beside.refusal() is None
    with db.transaction() as session:
        assert left(session) == {}


def test_the_bytes_of_those_who_went_are_overwritten(app: flask.Flask) -> None:
    """SQLite leaves deleted rows in its file, and in its log; on PostgreSQL they are vacuum's."""
    if db.db.engine.dialect.name != "sqlite":
        return
    with db.transaction() as session:
        for number in range(300):
            make.reader(session, f"lezer-{number}@bytes.example", "innovatie")
    everybody = numbers(300)
    for number in everybody[::30]:
        with db.transaction() as session:
            erasure.erase(session=session, now=NOW, subscriber_id=number)
    files = sorted(settings.current().data_dir.glob("vinkje.db*"))
    kept = b"".join(processes.bytes_of(path) for path in files)
    assert len(files) == 3
    there = [number for number in range(300) if re.search(rb"lezer-%d@bytes" % number, kept)]
    assert there == [number for number in range(300) if number % 30]
