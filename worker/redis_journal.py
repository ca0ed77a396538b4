"""The journal in Redis, written without waiting for it (worker/journal.py)."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol, cast

import redis
import structlog
from redis.exceptions import RedisError

from worker.journal import Unreadable

KEEP_SECONDS = 30 * 24 * 3600  # a round may stay paused for long; what nobody asks for any more goes by itself
ANSWER_SECONDS = 0.3  # Redis owes an answer for longer than this: it is taken to be away
CONNECT_SECONDS = 0.5
AGAIN_SECONDS = 2.0
FAULTS = (RedisError, OSError)

log = structlog.get_logger()


class _Connection(Protocol):
    """redis-py's own, which has types for part of it only."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_command(self, *command: str | bytes | int) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def read_response(self) -> object: ...


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
        """Nothing at all asks whether all is there still."""
        self._kept += marks
        if not self._kept:
            return True
        if self._connection is None:
            return self._reconnect()
        try:
            if len(self._kept) == len(marks):
                self._rewrite(self._connection)
            else:
                self._append(self._connection, marks)
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

    def forget(self, batch_id: int, fences: Iterable[int]) -> None:
        with contextlib.suppress(*FAULTS):
            self._client.unlink(*(_key(batch_id, fence) for fence in fences))

    def _say(self, kind: str, answer: int, *command: str | bytes | int) -> None:
        assert self._connection is not None
        self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
        self._owed.append((kind, answer, time.monotonic()))

    def _append(self, connection: _Connection, marks: bytes) -> None:
        """Written out by hand: at each turn, packing the command would cost more than sending it."""
        key = self._key.encode()
        command = b"*3\r\n$6\r\nAPPEND\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(marks), marks)
        connection.send_packed_command([command], check_health=False)
        self._owed.append(("APPEND", len(self._kept), time.monotonic()))

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
            if emptied and self._kept and not any(kind == "SET" for kind, _, _ in self._owed):
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


def _key(batch_id: int, fence: int) -> str:
    return f"vinkje:journal:{batch_id}.{fence}"
