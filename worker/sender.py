"""One batch: claim → commit → send → record. No transaction is open while the relay answers."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from service import db, errors, mail, settings, wire
from service.delivery import batches, limits, nudges, recording, rounds
from service.delivery.batches import Claimed
from service.issues import editions
from service.issues.models import IssueState, find
from worker import dispatch, journal
from worker.dispatch import Job
from worker.journal import Journal
from worker.keeper import AS_DEAD, Ending, Keeper
from worker.lines import Lines
from worker.pace import Pace

NO_SHARE_SECONDS = 1.0
STARTED = frozenset({IssueState.SENDING, IssueState.PAUSED, IssueState.CANCELLED})

log = structlog.get_logger()


@dataclass(frozen=True)
class Desk:
    """What one thread of a worker sends with, from batch to batch. `halted`: it must stop after the mails in flight."""

    lines: Lines
    journal: Journal
    pace: Pace
    clock: Callable[[], datetime]
    halted: Callable[[], bool]
    editions: dict[tuple[int, datetime], dict[str, wire.Pieces]] = field(default_factory=dict)

    def pieces(self, session: Session, claimed: Claimed) -> dict[str, wire.Pieces]:
        """An issue's editions are encoded once, not for each batch. A planned-anew issue has another cut."""
        key = (claimed.issue_id, claimed.cut_at)
        if key not in self.editions:
            self.editions.clear()
            self.editions[key] = editions.pieces(session=session, issue_id=claimed.issue_id)
        return self.editions[key]


def send(*, batch_id: int, desk: Desk) -> None:
    """Does nothing when the batch can't be had."""
    lease = timedelta(seconds=settings.current().lease_seconds)
    claimed = _claim(batch_id, lease, desk)
    if claimed is None:
        return
    started, read_at = time.monotonic(), desk.clock()
    desk.journal.begin(claimed.batch_id, claimed.fence)
    with Keeper(
        claimed,
        lease=lease,
        clock=desk.clock,
        name=name(),
        pace=desk.pace,
        lines=lambda: desk.lines.count,
        halted=desk.halted,
    ) as keeper:
        ending = Ending.BROKEN  # until something is known
        try:
            recover(claimed=claimed, lease=lease, desk=desk)
            job = _prepare(claimed, read_at, desk)
            with desk.lines.in_use():
                ending = dispatch.Pass(job, desk.lines, desk.journal, desk.pace, keeper, desk.clock).run(desk.halted)
        except journal.Unreadable:
            log.error("journal_unreadable")
            ending = Ending.NO_JOURNAL
        except errors.FenceLost:
            ending = Ending.LOST
        finally:
            ending = keeper.conclude(ending, read_at=read_at)
    if ending is not Ending.LOST and ending not in AS_DEAD:
        desk.journal.drop()
    log.info("batch_let_go", ending=str(ending), sent=keeper.recorded, seconds=round(time.monotonic() - started, 2))
    if ending is Ending.THROUGH:
        # In a transaction of its own: who holds a batch must not wait for the issue's lock.
        with db.transaction() as session:
            rounds.finish(session=session, now=desk.clock(), issue_id=claimed.issue_id)


def close_books(*, batch_id: int, desk: Desk) -> None:
    """Of a batch whose worker died: what its journal knows is recorded, and the rest is for whoever comes."""
    lease = timedelta(seconds=settings.current().lease_seconds)
    with db.transaction() as session:
        claimed = batches.claim(session=session, now=desk.clock(), batch_id=batch_id, lease=lease, among=STARTED)
    if claimed is None:
        return
    try:
        recover(claimed=claimed, lease=lease, desk=desk)
        unreadable = False
    except journal.Unreadable:
        unreadable = True  # it stays held, and is asked again when the lease is over
    with db.transaction() as session:
        if find(session=session, issue_id=claimed.issue_id).state is IssueState.CANCELLED:
            rounds.give_up(session=session, now=desk.clock(), issue_id=claimed.issue_id)
        if not unreadable:
            batches.release(session=session, now=desk.clock(), claimed=claimed, due_at=desk.clock())


def recover(*, claimed: Claimed, lease: timedelta, desk: Desk) -> None:
    """What the workers that held the batch before us, and died, had in their journals. Raises Unreadable."""
    if claimed.since_fence == claimed.fence:
        return
    fences = range(claimed.since_fence, claimed.fence)
    kept = desk.journal.read(claimed.batch_id, fences)
    told = journal.tell(kept, claimed.first_id)
    log.warning("batch_taken_over", accepted=len(told.accepted), doubtful=len(told.doubtful))
    with db.transaction() as session:
        recording.recover(
            session=session,
            now=desk.clock(),
            claimed=claimed,
            accepted=told.accepted,
            doubtful=told.doubtful,
            lease=lease,
            resend=settings.current().uncertain == "resend",
        )
    desk.journal.forget(claimed.batch_id, fences)


def name() -> str:
    """This thread's, among all that send."""
    return f"{socket.gethostname()[:50]}-{os.getpid()}-{threading.get_native_id()}"


def _claim(batch_id: int, lease: timedelta, desk: Desk) -> Claimed | None:
    now = desk.clock()
    with db.transaction() as session:
        share = limits.join(session=session, now=now, name=name())
        in_vain = not (share.connections or share.waits)
        if in_vain:
            limits.leave(session=session, name=name())
    if in_vain:
        _leave_to_others(batch_id, desk)
        return None
    desk.pace.share = share.connections
    if share.rate and desk.pace.tokens is None:
        desk.pace.granted(0)
    with db.transaction() as session:
        claimed = batches.claim(session=session, now=now, batch_id=batch_id, lease=lease)
        if claimed is None and not desk.lines.count:
            limits.leave(session=session, name=name())  # an old bell: we don't send, and take nobody's share
        return claimed


def _leave_to_others(batch_id: int, desk: Desk) -> None:
    """We heard the bell in vain: wait a moment, then ring it again for whoever has a connection."""
    if not desk.halted():
        time.sleep(NO_SHARE_SECONDS)
    with db.transaction() as session:
        nudges.again(session=session, now=desk.clock(), batch_id=batch_id)


def _prepare(claimed: Claimed, now: datetime, desk: Desk) -> Job:
    with db.transaction() as session:
        readers = batches.read(session=session, now=now, claimed=claimed)
        return Job(claimed, readers, desk.pieces(session, claimed), sender=mail.return_address())
