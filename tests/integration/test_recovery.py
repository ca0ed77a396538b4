"""A worker dies in the middle of a batch. Who takes over asks its journal: nobody twice, nobody missed (design: the
round, step 8)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import select

from service import db, errors, jobs, settings
from service.delivery import batches, nudges, outcomes, recording, rounds
from service.delivery.batches import Claimed
from service.delivery.models import Batch, BatchState, Delivery, Doubt, Outcome
from service.issues import editions
from service.issues.models import IssueState
from service.subscribers import unsubscribe
from service.subscribers.models import EndReason, Subscriber
from tests import fakes
from tests.integration.trips import BUSY, Begin, Round, address, everybody, got
from worker import sender
from worker.file_journal import FileJournal
from worker.journal import MARK, Journal, Sign
from worker.redis_journal import RedisJournal

Doorbells = list[tuple[str, tuple[int, ...]]]
LEASE = timedelta(seconds=60)
DAY = timedelta(days=1)


@pytest.fixture
def kept(tmp_path: Path) -> FileJournal:
    return FileJournal(tmp_path)


def going(*numbers: int) -> bytes:
    return b"".join(MARK.pack(number, Sign.GOING) for number in numbers)


def taken(*numbers: int) -> bytes:
    return b"".join(MARK.pack(number, Sign.GOING) + MARK.pack(number, Sign.ACCEPTED) for number in numbers)


def refused(*numbers: int) -> bytes:
    return b"".join(MARK.pack(number, Sign.GOING) + MARK.pack(number, Sign.NOT_TAKEN) for number in numbers)


def dies(trip: Round, kept: Journal, marks: bytes = b"", *, batch: int = 0) -> Claimed:
    """A worker claims the batch, writes these marks, of readers counted from its first, and is killed."""
    with db.transaction() as session:
        batch_id = session.scalars(select(Batch.id).order_by(Batch.id)).all()[batch]
        claimed = batches.claim(session=session, now=trip.clock(), batch_id=batch_id, lease=LEASE)
    assert claimed is not None
    kept.begin(claimed.batch_id, claimed.fence)
    assert not marks or kept.note(marks)
    return claimed


def taking_over(begin: Begin, relay: fakes.Relay, kept: Journal, readers: int = 6, **more: int) -> Round:
    """A round whose next worker reads the same journal."""
    trip = begin(readers, **more)
    trip.connect(relay.url, kept)
    return trip


def delivery(trip: Round, number: int) -> Delivery:
    with db.transaction() as session:
        query = select(Delivery).join(Subscriber, Subscriber.id == Delivery.subscriber_id)
        found = session.scalars(query.where(Subscriber.email == address(number))).one()
        session.expunge(found)
    return found


def batch(trip: Round) -> Batch:
    with db.transaction() as session:
        found = session.scalars(select(Batch)).one()
        session.expunge(found)
    return found


def choose(policy: str) -> None:
    settings.use(settings.current().model_copy(update={"uncertain": policy}))


# --- One worker dies


def test_who_takes_over_knows_who_had_the_mail_and_who_may_have(
    begin: Begin, relay: fakes.Relay, kept: FileJournal
) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, taken(0, 1) + refused(2) + going(3))
    found = trip.send(later=LEASE)

    assert (found.accepted, found.uncertain, found.waiting) == (5, 1, 0)
    assert got(relay) == [address(2), address(4), address(5)]
    doubtful = delivery(trip, 3)
    assert (doubtful.outcome, doubtful.status) == (Outcome.UNCERTAIN, Doubt.WORKER_LOST)
    assert doubtful.uncertain_at is not None
    assert [delivery(trip, number).status for number in (0, 1)] == ["250", "250"]
    assert trip.issue().state is IssueState.SENT


def test_a_mail_in_doubt_is_never_sent_again_unasked(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, going(0, 1, 2))
    trip.send(later=LEASE)
    found = trip.send(later=3 * DAY)
    assert (found.accepted, found.uncertain) == (3, 3)
    assert got(relay) == everybody(6)[3:]


def test_nobody_takes_over_while_the_lease_lasts(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, taken(0))
    assert trip.send(later=LEASE - timedelta(seconds=1)).waiting == 6
    assert relay.caught == []
    assert trip.send(later=timedelta(seconds=1)).accepted == 6


def test_a_mark_that_was_cut_off_was_followed_by_no_mail(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, (taken(0) + going(1))[:-1])
    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain) == (6, 0)
    assert got(relay) == everybody(6)[1:]


def test_one_that_died_before_it_sent_anything_leaves_all_to_the_next(
    begin: Begin, relay: fakes.Relay, kept: FileJournal
) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept)
    assert trip.send(later=LEASE).accepted == 6
    assert got(relay) == everybody(6)


def test_what_the_dead_one_had_recorded_stays(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    claimed = dies(trip, kept, taken(0) + refused(1, 2) + going(3) + taken(4))
    with db.transaction() as session:
        readers = batches.read(session=session, now=trip.now, claimed=claimed)
        results = [
            outcomes.Result(readers[0], Outcome.ACCEPTED, trip.now, "250 2.6.0"),
            outcomes.Result(readers[1], Outcome.REJECTED, trip.now, "552 5.2.2"),
            outcomes.result(reader=readers[2], verdict=outcomes.Verdict.LATER, status="450 4.2.1", now=trip.now),
            outcomes.doubtful(reader=readers[3], doubt=Doubt.LINE_LOST, now=trip.now, resend=False),
        ]
        recording.record(session=session, now=trip.now, claimed=claimed, results=results, lease=LEASE)
    died_at = trip.now
    found = trip.send(later=LEASE)

    assert (found.accepted, found.rejected, found.deferred, found.uncertain) == (3, 1, 1, 1)
    assert got(relay) == [address(5)]
    statuses = [delivery(trip, number).status for number in range(5)]
    assert statuses == ["250 2.6.0", "552 5.2.2", "450 4.2.1", Doubt.LINE_LOST, "250"]
    assert delivery(trip, 0).at == died_at
    assert trip.send(later=timedelta(minutes=5)).accepted == 4
    assert got(relay) == [address(2), address(5)]


def test_one_that_died_over_a_second_try_is_believed_about_that_try(
    begin: Begin, relay: fakes.Relay, kept: FileJournal
) -> None:
    trip = taking_over(begin, relay, kept, readers=4)
    relay.answer_rcpt = lambda to: BUSY if to in everybody(3) else None
    assert trip.send().deferred == 3
    relay.answer_rcpt = lambda to: None
    trip.now += timedelta(minutes=6)
    dies(trip, kept, taken(0) + going(1))

    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain, found.deferred) == (3, 1, 0)
    assert got(relay) == [address(2), address(3)]


def test_only_the_batch_that_it_held_is_taken_over(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept, size=2)
    dies(trip, kept, taken(0) + going(1), batch=1)
    assert trip.send().accepted == 4
    assert got(relay) == [address(0), address(1), address(4), address(5)]

    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain) == (5, 1)
    assert delivery(trip, 3).status == Doubt.WORKER_LOST
    assert len(relay.caught) == 4


def test_a_reader_who_left_meanwhile_is_in_the_books_as_they_had_it(
    begin: Begin, relay: fakes.Relay, kept: FileJournal
) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, taken(0) + going(1))
    with db.transaction() as session:
        for number in (0, 1, 2):
            who = session.scalars(select(Subscriber.id).where(Subscriber.email == address(number))).one()
            unsubscribe.end_all(session=session, now=trip.now, subscriber_id=who, reason=EndReason.UNSUBSCRIBED)
    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain, found.left) == (4, 1, 1)
    assert got(relay) == everybody(6)[3:]


def test_the_same_with_redis(begin: Begin, relay: fakes.Relay, valkey: str) -> None:
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    trip = taking_over(begin, relay, RedisJournal(valkey))
    dies(trip, RedisJournal(valkey), taken(0, 1) + going(2))
    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain) == (5, 1)
    assert got(relay) == everybody(6)[3:]


def test_when_the_journal_was_emptied_too_nobody_is_missed(begin: Begin, relay: fakes.Relay, valkey: str) -> None:
    trip = taking_over(begin, relay, RedisJournal(valkey))
    dies(trip, RedisJournal(valkey), taken(0) + going(1))
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    assert trip.send(later=LEASE).accepted == 6
    assert got(relay) == everybody(6)  # at most those of the last half second have it twice


# --- Doubt, when the setting says: send again


def test_who_is_in_doubt_is_sent_the_same_mail_again_when_the_setting_says_so(
    begin: Begin, relay: fakes.Relay, kept: FileJournal
) -> None:
    trip = taking_over(begin, relay, kept, readers=4)
    choose("resend")
    dies(trip, kept, taken(0) + going(1))
    found = trip.send(later=LEASE)
    assert (found.accepted, found.deferred, found.uncertain) == (3, 1, 0)
    assert relay.to(address(1)) == []  # not at once: it may be on its way
    doubted_at = delivery(trip, 1).uncertain_at
    assert doubted_at is not None

    assert trip.send(later=outcomes.PAUSES[0]).accepted == 4
    [again] = relay.to(address(1))
    settled = delivery(trip, 1)
    wanted = editions.message_id(issue_id=trip.issue_id, subscriber_id=settled.subscriber_id)
    assert again.message["Message-ID"] == wanted
    assert (settled.outcome, settled.uncertain_at) == (Outcome.ACCEPTED, doubted_at)  # it may have come twice
    assert got(relay) == everybody(4)[1:]


def test_who_comes_in_doubt_twice_is_sent_again_twice(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept, readers=2)
    choose("resend")
    dies(trip, kept, going(0))
    assert trip.send(later=LEASE).deferred == 1
    trip.now += outcomes.PAUSES[0]
    dies(trip, kept, going(0))
    assert trip.send(later=LEASE).deferred == 1
    assert trip.send(later=outcomes.PAUSES[0]).accepted == 2
    assert got(relay) == everybody(2)


# --- One dies after the other


def test_two_that_died_without_a_record_are_both_asked(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, taken(0) + going(1))
    trip.now += LEASE
    dies(trip, kept)  # before it could read what the first had left
    trip.now += LEASE
    dies(trip, kept)
    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain) == (5, 1)
    assert got(relay) == everybody(6)[2:]


def test_one_that_took_over_and_died_is_asked_alone(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, taken(0) + going(1))
    trip.now += LEASE
    second = dies(trip, kept)
    sender.recover(claimed=second, lease=LEASE, desk=trip.desk)
    assert (trip.books().accepted, trip.books().uncertain) == (1, 1)
    assert kept.note(taken(2) + going(3))

    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain) == (4, 2)
    assert got(relay) == [address(4), address(5)]
    assert delivery(trip, 3).status == Doubt.WORKER_LOST


def test_one_that_lets_go_in_good_order_leaves_nothing_to_ask(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, tmp_path: Path
) -> None:
    trip = taking_over(begin, relay, kept)
    trip.halted = True
    assert trip.send().waiting == 6
    trip.halted = False
    relay.answer_rcpt = lambda to: BUSY if to == address(0) else None
    assert trip.send().deferred == 1
    assert batch(trip).fence == 2
    dies_in_vain = FileJournal(tmp_path)
    dies_in_vain.begin(batch(trip).id, 2)
    assert dies_in_vain.note(going(0))  # of a worker that was slow to go; the books say more
    relay.answer_rcpt = lambda to: None

    found = trip.send(later=timedelta(minutes=6))
    assert (found.accepted, found.uncertain) == (6, 0)
    assert sorted(path.name for path in (tmp_path / "journal").iterdir()) == [f"{batch(trip).id}.2"]


def test_one_that_comes_back_with_an_old_lease_records_nothing(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, tmp_path: Path
) -> None:
    trip = taking_over(begin, relay, FileJournal(tmp_path))
    old = dies(trip, kept, taken(0) + going(1))
    relay.answer_rcpt = lambda to: BUSY if to == address(5) else None
    assert trip.send(later=LEASE).deferred == 1
    assert kept.note(taken(5))
    reader = outcomes.Reader(delivery(trip, 5).subscriber_id, address(5), address(5), "nl")
    result = outcomes.Result(reader, Outcome.ACCEPTED, trip.now, "250")
    with pytest.raises(errors.FenceLost), db.transaction() as session:
        recording.record(session=session, now=trip.now, claimed=old, results=[result], lease=LEASE)

    found = trip.books()
    assert (found.accepted, found.uncertain, found.deferred) == (4, 1, 1)


# --- The journal can't be read


def unreadable(claimed: Claimed, folder: Path) -> Callable[[], None]:
    """Gives how to make it readable again."""
    path = folder / "journal" / f"{claimed.batch_id}.{claimed.fence}"
    aside = path.rename(path.with_suffix(".aside"))
    path.mkdir()

    def mend() -> None:
        path.rmdir()
        aside.rename(path)

    return mend


def test_while_the_journal_cannot_be_read_the_batch_waits(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, tmp_path: Path
) -> None:
    trip = taking_over(begin, relay, FileJournal(tmp_path), size=3)
    unreadable(dies(trip, kept, taken(0) + going(1)), tmp_path)
    found = trip.send(later=LEASE)

    assert (found.accepted, found.waiting, found.uncertain) == (3, 3, 0)
    assert got(relay) == everybody(6)[3:]  # the other batch goes on
    assert trip.issue().state is IssueState.SENDING
    assert trip.send(later=timedelta(seconds=5)).waiting == 3  # and it isn't tried all the time


# --- The round was cancelled


def rung(doorbells: Doorbells, trip: Round) -> list[int]:
    """The batches of which the tick would have the books closed."""
    doorbells.clear()
    with db.transaction() as session:
        nudges.sweep(session=session, now=trip.now, quiet=timedelta(seconds=5))
    return [args[0] for name, args in doorbells if name == jobs.CLOSE_BOOKS]


def test_the_books_of_a_cancelled_round_are_closed_from_the_journal(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, doorbells: Doorbells
) -> None:
    trip = taking_over(begin, relay, kept)
    claimed = dies(trip, kept, taken(0, 1) + going(2))
    trip.act(rounds.cancel)
    assert trip.books().waiting == 6
    assert rung(doorbells, trip) == []  # it may be alive
    trip.now += LEASE
    assert rung(doorbells, trip) == [claimed.batch_id]

    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)
    found = trip.books()
    assert (found.accepted, found.uncertain, found.waiting) == (2, 1, 3)
    assert (trip.issue().state, batch(trip).state) == (IssueState.CANCELLED, BatchState.WAITING)
    assert rung(doorbells, trip) == []
    trip.send(later=DAY)
    assert relay.caught == []


def test_the_deferred_of_a_cancelled_round_are_given_up(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    relay.answer_rcpt = lambda to: BUSY if to in everybody(2) else None
    assert trip.send().deferred == 2
    trip.now += timedelta(minutes=6)
    claimed = dies(trip, kept, taken(0))
    trip.act(rounds.cancel)
    trip.now += LEASE
    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)
    found = trip.books()
    assert (found.accepted, found.given_up) == (5, 1)  # and the first had it, as its worker knew


def test_books_that_cannot_be_closed_yet_are_tried_again(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, doorbells: Doorbells, tmp_path: Path
) -> None:
    trip = taking_over(begin, relay, FileJournal(tmp_path))
    claimed = dies(trip, kept, taken(0) + going(1))
    mend = unreadable(claimed, tmp_path)
    trip.act(rounds.cancel)
    trip.now += LEASE
    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)
    assert trip.books().waiting == 6
    assert rung(doorbells, trip) == []
    trip.now += LEASE
    assert rung(doorbells, trip) == [claimed.batch_id]

    mend()
    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)
    assert (trip.books().accepted, trip.books().uncertain) == (1, 1)


def test_books_are_closed_once(begin: Begin, relay: fakes.Relay, kept: FileJournal) -> None:
    trip = taking_over(begin, relay, kept)
    claimed = dies(trip, kept, going(0))
    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)  # neither cancelled nor over
    trip.act(rounds.cancel)
    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)  # not over
    assert batch(trip).fence == 1
    trip.now += LEASE
    for _ in range(2):
        sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)
    assert (trip.books().uncertain, trip.books().waiting) == (1, 5)


def test_a_round_that_was_paused_when_its_worker_died_waits_for_its_resumption(
    begin: Begin, relay: fakes.Relay, kept: FileJournal
) -> None:
    trip = taking_over(begin, relay, kept)
    dies(trip, kept, taken(0) + going(1))
    trip.act(rounds.pause)
    assert trip.send(later=DAY).waiting == 6
    trip.act(rounds.resume)
    found = trip.send()
    assert (found.accepted, found.uncertain) == (5, 1)
    assert got(relay) == everybody(6)[2:]


def test_a_worker_that_dies_before_it_can_record_its_last_answers_has_them_in_its_journal(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database was away for longer than its lease, say; the marks of the last turn are there all the same."""
    trip = taking_over(begin, relay, kept)

    def dies_here(*_: object, **__: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr("worker.keeper.FLUSH_SECONDS", 60.0)
        patched.setattr("worker.keeper.Keeper.conclude", dies_here)
        with pytest.raises(ConnectionError):
            trip.send()
    assert len(relay.caught) == 6

    trip.connect(relay.url, kept)
    found = trip.send(later=LEASE * 2)
    assert (found.accepted, found.uncertain, len(relay.caught)) == (6, 0, 6)


def test_what_a_dead_worker_knew_is_recorded_before_its_batch_has_its_turn_again(
    begin: Begin, relay: fakes.Relay, kept: FileJournal, doorbells: Doorbells
) -> None:
    """Its bell waits behind those of all other batches; its journal mustn't wait so long."""
    trip = taking_over(begin, relay, kept)
    claimed = dies(trip, kept, taken(0, 1) + going(2))
    trip.now += LEASE
    assert rung(doorbells, trip) == [claimed.batch_id]
    sender.close_books(batch_id=claimed.batch_id, desk=trip.desk)

    found = trip.books()
    assert (found.accepted, found.uncertain, found.waiting) == (2, 1, 3)
    kept.forget(claimed.batch_id, [claimed.fence])  # as Redis may now
    assert trip.send().accepted == 5
    assert len(relay.caught) == 3
