"""One batch: claim → commit → send → record. No transaction is open while the relay answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service import db, errors, links, mail, settings, wire
from service.delivery import batches, outcomes, rounds
from service.delivery.batches import Claimed
from service.delivery.outcomes import Phase, Reader, Result, Verdict
from service.issues import editions
from worker import relay
from worker.keeper import Ending, Keeper

# So many refusals in a row that are our own fault aren't about those readers any more.
SYSTEMIC = 5

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
            ending = _transmit(job, line, keeper, clock, halted)
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


def _transmit(
    job: Job, line: relay.Relay, keeper: Keeper, clock: Callable[[], datetime], halted: Callable[[], bool]
) -> Ending:
    suspects: list[Result] = []
    for reader in job.readers:
        stop = Ending.TOLD if halted() else keeper.stop
        if stop is not None:
            return stop
        reply = _deliver(job, line, reader)
        if reply.verdict is Verdict.NOBODY:
            return Ending.NO_LINE
        if reply.verdict is Verdict.STOP:
            log.error("relay_refuses", phase=str(reply.phase), status=reply.status, text=reply.text)
            return Ending.REFUSED
        result = outcomes.result(reader=reader, verdict=reply.verdict, status=reply.status, now=clock())
        if reply.verdict is not Verdict.OURS:
            keeper.note(*suspects, result)
            suspects.clear()
            continue
        log.warning("mail_refused", phase=str(reply.phase), status=reply.status, text=reply.text)
        suspects.append(result)
        if len(suspects) == SYSTEMIC:
            return Ending.REFUSED  # and none of them is charged
    keeper.note(*suspects)
    return Ending.THROUGH


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
