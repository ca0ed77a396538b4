"""Is it the relay itself that is in trouble? Then the round waits until it is well again, and nobody is charged."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import structlog

from service import db
from service.delivery import breaker, doubts, outcomes
from service.delivery.batches import Claimed
from service.delivery.models import Trouble
from service.delivery.outcomes import Phase
from worker import probe, relay
from worker.keeper import Ending, Keeper
from worker.lines import Lines
from worker.pace import Pace
from worker.trials import Trials

MOST_FAULTS = 3  # connections in a row that couldn't be had

log = structlog.get_logger()


class Watch:
    """Over one pass. `stop` is why it must end; `said` the last reply with which the relay sent us away."""

    def __init__(
        self,
        claimed: Claimed,
        lines: Lines,
        pace: Pace,
        trials: Trials,
        keeper: Keeper,
        clock: Callable[[], datetime],
    ) -> None:
        self._claimed, self._lines, self._pace = claimed, lines, pace
        self._trials, self._keeper, self._clock = trials, keeper, clock
        self._faults = 0
        self.stop: Ending | None = None
        self.said = relay.Reply(Phase.MAIL, 0)

    def look(self) -> None:
        """After each turn."""
        # Lines that end together ended for one reason.
        self._trials.breaks += bool(self._lines.lost)
        self._lines.lost = 0
        if self.stop is not None:
            return
        self._faults = 0 if self._lines.count else self._faults
        fault = self._lines.unreachable
        if fault is not None and not self._trials.empty:
            self._no_line(fault)
        elif self._trials.suspicious:
            self.weigh(at_end=False)

    def weigh(self, *, at_end: bool) -> None:
        """Whether it is about those who stand aside. Who is charged is recorded."""
        trials = self._trials
        if not trials.aside:
            self.trip(Trouble.DOWN, self.said)
            return
        if not self._keeper.straight([]):  # what this pass met counts, too
            return
        with db.transaction() as session:
            word = doubts.weigh(
                session=session,
                now=self._clock(),
                claimed=self._claimed,
                readers=[one.reader for one in trials.aside],
                good=trials.good,
                at_end=at_end,
            )
        log.warning("trouble_weighed", count=len(trials.aside), theirs=word.theirs)
        if word.theirs:
            if word.domain:
                trials.blame(word.domain)
            self._keeper.note(*trials.charge(trials.leave(), proven=False))
            return
        refused = any(one.refused for one in trials.aside)
        self.trip(Trouble.REFUSES if refused else Trouble.DOWN, self.said)

    def trip(self, trouble: Trouble, reply: relay.Reply) -> None:
        if self.stop is Ending.TROUBLE:
            return
        self.stop = Ending.TROUBLE
        with db.transaction() as session:
            breaker.trip(session=session, now=self._clock(), trouble=trouble, status=reply.status, text=reply.text)

    def _no_line(self, fault: relay.Reply) -> None:
        self._lines.fault = None  # heard; the next is another
        self._faults += 1
        if fault.code >= 500 or fault.enhanced == outcomes.TOO_FAST:
            self.trip(probe.trouble(fault), fault)
        elif self._faults >= MOST_FAULTS:
            self._pace.slower(time.monotonic())
            if fault.code and self._taken_by_others():
                self.stop = Ending.NO_LINE  # it has enough connections, and takes mail on those
            else:
                self.trip(probe.trouble(fault), fault)

    def _taken_by_others(self) -> bool:
        with db.transaction() as session:
            return breaker.takes(session=session, now=self._clock())
