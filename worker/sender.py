"""One batch: claim → commit → send → record. No transaction is open while the relay answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from service import db, errors, links, mail, settings, wire
from service.delivery import batches, doubts, outcomes, rounds
from service.delivery.batches import Claimed
from service.delivery.outcomes import Phase, Reader, Result, Verdict
from service.issues import editions
from worker import relay, turns
from worker.keeper import Ending, Keeper

log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """A claimed batch with all it takes to send it."""

    claimed: Claimed
    readers: Sequence[Reader]
    pieces: dict[str, wire.Pieces]
    sender: str
    read_at: datetime

    def message(self, reader: Reader) -> bytes:
        mine = self.pieces.get(reader.language) or self.pieces[settings.current().default_language]
        return mine.fill(
            to=reader.email,
            message_id=editions.message_id(issue_id=self.claimed.issue_id, subscriber_id=reader.subscriber_id),
            unsubscribe=links.unsubscribe(reader.subscriber_id, self.claimed.theme_id),
            preferences=links.preferences(reader.subscriber_id),
        )


def send(*, batch_id: int, line: relay.Relay, clock: Callable[[], datetime], halted: Callable[[], bool]) -> None:
    """Does nothing when the batch can't be had. `halted`: this worker must stop after the mail in flight."""
    lease = timedelta(seconds=settings.current().lease_seconds)
    job = _claim(batch_id, lease, clock())
    if job is None:
        return
    started = time.monotonic()
    with Keeper(job.claimed, lease=lease, clock=clock) as keeper:
        ending = Ending.NO_LINE  # also after something unforeseen: the rest is tried again later
        try:
            ending = _Pass(job, line, keeper, clock).run(halted)
            if ending is Ending.REFUSED:
                _pause(job.claimed.issue_id, clock())
        finally:
            ending = keeper.conclude(ending, read_at=job.read_at)
    log.info("batch_let_go", ending=str(ending), sent=keeper.recorded, seconds=round(time.monotonic() - started, 2))
    if ending is Ending.THROUGH:
        # In a transaction of its own: who holds a batch must not wait for the issue's lock.
        with db.transaction() as session:
            rounds.finish(session=session, now=clock(), issue_id=job.claimed.issue_id)


def _claim(batch_id: int, lease: timedelta, now: datetime) -> Job | None:
    with db.transaction() as session:
        claimed = batches.claim(session=session, now=now, batch_id=batch_id, lease=lease)
        if claimed is None:
            return None
        readers = batches.read(session=session, now=now, claimed=claimed)
        pieces = editions.pieces(session=session, issue_id=claimed.issue_id)
        return Job(claimed, readers, pieces, sender=mail.address(), read_at=now)


class _Pass:
    """Once through a batch's readers. Whom a trouble is charged to is decided by what becomes of the others."""

    def __init__(self, job: Job, line: relay.Relay, keeper: Keeper, clock: Callable[[], datetime]) -> None:
        self._job, self._line, self._keeper, self._clock = job, line, keeper, clock
        self._claimed = job.claimed
        self._turns = turns.Turns(job.readers, claims=job.claimed.fence)

    def run(self, halted: Callable[[], bool]) -> Ending:
        while (reader := self._turns.next()) is not None:
            stop = (Ending.TOLD if halted() else self._keeper.stop) or self._send(reader)
            if stop is not None:
                return stop
        stop = self._weigh() if self._turns.suspects else None
        return stop or (Ending.NO_LINE if self._charge_breakers() else Ending.THROUGH)

    def _send(self, reader: Reader) -> Ending | None:
        """Why to stop after this one."""
        reply = _deliver(self._job, self._line, reader)
        if reply.verdict is Verdict.NOBODY:
            return self._broken(reader, reply)
        self._turns.breaks = 0
        if reply.verdict is Verdict.STOP:
            log.error("relay_refuses", phase=str(reply.phase), status=reply.status, text=reply.text)
            return Ending.REFUSED
        result = outcomes.result(reader=reader, verdict=reply.verdict, status=reply.status, now=self._clock())
        if reply.verdict is Verdict.OURS:
            log.warning("mail_refused", phase=str(reply.phase), status=reply.status, text=reply.text)
            return self._refused(result)
        if reply.verdict is Verdict.ACCEPTED:
            self._keeper.note(*self._turns.took(reader))
        self._keeper.note(result)
        return None

    def _refused(self, result: Result) -> Ending | None:
        if self._turns.bad(result.reader):
            self._keeper.note(result)
            return None
        self._turns.suspects.append(result)
        return self._weigh() if len(self._turns.suspects) >= outcomes.MOST_REFUSALS else None

    def _weigh(self) -> Ending | None:
        now = self._clock()
        with db.transaction() as session:
            word = doubts.weigh(
                session=session,
                now=now,
                claimed=self._claimed,
                suspects=self._turns.suspects,
                good=self._turns.good,
                all_tried=self._turns.all_tried,
            )
        log.warning("refusals_weighed", count=len(self._turns.suspects), word=str(word))
        if word is not doubts.Word.THEIRS:
            return Ending.DOUBT if word is doubts.Word.UNKNOWN else Ending.REFUSED
        self._keeper.note(*self._turns.blame())
        self._claimed = replace(self._claimed, doubted_at=now)  # of the next ones others must tell anew
        return None

    def _broken(self, reader: Reader, reply: relay.Reply) -> Ending | None:
        if reply.phase in (Phase.CONNECT, Phase.LOGIN, Phase.MAIL):
            return Ending.NO_LINE  # it hasn't heard yet whom the mail is for
        self._turns.breaks += 1
        if self._turns.last_chance or self._turns.bad(reader):
            self._defer(reader, reply.status)
            return None
        self._turns.breakers.append((reader, reply.status))
        if self._turns.breaks < turns.MOST_BREAKS:
            return None
        return Ending.NO_LINE if self._charge_breakers() or not self._turns.good else None

    def _charge_breakers(self) -> int:
        """Those with whom the relay has trouble, and not with others. Gives how many were spared."""
        self._turns.blame_one_domain()
        old = self._clock() - self._claimed.cut_at >= outcomes.GIVE_UP  # a round must come to its end
        spared = []
        for reader, status in self._turns.breakers:
            if old or reader.attempts or self._turns.bad(reader):
                self._defer(reader, status)
            else:
                spared.append((reader, status))
        self._turns.breakers = spared
        return len(spared)

    def _defer(self, reader: Reader, status: str) -> None:
        log.warning("line_broken_at_reader", subscriber=reader.subscriber_id, status=status)
        result = outcomes.result(reader=reader, verdict=Verdict.LATER, status=status, now=self._clock())
        self._keeper.note(result)


def _deliver(job: Job, line: relay.Relay, reader: Reader) -> relay.Reply:
    try:
        message = job.message(reader)
    except Exception:  # one reader whose mail can't be made must not hold up all who come after
        log.exception("mail_not_made", subscriber=reader.subscriber_id)
        return relay.Reply(Phase.DATA, 554, "5.6.0", "not sent: the mail could not be made")
    return line.deliver(sender=job.sender, recipient=reader.email, message=message)


def _pause(issue_id: int, now: datetime) -> None:
    try:
        with db.transaction() as session:
            rounds.pause(session=session, now=now, issue_id=issue_id, note=rounds.RELAY_REFUSES)
    except errors.Conflict:
        log.info("paused_or_over_already", issue=issue_id)
