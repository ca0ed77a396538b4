"""The bell that a worker hears for a batch. Anybody may ring it, and too often does no harm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from service import jobs
from service.delivery.models import OPEN, Batch, BatchState
from service.issues.models import Issue, IssueState

MOST_NUDGES = 500  # per sweep: while a long queue is worked off, each of these is one too many
MOST_AT_ONCE = 10_000  # when a round starts; the sweep brings the rest


def nudge(*, session: Session, now: datetime, batch_ids: Sequence[int]) -> None:
    session.execute(update(Batch).where(Batch.id.in_(batch_ids)).values(nudged_at=now))
    for batch_id in batch_ids:
        jobs.enqueue(session, jobs.SEND_BATCH, batch_id)


def ring(*, session: Session, now: datetime, issue_id: int) -> None:
    """For all of an issue that may be claimed: its round starts or goes on."""
    found = session.scalars(_due(now, MOST_AT_ONCE).where(Batch.issue_id == issue_id)).all()
    nudge(session=session, now=now, batch_ids=found)


def again(*, session: Session, now: datetime, batch_id: int) -> None:
    """For one, if it may still be claimed."""
    found = session.scalars(_due(now, 1).where(Batch.id == batch_id)).all()
    nudge(session=session, now=now, batch_ids=found)


def next_ones(*, session: Session, now: datetime, count: int) -> None:
    """For the first `count` that may be claimed, of whatever issue."""
    nudge(session=session, now=now, batch_ids=session.scalars(_due(now, count)).all())


def sweep(*, session: Session, now: datetime, quiet: timedelta) -> int:
    """Nudge again what waits although its time has come, and what a dead worker held; nothing that had a
    nudge less than `quiet` ago. Gives how many.
    """
    lately = or_(Batch.nudged_at.is_(None), Batch.nudged_at <= now - quiet)
    found = session.scalars(_due(now, MOST_NUDGES).where(lately)).all()
    nudge(session=session, now=now, batch_ids=found)
    for batch_id in session.scalars(_orphans(now)):
        jobs.enqueue(session, jobs.CLOSE_BOOKS, batch_id)
    return len(found)


def _orphans(now: datetime) -> Select[int]:
    """Held by a worker that died. What its journal knows is safe only in the database, and a bell for the batch would
    wait behind all the others' of its round; a round that waits or was cancelled has no bells.
    """
    return (
        select(Batch.id)
        .join(Issue, Issue.id == Batch.issue_id)
        .where(Batch.state == BatchState.SENDING, Batch.due_at <= now)
        .limit(MOST_NUDGES)
    )


def _due(now: datetime, limit: int) -> Select[int]:
    return (
        select(Batch.id)
        .join(Issue, Issue.id == Batch.issue_id)
        .where(Issue.state == IssueState.SENDING, Batch.state.in_(OPEN), Batch.due_at <= now)
        .order_by(Batch.nudged_at.is_not(None), Batch.nudged_at, Batch.id)
        .limit(limit)
        .with_for_update(of=Batch, skip_locked=True)  # a worker that has it this moment needs no bell
    )
