"""What goes wrong beside the relay: a journal that can't be read or written, a worker that breaks off, and more
workers than connections. Nobody twice, nobody missed, whatever it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from service import db, errors, jobs
from service.delivery import batches, limits, outcomes, recording
from service.delivery.batches import Claimed
from service.delivery.models import Batch, BatchState, Delivery, Doubt
from service.issues.models import IssueState
from tests import fakes, processes
from tests.integration.trips import OURS, Begin, Round, address, everybody, got
from tests.make import NOW
from worker import journal, sender, tasks
from worker.file_journal import FileJournal
from worker.journal import MARK, Journal, Sign
from worker.redis_journal import RedisJournal

Doorbells = list[tuple[str, tuple[int, ...]]]
LEASE = timedelta(seconds=60)
FIRST = ""  # the name before all others
OPEN = "ALTER DATABASE house ALLOW_CONNECTIONS true"
LATER = timedelta(minutes=5)  # than the longest pause of a batch


def going(*numbers: int) -> bytes:
    return b"".join(MARK.pack(number, Sign.GOING) for number in numbers)


def taken(*numbers: int) -> bytes:
    return b"".join(MARK.pack(number, Sign.GOING) + MARK.pack(number, Sign.ACCEPTED) for number in numbers)


def found_batches() -> list[Batch]:
    with db.transaction() as session:
        found = list(session.scalars(select(Batch).order_by(Batch.id)))
        session.expunge_all()
    return found


def deliveries() -> list[Delivery]:
    with db.transaction() as session:
        found = list(session.scalars(select(Delivery).order_by(Delivery.subscriber_id)))
        session.expunge_all()
    return found


def dies(trip: Round, kept: Journal, marks: bytes = b"") -> Claimed:
    """A worker claims the first batch, writes these marks, and is killed."""
    with db.transaction() as session:
        batch_id = session.scalars(select(Batch.id).order_by(Batch.id)).first()
        assert batch_id is not None
        claimed = batches.claim(session=session, now=trip.clock(), batch_id=batch_id, lease=LEASE)
    assert claimed is not None
    kept.begin(claimed.batch_id, claimed.fence)
    assert not marks or kept.note(marks)
    return claimed


@pytest.fixture(params=["file", "redis"])
def make_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Journal]:
    """Call it for each worker."""
    if request.param == "file":
        return lambda: FileJournal(tmp_path)
    url = request.getfixturevalue("valkey")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return lambda: RedisJournal(url)


def away() -> RedisJournal:
    return RedisJournal(f"redis://127.0.0.1:{processes.free_port()}/0")


# --- A dead worker's journal


def test_a_journal_that_cannot_be_read_at_first_is_asked_again(
    begin: Begin, relay: fakes.Relay, tmp_path: Path
) -> None:
    trip = begin(4)
    trip.connect(relay.url, FileJournal(tmp_path))
    claimed = dies(trip, FileJournal(tmp_path), taken(0) + going(1))
    path = tmp_path / "journal" / f"{claimed.batch_id}.{claimed.fence}"
    aside = path.rename(tmp_path / "aside")
    path.mkdir()
    for _ in range(3):
        assert trip.send(later=LATER).waiting == 4
    assert relay.caught == []

    path.rmdir()
    aside.rename(path)
    found = trip.send(later=LATER)
    assert (found.accepted, found.uncertain) == (3, 1)
    assert got(relay) == [address(2), address(3)]


def test_a_journal_that_cannot_be_read_is_read_by_one_whose_redis_is_there(
    begin: Begin, relay: fakes.Relay, valkey: str
) -> None:
    trip = begin(4)
    dies(trip, RedisJournal(valkey), taken(0) + going(1))
    trip.connect(relay.url, away())
    assert trip.send(later=LEASE).waiting == 4
    trip.connect(relay.url, RedisJournal(valkey))
    found = trip.send(later=LATER)
    assert (found.accepted, found.uncertain) == (3, 1)
    assert got(relay) == [address(2), address(3)]


def test_what_is_recorded_of_a_dead_worker_is_forgotten(
    begin: Begin, relay: fakes.Relay, make_journal: Callable[[], Journal]
) -> None:
    trip = begin(4)
    trip.connect(relay.url, make_journal())
    claimed = dies(trip, make_journal(), taken(0) + going(1))
    assert make_journal().read(claimed.batch_id, range(5)) == [taken(0) + going(1)]
    trip.send(later=LEASE)
    processes.wait_until(lambda: make_journal().read(claimed.batch_id, range(5)) == [], 5)


def test_what_could_not_be_recorded_is_not_forgotten(
    begin: Begin, relay: fakes.Relay, make_journal: Callable[[], Journal]
) -> None:
    """Its lease goes to a third while the second reads what the first had left."""
    trip = begin(4)
    trip.connect(relay.url, make_journal())
    dies(trip, make_journal(), taken(0) + going(1))
    trip.now += LEASE
    second = dies(trip, make_journal())
    trip.now += LEASE
    dies(trip, make_journal())
    with pytest.raises(errors.FenceLost):
        sender.recover(claimed=second, lease=LEASE, desk=trip.desk)
    found = trip.send(later=LEASE)
    assert (found.accepted, found.uncertain) == (3, 1)
    assert got(relay) == [address(2), address(3)]


# --- A worker that breaks off


class Held(fakes.Relay):
    """Takes the first mail, and keeps its answer to itself until `released`. All others come after it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.holding, self.released = threading.Event(), threading.Event()
        self.begun = False

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: SmtpSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.begun:
            await asyncio.to_thread(self.holding.wait, 20)
        self.begun = True
        return await super().handle_MAIL(server, session, envelope, address, options)

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        if not self.holding.is_set():
            self.holding.set()
            await asyncio.to_thread(self.released.wait, 20)
        return answer


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    with made:
        yield made


def test_who_breaks_off_asks_its_own_journal_what_was_under_way(begin: Begin, held: Held) -> None:
    trip = begin(4, size=2, smtp_url=held.url)
    trip.connect(held.url)
    sound = trip.desk

    def breaks() -> bool:
        if held.holding.is_set():
            raise MemoryError
        return False

    trip.desk = replace(sound, halted=breaks)
    with pytest.raises(MemoryError):
        trip.send()
    held.released.set()
    assert [batch.state for batch in found_batches()] == [BatchState.SENDING, BatchState.WAITING]

    trip.desk = sound  # the same lines, and the same journal
    assert trip.send().accepted == 2  # of the other batch
    found = trip.send(later=LATER)
    assert (found.accepted, found.uncertain) == (3, 1)
    assert got(held) == everybody(4)
    assert trip.issue().state is IssueState.SENT


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_a_database_that_goes_away_in_the_middle_of_a_thought_costs_nobody_a_second_mail(
    begin: Begin, held: Held
) -> None:
    """Just when the rounds must be paused: the relay refuses us on one connection, and is silent on the other."""
    trip = begin(2, connections=2, smtp_url=held.url)
    trip.connect(held.url)
    url = str(trip.app.config["SQLALCHEMY_DATABASE_URI"]).replace("+psycopg", "").replace("/house?", "/postgres?")
    with psycopg.connect(url, autocommit=True) as admin, contextlib.ExitStack() as afterwards:
        afterwards.callback(admin.execute, OPEN)

        def refuse(who: str) -> str | None:
            if not held.holding.is_set():
                return None
            admin.execute("ALTER DATABASE house ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'house'")
            threading.Timer(1.0, admin.execute, [OPEN]).start()
            return "550 5.7.1 not you"

        held.answer_mail = refuse
        with pytest.raises(DBAPIError):
            trip.send()
    held.released.set()
    held.answer_mail = lambda who: None
    assert len(got(held)) == 1

    trip.connect(held.url)
    found = trip.send(later=LATER)
    assert (found.accepted, found.uncertain) == (1, 1)
    assert got(held) == everybody(2)


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_a_worker_that_must_stop_does_not_wait_for_a_database_that_is_away(begin: Begin, relay: fakes.Relay) -> None:
    """It has ten seconds; its journal keeps what it couldn't record."""
    trip = begin(2)
    url = str(trip.app.config["SQLALCHEMY_DATABASE_URI"]).replace("+psycopg", "").replace("/house?", "/postgres?")
    with psycopg.connect(url, autocommit=True) as admin, contextlib.ExitStack() as afterwards:
        afterwards.callback(admin.execute, OPEN)

        def shut(who: str) -> None:
            admin.execute("ALTER DATABASE house ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'house'")
            trip.halted = True

        relay.answer_data = shut
        asked = time.monotonic()
        with pytest.raises(DBAPIError):
            trip.send()
        assert time.monotonic() - asked < 10
    relay.answer_data = lambda who: None
    before = got(relay)

    trip.halted = False
    trip.connect(relay.url)
    found = trip.send(later=LATER)
    assert (found.accepted, found.uncertain) == (2, 0)
    assert len(before) >= 1
    assert got(relay) == everybody(2)


# --- Nothing to write a journal in


@pytest.mark.parametrize("answer", ["421 4.3.2 closing", OURS])
def test_a_mail_that_was_not_taken_is_in_doubt_for_nobody(begin: Begin, relay: fakes.Relay, answer: str) -> None:
    """While the journal is away it is recorded as in doubt before it goes out."""
    relay.answer_data = lambda to: answer
    trip = begin(30)
    trip.connect(relay.url, away())
    found = trip.send()
    assert (found.waiting + found.deferred, found.uncertain) == (30, 0)
    assert trip.issue().state is IssueState.PAUSED

    relay.answer_data = lambda to: None
    trip.connect(relay.url)
    trip.probe(later=timedelta(seconds=10))
    assert trip.send().accepted == 30
    assert got(relay) == sorted(everybody(30))
    assert {(mail.attempts, mail.uncertain_at) for mail in deliveries()} == {(1, None)}


def test_only_the_one_whose_answer_was_lost_stays_in_doubt(begin: Begin, relay: fakes.Relay) -> None:
    lost = iter(["421 4.3.2 closing", ""])
    relay.answer_data = lambda to: next(lost, None)
    trip = begin(6)
    trip.connect(relay.url, away())
    found = trip.send()
    assert (found.accepted, found.uncertain) == (5, 1)
    assert len(got(relay)) == len(set(got(relay))) == 5
    assert trip.issue().state is IssueState.SENT


@pytest.mark.parametrize("spoilt", ["journal", "journal/{batch}.1"])
def test_a_folder_that_cannot_be_written_costs_a_round_only_time(
    begin: Begin, relay: fakes.Relay, tmp_path: Path, spoilt: str
) -> None:
    trip = begin(6, size=3)
    trip.connect(relay.url, FileJournal(tmp_path))
    if spoilt == "journal":
        (tmp_path / "journal").write_text("a file where the folder should be")
    else:
        for batch in found_batches():
            (tmp_path / spoilt.format(batch=batch.id)).mkdir(parents=True)
    assert trip.send().accepted == 6
    assert got(relay) == everybody(6)
    assert trip.issue().state is IssueState.SENT


def test_a_journal_without_a_place_says_so_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be")
    kept: Journal
    for kept in (FileJournal(tmp_path), away()):
        kept.begin(1, 1)
        assert kept.note(going(0)) is False
        kept.drop()
        kept.forget(1, [1, 2])


NEARLY_FULL = """
import resource, sys
from pathlib import Path
from worker.file_journal import FileJournal
from worker.journal import MARK, Sign

def note(*numbers):
    return kept.note(b"".join(MARK.pack(number, Sign.GOING) for number in numbers))

kept = FileJournal(Path(sys.argv[1]))
kept.begin(1, 1)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (MARK.size + 3, most))
print(note(0, 1), note(2))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
print(note(3, 4))
"""


def test_marks_stay_whole_on_a_disk_that_was_full_for_a_moment(tmp_path: Path) -> None:
    """Half a mark would turn all that follow into nonsense, such as a mail that was taken."""
    command = [sys.executable, "-c", NEARLY_FULL, str(tmp_path)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if "journal_away" not in line] == ["False False", "True"]
    told = journal.tell(FileJournal(tmp_path).read(1, [1]), 0)
    assert told == journal.Told(accepted=set(), doubtful={0, 1, 2, 3, 4})


# --- More workers than connections


def bells(doorbells: Doorbells) -> list[int]:
    return [args[0] for name, args in doorbells if name == jobs.SEND_BATCH]


def another_sends(trip: Round) -> None:
    """A worker that comes before all others, and so has the only connection."""
    with db.transaction() as session:
        limits.report(session=session, now=trip.clock(), name=FIRST, issue_id=None, connections=1, rate=0.0)


def test_who_has_no_connection_leaves_the_batch_and_rings_for_who_has(
    begin: Begin, relay: fakes.Relay, doorbells: Doorbells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "NO_SHARE_SECONDS", 0.0)
    trip = begin(4, size=2)
    another_sends(trip)
    before = found_batches()
    doorbells.clear()
    trip.send()
    assert sorted(bells(doorbells)) == [batch.id for batch in before]
    assert [(batch.state, batch.fence, batch.due_at) for batch in found_batches()] == [
        (BatchState.WAITING, 0, batch.due_at) for batch in before
    ]
    assert (relay.connections, relay.caught) == (0, [])
    with db.transaction() as session:
        assert [one.name for one in limits.senders(session=session, now=trip.now)] == [FIRST]
        limits.leave(session=session, name=FIRST)
    assert trip.send().accepted == 4


def test_one_that_must_stop_leaves_it_to_others_at_once(begin: Begin, doorbells: Doorbells) -> None:
    trip = begin(4, size=4)
    another_sends(trip)
    doorbells.clear()
    trip.halted = True
    before = time.monotonic()
    trip.send()
    assert time.monotonic() - before < sender.NO_SHARE_SECONDS
    assert len(bells(doorbells)) == 1


def test_three_workers_send_all_over_one_connection_without_the_tick(
    begin: Begin, relay: fakes.Relay, doorbells: Doorbells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bells that were rung are all they go by."""
    monkeypatch.setattr(sender, "NO_SHARE_SECONDS", 0.05)
    trip = begin(12, size=1)
    started = time.monotonic()

    def clock() -> datetime:
        return NOW + timedelta(seconds=1 + time.monotonic() - started)

    def heard() -> list[int]:
        with contextlib.suppress(IndexError):
            return list(doorbells.pop(0)[1])
        return []

    def work(desk: sender.Desk) -> None:
        with trip.app.app_context():
            while len(relay.caught) < 12 and time.monotonic() - started < 20:
                for batch_id in heard():
                    sender.send(batch_id=batch_id, desk=desk)
                time.sleep(0.01)  # a broker's bell goes to who has waited for one

    workers = []
    for _ in range(3):
        trip.connect(relay.url)
        workers.append(threading.Thread(target=work, args=[replace(trip.desk, clock=clock)]))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert trip.issue().state is IssueState.SENT
    assert got(relay) == sorted(everybody(12))
    assert [batch.fence for batch in found_batches()] == [1] * 12  # nobody claimed what it couldn't send


def test_who_had_an_answer_was_never_in_doubt_whatever_the_setting(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(5, uncertain="resend")
    trip.connect(relay.url, away())
    assert trip.send().accepted == 5
    assert {mail.uncertain_at for mail in deliveries()} == {None}


@pytest.mark.parametrize(("policy", "again"), [("resend", True), ("hold", False)])
def test_who_dies_without_a_journal_leaves_to_the_setting_what_was_under_way(
    begin: Begin, relay: fakes.Relay, policy: str, again: bool
) -> None:
    trip = begin(3, uncertain=policy)
    claimed = dies(trip, away())
    with db.transaction() as session:
        reader, *_ = batches.read(session=session, now=trip.now, claimed=claimed)
        going = outcomes.doubtful(reader=reader, doubt=Doubt.WORKER_LOST, now=trip.now, resend=False)
        recording.record(session=session, now=trip.now, claimed=claimed, results=[going], lease=LEASE)
    found = trip.send(later=LEASE)
    assert (found.accepted, found.deferred, found.uncertain) == (2, int(again), int(not again))
    assert trip.send(later=outcomes.PAUSES[0]).accepted == 2 + again
    assert deliveries()[0].uncertain_at is not None
    assert got(relay) == everybody(3)[not again :]


# --- What else a round stands


def test_a_journal_that_is_emptied_while_the_relay_thinks_is_written_anew(
    begin: Begin, relay: fakes.Relay, valkey: str
) -> None:
    """Else nobody knew of that mail when its worker died now."""
    trip = begin(1)
    with redis.Redis.from_url(valkey) as client:

        def slow(recipient: str) -> None:
            client.flushall()
            processes.wait_until(lambda: client.dbsize() > 0, 10)

        relay.answer_data = slow
        trip.connect(relay.url, RedisJournal(valkey))
        assert trip.send().accepted == 1


def test_in_one_process_with_all_else_a_round_leaves_threads_for_sign_ups(
    begin: Begin, relay: fakes.Relay, doorbells: Doorbells
) -> None:
    begin(2)
    batch_id = found_batches()[0].id
    with tasks._round, tasks._round:  # two threads send already
        tasks.send_batch(batch_id)
        assert relay.caught == []
    tasks.send_batch(batch_id)
    assert got(relay) == everybody(2)
    tasks.hang_up()
