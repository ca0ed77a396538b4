"""What went out since the last record, so that who takes over from a dead worker knows (design: the round, 6 and 8).

For each message a mark before its content goes out and one after the relay's answer, appended without
waiting: to Redis, or to a file when there is no Redis. A process that is killed leaves at most one message a
connection without its second mark. The marks of a batch are kept per fencing token, so a worker
that comes back with an old lease can't write among those of its successor.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import deque
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import redis
import structlog
from redis.exceptions import RedisError

from service import folder

MARK = struct.Struct("<IB")  # subscriber's distance from the batch's first, and a Sign
KEEP_SECONDS = 30 * 24 * 3600  # a round may stay paused for long; what nobody asks for any more goes by itself
ANSWER_SECONDS = 0.3  # Redis owes an answer for longer than this: it is taken to be away
CONNECT_SECONDS = 0.5
AGAIN_SECONDS = 2.0
FAULTS = (RedisError, OSError)

log = structlog.get_logger()


class Sign(IntEnum):
    GOING = 1  # its content goes out now
    ACCEPTED = 2
    NOT_TAKEN = 3


class Told(NamedTuple):
    accepted: set[int]
    doubtful: set[int]  # going, and no answer


class Unreadable(Exception):
    """The journal can't be asked now. Whoever needs it must wait."""


class _Connection(Protocol):
    """redis-py's own, which has types for part of it only."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_command(self, *command: str | bytes | int) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def read_response(self) -> object: ...


class Journal(Protocol):
    """One batch at a time; serves one thread."""

    def begin(self, batch_id: int, fence: int) -> None: ...

    def note(self, marks: bytes) -> bool:
        """False when it isn't kept: then what goes out must be recorded in the database first."""
        ...

    def drop(self) -> None:
        """All of it is recorded."""
        ...

    def read(self, batch_id: int, fences: Iterable[int]) -> list[bytes]:
        """Raises Unreadable. What is gone is empty."""
        ...


def tell(journals: Iterable[bytes], first_id: int) -> Told:
    """A mark that was cut off in the middle wasn't followed by anything going out."""
    told = Told(set(), set())
    for kept in journals:
        whole = len(kept) - len(kept) % MARK.size
        for distance, sign in MARK.iter_unpack(kept[:whole]):
            number = first_id + distance
            told.doubtful.discard(number)
            if sign == Sign.ACCEPTED:
                told.accepted.add(number)
            elif sign == Sign.GOING:
                told.doubtful.add(number)
    return Told(told.accepted, told.doubtful - told.accepted)


class RedisJournal:
    """Commands are written and their answers taken in later. APPEND answers with the length of all: another than
    ours means that Redis was emptied, and everything is written anew.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS, retry=None
        )
        self._connection: _Connection | None = None
        self._away_until = 0.0
        self._key = ""
        self._kept = bytearray()
        self._owed: deque[tuple[str, int, float]] = deque()  # command, the answer it should have, when

    def begin(self, batch_id: int, fence: int) -> None:
        self._key = _key(batch_id, fence)
        self._kept = bytearray()
        self._take_in()

    def note(self, marks: bytes) -> bool:
        self._kept += marks
        if self._connection is None:
            return self._reconnect()
        try:
            fresh = len(self._kept) == len(marks)
            if fresh:
                self._rewrite(self._connection)
            else:
                self._say("APPEND", len(self._kept), "APPEND", self._key, marks)
            return self._take_in()
        except FAULTS as fault:
            self._lose(fault)
            return False

    def drop(self) -> None:
        if self._connection is None or not self._kept:
            return
        try:
            self._say("UNLINK", -1, "UNLINK", self._key)
            self._take_in()
        except FAULTS as fault:
            self._lose(fault)

    def read(self, batch_id: int, fences: Iterable[int]) -> list[bytes]:
        try:
            found = self._client.mget([_key(batch_id, fence) for fence in fences])
        except FAULTS as fault:
            raise Unreadable from fault
        return [kept for kept in found if isinstance(kept, bytes)]

    def _say(self, kind: str, answer: int, *command: str | bytes | int) -> None:
        assert self._connection is not None
        self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
        self._owed.append((kind, answer, time.monotonic()))

    def _rewrite(self, connection: _Connection) -> None:
        self._say("SET", -1, "SET", self._key, bytes(self._kept), "EX", KEEP_SECONDS)

    def _take_in(self) -> bool:
        """The answers that are there. False when one is owed for too long, or was no good."""
        if self._connection is None:
            return False
        emptied = False
        try:
            while self._owed and self._connection.can_read(timeout=0):
                kind, expected, _ = self._owed.popleft()
                got = self._connection.read_response()
                if kind == "SET":
                    emptied = False
                elif kind == "APPEND":
                    emptied = emptied or got != expected
            if self._owed and time.monotonic() - self._owed[0][2] > ANSWER_SECONDS:
                raise TimeoutError("no answer")
            if emptied and not any(kind == "SET" for kind, _, _ in self._owed):
                log.warning("journal_was_emptied", key=self._key)
                self._rewrite(self._connection)
        except FAULTS as fault:
            self._lose(fault)
            return False
        return True

    def _lose(self, fault: Exception) -> None:
        log.warning("journal_away", fault=type(fault).__name__)
        if self._connection is not None:
            with contextlib.suppress(*FAULTS):
                self._connection.disconnect()
        self._connection = None
        self._owed.clear()
        self._away_until = time.monotonic() + AGAIN_SECONDS

    def _reconnect(self) -> bool:
        """And write down all of this batch. Waits for the answer, this once."""
        if time.monotonic() < self._away_until:
            return False
        try:
            connection = cast(_Connection, self._client.connection_pool.make_connection())
            connection.connect()
            self._connection = connection
            self._rewrite(connection)
            self._owed.clear()
            connection.read_response()
        except FAULTS as fault:
            self._lose(fault)
            return False
        return True


class FileJournal:
    """For one process that does all. What is written outlives the process, if not the machine's power."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "journal"
        self._path: Path | None = None
        self._file: int | None = None

    def begin(self, batch_id: int, fence: int) -> None:
        self._close()
        self._path = self._folder / f"{batch_id}.{fence}"

    def note(self, marks: bytes) -> bool:
        try:
            if self._file is None:
                assert self._path is not None
                folder.make(self._folder)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
            return os.write(self._file, marks) == len(marks)
        except OSError as fault:
            log.warning("journal_away", fault=type(fault).__name__)
            return False

    def drop(self) -> None:
        self._close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def read(self, batch_id: int, fences: Iterable[int]) -> list[bytes]:
        found = []
        for fence in fences:
            try:
                found.append((self._folder / f"{batch_id}.{fence}").read_bytes())
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise Unreadable from fault
        return found

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _key(batch_id: int, fence: int) -> str:
    return f"vinkje:journal:{batch_id}.{fence}"
