"""Several connections to the relay, kept busy by one thread.

    lines.put(message) while lines.hungry → going = lines.ready() → lines.write() → answers = lines.turn(…)

Each connection has a Pipeline that knows one message ahead, so a message costs one round trip. Between
`ready` and `write` the caller says in its journal what is going out. Connections are opened beside the
loop (worker/opener.py), reused from batch to batch, and closed after `cap` messages.
"""

from __future__ import annotations

import contextlib
import selectors
import threading
import time
from collections.abc import Iterator

import structlog

from service.settings import RelayAddress
from worker import relay
from worker.line import Line, Message
from worker.opener import Opener
from worker.pipeline import Answer

IDLE_SECONDS = 20.0  # what is older may have been dropped by a firewall that tells nobody
REST_SECONDS = 3.0  # less than limits.FRESH, after which a worker's connections are given to others
REOPEN_SECONDS = 1.0  # after a connection that couldn't be had
MOST_REOPEN_SECONDS = 60.0
CLOSE_SECONDS = 1.0
AT_ONCE = 4  # connections that are opened at the same time

log = structlog.get_logger()


class Lines:
    """`most` connections at most, which may change at any time; `cap` messages on each. Serves one thread.

    `fault` is why the last connection couldn't be had, None once one could.
    """

    def __init__(self, address: RelayAddress, *, hello: str, most: int = 1, cap: int = 500) -> None:
        self._cap = cap
        self.most = most
        self.fault: relay.Reply | None = None
        self.lost = 0  # connections that broke, or that the relay ended, with a message on them
        self._open: list[Line] = []
        self._touched: set[Line] = set()  # that may have something to write
        self._opener = Opener(address, hello)
        self._closed = False
        self._using = threading.Lock()
        self._uses = 0
        self._timer: threading.Timer | None = None
        self._reopen_at = 0.0
        self._failed = False  # the last connection couldn't be had
        self._refusals = 0  # in a row, while others are open
        self._checked_at = 0.0
        self._answers: list[Answer] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._opener.bell, selectors.EVENT_READ, None)

    @property
    def count(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> bool:
        """No message is under way."""
        return not self._answers and all(line.pipeline.idle for line in self._open)

    @property
    def unreachable(self) -> relay.Reply | None:
        """Why there is no connection at all, and none is being opened."""
        return self.fault if not self._open and not self._opener.pending else None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """For one batch. Before it, what the relay ended since the last one is let go; after it, what is still
        under way is dropped. Connections that nobody uses for REST_SECONDS are closed: others may have them.
        """
        with self._using:
            self._uses += 1
            if self._timer is not None:
                self._timer.cancel()
            now = time.monotonic()
            for line in [line for line in self._open if now - line.used_at > IDLE_SECONDS]:
                self._close(line, politely=True)
            self._listen(0)
            self.fault, self.lost = None, 0
            self._reopen_at = self._reopen_at if self._open else 0.0
            try:
                yield
            finally:
                self.abandon()
                self._start_timer()

    def _rest(self, uses: int) -> None:
        """Nobody used the lines since."""
        with self._using:
            if self._closed or uses != self._uses:
                return
            self._listen(0)
            self._close_all()
            if self._opener.pending:  # what comes late mustn't stay either
                self._start_timer()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(REST_SECONDS, self._rest, [self._uses])
        self._timer.daemon = True
        self._timer.start()

    def trim(self) -> None:
        """Close idle connections that are too many now."""
        if self.count > self.most:
            idle = [line for line in self._open if line.pipeline.idle]
            for line in idle[: self.count - self.most]:
                self._close(line, politely=True)

    def want(self) -> None:
        """There is more to send: open connections, as many as there may be."""
        self.trim()
        if time.monotonic() < self._reopen_at:
            return
        at_once = 1 if self._failed else AT_ONCE
        while self._opener.pending < at_once and self.count + self._opener.pending < self.most:
            self._opener.start()

    @property
    def hungry(self) -> list[Line]:
        """The connections that can take messages now; each until its pipeline isn't hungry any more."""
        return [line for line in self._open[: self.most] if line.hungry]

    def put(self, line: Line, message: Message) -> None:
        """On a `hungry` line. What it can't carry is answered at once."""
        self._touched.add(line)
        refused = line.put(message)
        if refused is not None:
            text = f"{refused.enhanced} {refused.text}".encode()
            self._answers.append(Answer(message.key, refused.phase, refused.code, text))

    def ready(self) -> list[int]:
        """The keys of messages whose content goes out at the next `write`."""
        going: list[int] = []
        for line in self._touched:
            going += line.collect()
        return going

    def write(self) -> None:
        """Never waits: what a connection can't take now goes later."""
        touched, self._touched = self._touched, set()
        for line in touched:
            if line.has_output and not line.write():
                self._end(line, line.pipeline.lost())
            elif line.blocked != line.watched:
                line.watched = line.blocked
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.blocked else 0)
                self._selector.modify(line.sock, events, line)

    def turn(self, seconds: float) -> list[Answer]:
        """What the relay answered, waiting `seconds` at most for something to happen."""
        if not self._answers:
            self._listen(seconds)
        self._check()
        answers, self._answers = self._answers, []
        return answers

    def withdraw(self) -> list[int]:
        """The keys of messages that the relay hasn't heard of; they are forgotten."""
        keys = [line.pipeline.withdraw() for line in self._open]
        return [key for key in keys if key is not None]

    def abandon(self) -> list[Answer]:
        """Drop every connection on which something is under way, and say what is known of it."""
        for line in [line for line in self._open if not line.pipeline.idle]:
            self._end(line, line.pipeline.lost())
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Say goodbye, for good."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join(CLOSE_SECONDS)
        self._close_all()
        self._selector.close()
        self._opener.close()

    def _listen(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            line: Line | None = key.data
            if line is None:
                self._welcome()
                continue
            self._touched.add(line)
            self._answers += line.read()
            if line.pipeline.closed:
                self._end(line, [])
            elif line.pipeline.idle and line.used_up:
                self._close(line, politely=True)

    def _check(self) -> None:
        """Once a second: has the relay been silent for too long anywhere? (RFC 5321 §4.5.3.2)"""
        now = time.monotonic()
        if now - self._checked_at < 1.0:
            return
        self._checked_at = now
        for line in [line for line in self._open if line.overdue(now)]:
            log.warning("relay_silent", phase=str(line.pipeline.awaited))
            self._end(line, line.pipeline.lost())

    def _welcome(self) -> None:
        for found in self._opener.arrived():
            if isinstance(found, relay.Reply):
                # A relay that allows fewer than we want needn't hear it every second.
                self._failed = True
                self._refusals = self._refusals + 1 if self._open else 0
                pause = min(REOPEN_SECONDS * (1 << min(self._refusals, 6)), MOST_REOPEN_SECONDS)
                self.fault, self._reopen_at = found, time.monotonic() + pause
                continue
            self.fault, self._refusals, self._failed = None, 0, False
            line = Line(found, self._cap)
            self._open.append(line)
            self._selector.register(line.sock, selectors.EVENT_READ, line)

    def _end(self, line: Line, answers: list[Answer]) -> None:
        """The line is over, for whatever reason."""
        if answers or line.was_busy:
            self.lost += 1
        self._answers += answers
        self._close(line, politely=False)

    def _close_all(self) -> None:
        for line in list(self._open):
            self._close(line, politely=True)

    def _close(self, line: Line, *, politely: bool) -> None:
        self._open.remove(line)
        self._touched.discard(line)
        self._selector.unregister(line.sock)
        line.close(politely=politely)
