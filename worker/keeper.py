"""Keeps the books of a batch while it is sent: a thread that records what came in, prolongs the lease and
hears whether to go on. So a slow relay holds up none of the three.

A worker that is killed loses the outcomes it hadn't recorded: those of the last FLUSH_SECONDS at most,
with the one mail in flight. Who takes over can't know of them and sends them again. The journal will
close that gap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from types import TracebackType

import flask
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from service import db, errors
from service.delivery import batches, rounds
from service.delivery.batches import Claimed
from service.delivery.outcomes import Result
from service.issues.models import IssueState

FLUSH_SECONDS = 0.5
# Before a batch is tried again that the relay wouldn't have; longer the more often it was claimed.
RELAY_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=5)

log = structlog.get_logger()


class Ending(StrEnum):
    """Why a pass over a batch came to its end."""

    THROUGH = "through"
    TOLD = "told"  # paused, cancelled, this worker must stop, or its database is away
    NO_LINE = "no_line"
    DOUBT = "doubt"  # refused, and others must tell whether these readers are meant
    REFUSED = "refused"
    LOST = "lost"  # another worker may have the batch


class Keeper:
    """`clock` gives now. Opened in an application context; `conclude` ends it in good order."""

    def __init__(self, claimed: Claimed, *, lease: timedelta, clock: Callable[[], datetime]) -> None:
        self._claimed, self._lease, self._clock = claimed, lease, clock
        self._app: flask.Flask = flask.current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy has it
        self._held_until = time.monotonic() + lease.total_seconds()
        self._gathered: list[Result] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._told: Ending | None = None
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{claimed.batch_id}", daemon=True)
        self.recorded = 0

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    @property
    def stop(self) -> Ending | None:
        """Why not to send the next mail. A worker that slept for longer than its lease has lost it."""
        return Ending.LOST if time.monotonic() > self._held_until else self._told

    def note(self, *results: Result) -> None:
        with self._lock:
            self._gathered += results

    def conclude(self, ending: Ending, *, read_at: datetime) -> Ending:
        """Record the last, and let go of the batch. While the database is away it tries again, until the
        lease is over: what isn't recorded will be sent twice.
        """
        self._done.set()
        self._thread.join()
        while True:
            try:
                self._write(lambda session, state: self._let_go(session, state, ending, read_at))
                return ending
            except errors.FenceLost:
                log.warning("fence_lost", unrecorded=len(self._gathered))
                return Ending.LOST
            except DBAPIError as fault:
                if time.monotonic() > self._held_until:
                    raise
                log.error("outcomes_wait", count=len(self._gathered), fault=type(fault).__name__)
                time.sleep(FLUSH_SECONDS)

    def _keep(self) -> None:
        while not self._done.wait(FLUSH_SECONDS) and self._told is not Ending.LOST:
            try:
                with self._app.app_context():
                    self._write(self._hear)
            except errors.FenceLost:
                self._told = Ending.LOST
            except Exception as fault:  # whatever it is, `conclude` meets it too, where it can be raised
                log.error("outcomes_wait", count=len(self._gathered), fault=type(fault).__name__)
                self._told = Ending.TOLD

    def _write(self, then: Callable[[Session, IssueState], None]) -> None:
        """What wasn't committed stays gathered."""
        with self._lock:
            results = list(self._gathered)
        before = time.monotonic()
        with db.transaction() as session:
            state = batches.record(
                session=session, now=self._clock(), claimed=self._claimed, results=results, lease=self._lease
            )
            then(session, state)
        with self._lock:
            del self._gathered[: len(results)]
        self._held_until = before + self._lease.total_seconds()
        self.recorded += len(results)

    def _hear(self, session: Session, state: IssueState) -> None:
        if state is not IssueState.SENDING:
            self._told = Ending.TOLD

    def _let_go(self, session: Session, state: IssueState, ending: Ending, read_at: datetime) -> None:
        now = self._clock()
        if state is IssueState.CANCELLED:
            rounds.give_up(session=session, now=now, issue_id=self._claimed.issue_id)
        if ending is Ending.THROUGH:
            batches.settle(session=session, claimed=self._claimed, read_at=read_at)
        else:
            waits = ending in (Ending.NO_LINE, Ending.DOUBT)
            pause = min(RELAY_PAUSE * self._claimed.fence, LONGEST_PAUSE) if waits else timedelta(0)
            batches.release(session=session, now=now, claimed=self._claimed, due_at=now + pause)
