"""Keeps the books of a batch while it is sent: a thread that records what came in, prolongs the lease, and
hears whether and how fast to go on. So a slow relay holds up none of the three.

A worker that is killed loses the outcomes it hadn't recorded, those of the last FLUSH_SECONDS at most; its
journal has them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import TracebackType

import flask
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from service import db, errors
from service.delivery import batches, breaker, limits, recording, rounds
from service.delivery.batches import Claimed
from service.delivery.models import Outcome
from service.delivery.outcomes import Result
from service.issues.models import IssueState
from worker.pace import Pace

FLUSH_SECONDS = 0.5
FIRST_SECONDS = 0.1  # of a batch: who begins beside us waits for the connections that we mustn't have any more
# Of the lease we use so much: another host's clock may be ahead of ours.
TRUSTED = 0.8
# Before a batch is tried again that the relay wouldn't have; longer the more often it was claimed.
RELAY_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=5)
SHARE_PAUSE = timedelta(seconds=5)  # before it is tried again whether there is a connection for it
PARTING_SECONDS = 3.0  # so long who must stop tries to record the last while the database is away
ACCEPTED_SECONDS = 2.0  # between two words that the relay takes mail

log = structlog.get_logger()


class Ending(StrEnum):
    """Why a pass over a batch came to its end."""

    THROUGH = "through"
    TOLD = "told"  # paused, cancelled, this worker must stop, or its database is away
    NO_SHARE = "no_share"  # all connections are in use by other workers
    NO_LINE = "no_line"  # the relay has enough of us for now
    NO_JOURNAL = "no_journal"  # who held the batch before may have sent mails, and what it wrote can't be read
    TROUBLE = "trouble"  # of the relay's: the round was paused
    BROKEN = "broken"  # something unforeseen; who comes next must ask the journal what was under way
    LOST = "lost"  # another worker may have the batch


# The batch stays held until its pause is over, as if we had died: who claims it then asks the journals, those that
# we didn't ask and our own.
AS_DEAD = frozenset({Ending.NO_JOURNAL, Ending.BROKEN})
PAUSES = {Ending.NO_SHARE: SHARE_PAUSE, **dict.fromkeys((Ending.NO_LINE, *AS_DEAD), RELAY_PAUSE)}
GROWING = frozenset({Ending.NO_LINE, *AS_DEAD})


def clock_seconds() -> float:
    """Of a clock that goes on while the machine sleeps, where there is one: leases do, too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Keeper:
    """`clock` gives now; `name` is this worker's own, `lines` tells how many connections it has open, `halted` whether
    it must stop. Opened in an application context; `conclude` ends it in good order.
    """

    def __init__(
        self,
        claimed: Claimed,
        *,
        lease: timedelta,
        clock: Callable[[], datetime],
        name: str,
        pace: Pace,
        lines: Callable[[], int],
        halted: Callable[[], bool],
    ) -> None:
        self._claimed, self._lease, self._clock, self._halted = claimed, lease, clock, halted
        self._name, self._pace, self._lines = name, pace, lines
        self._app: flask.Flask = flask.current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy has it
        self._held_until = clock_seconds() + lease.total_seconds() * TRUSTED
        self._gathered: list[Result] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._done = threading.Event()
        self._told: Ending | None = None
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{claimed.batch_id}", daemon=True)
        self._accepted_at = -ACCEPTED_SECONDS
        self._took = False
        self._limited = pace.tokens is not None
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
        return Ending.LOST if clock_seconds() > self._held_until else self._told

    def note(self, *results: Result) -> None:
        with self._lock:
            self._gathered += results

    def straight(self, results: Sequence[Result]) -> bool:
        """Record now, with all that came in before. False when that isn't possible, and nothing may go out."""
        self.note(*results)
        try:
            self._write(self._hear)
        except errors.FenceLost:
            self._told = Ending.LOST
            return False
        except DBAPIError as fault:
            log.error("outcomes_wait", count=len(self._gathered), fault=type(fault).__name__)
            self._told = self._told or Ending.TOLD
            return False
        return self.stop is not Ending.LOST and not self._gathered

    def conclude(self, ending: Ending, *, read_at: datetime) -> Ending:
        """Record the last, and let go of the batch. While the database is away it tries again, until the
        lease is over or this worker must stop: what isn't recorded then is in the journal only.
        """
        self._done.set()
        self._thread.join()
        began = clock_seconds()
        while True:
            try:
                self._write(lambda session, state: self._let_go(session, state, ending, read_at))
                return ending
            except errors.FenceLost:
                log.warning("fence_lost", unrecorded=len(self._gathered))
                return Ending.LOST
            except DBAPIError as fault:
                parting = self._halted() and clock_seconds() > began + PARTING_SECONDS
                if parting or clock_seconds() > self._held_until:
                    raise
                log.error("outcomes_wait", count=len(self._gathered), fault=type(fault).__name__)
                time.sleep(FLUSH_SECONDS)

    def _keep(self) -> None:
        pause = FIRST_SECONDS
        while not self._done.wait(pause) and self._told is not Ending.LOST:
            pause = FLUSH_SECONDS
            try:
                with self._app.app_context():
                    self._write(self._hear)
                    self._ask()
            except errors.FenceLost:
                self._told = Ending.LOST
            except Exception as fault:  # whatever it is, `conclude` meets it too, where it can be raised
                log.error("outcomes_wait", count=len(self._gathered), fault=type(fault).__name__)
                self._told = self._told or Ending.TOLD

    def _write(self, then: Callable[[Session, IssueState], None]) -> None:
        """What wasn't committed stays gathered."""
        with self._writing:
            with self._lock:
                results = list(self._gathered)
            before = clock_seconds()
            with db.transaction() as session:
                state = recording.record(
                    session=session, now=self._clock(), claimed=self._claimed, results=results, lease=self._lease
                )
                share = self._report(session, results)
                then(session, state)
            with self._lock:
                del self._gathered[: len(results)]
            self._held_until = before + self._lease.total_seconds() * TRUSTED
            self._pace.share = share.connections
            self._limited = share.rate > 0
            self._took = self._took or any(result.outcome is Outcome.ACCEPTED for result in results)
            self.recorded += len(results)

    def _report(self, session: Session, results: Sequence[Result]) -> limits.Limits:
        rate = self._pace.rate(time.monotonic(), len(results))
        return limits.report(
            session=session,
            now=self._clock(),
            name=self._name,
            issue_id=self._claimed.issue_id,
            connections=self._lines(),
            rate=rate,
        )

    def _ask(self) -> None:
        """In units of work of their own: the relay's row is everybody's, and mustn't wait for our outcomes."""
        if self._limited:
            with db.transaction() as session:
                granted = limits.grant(session=session, now=self._clock(), want=self._pace.want())
            self._pace.granted(granted)
        elif self._pace.tokens is not None:
            self._pace.granted(None)
        if self._took and time.monotonic() - self._accepted_at > ACCEPTED_SECONDS:
            with db.transaction() as session:
                breaker.accepted(session=session, now=self._clock())
            self._took, self._accepted_at = False, time.monotonic()

    def _hear(self, session: Session, state: IssueState) -> None:
        if state is not IssueState.SENDING:
            self._told = self._told or Ending.TOLD

    def _let_go(self, session: Session, state: IssueState, ending: Ending, read_at: datetime) -> None:
        now = self._clock()
        if state is IssueState.CANCELLED:
            rounds.give_up(session=session, now=now, issue_id=self._claimed.issue_id)
        if ending is Ending.THROUGH:
            batches.settle(session=session, claimed=self._claimed, read_at=read_at)
        else:
            pause = PAUSES.get(ending, timedelta(0))
            if ending in GROWING:
                pause = min(pause * self._claimed.fence, LONGEST_PAUSE)
            if ending in AS_DEAD:
                batches.guard(session, self._claimed, due_at=now + pause)
            else:
                batches.release(session=session, now=now, claimed=self._claimed, due_at=now + pause)
            limits.leave(session=session, name=self._name)  # others may have its share at once
