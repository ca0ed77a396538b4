"""Batches: ranges of an audience, each claimed by one worker at a time (design: the round, steps 1-3, 7).

claim (compare-and-set, with a lease and a fencing token) → commit → send → recording.record → settle.
Every write after the claim is guarded by the token: a worker whose lease went to another gets
FenceLost, and nothing of what it holds is recorded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.orm import Session

from service import errors
from service.delivery import nudges
from service.delivery.models import OPEN, Batch, BatchState, Delivery, Outcome
from service.delivery.outcomes import Reader
from service.issues.models import Issue, IssueState
from service.subscribers import addresses
from service.subscribers.models import State, Subscriber, Subscription

GOING_OUT = frozenset({IssueState.SENDING})


@dataclass(frozen=True)
class Claimed:
    """What a worker holds: `fence` is its right to record."""

    batch_id: int
    fence: int
    since_fence: int
    issue_id: int
    theme_id: int
    first_id: int
    last_id: int
    size: int
    cut_at: datetime


def cut(*, session: Session, now: datetime, issue: Issue, cut_at: datetime, size: int) -> int:
    """Cut the audience into batches of at most `size`, in one statement; gives how many readers it counts.

    No row per reader: a million cost some thousands of rows.
    """
    number = func.row_number().over(order_by=Subscription.subscriber_id)
    counted = (
        select(Subscription.subscriber_id.label("id"), ((number - 1) // size).label("nth"))
        .where(_in_audience(issue.theme_id, cut_at))
        .subquery()
    )
    ranges = (
        select(
            literal(issue.id), func.min(counted.c.id), func.max(counted.c.id), func.count(),
            literal(BatchState.WAITING, Batch.state.type), literal(0), literal(now, Batch.due_at.type), literal(0),
        )
        .group_by(counted.c.nth)
        .order_by(counted.c.nth)
    )  # fmt: skip
    columns = ["issue_id", "first_id", "last_id", "size", "state", "fence", "due_at", "left_count"]
    session.execute(insert(Batch).from_select(columns, ranges))
    return session.scalar(select(func.coalesce(func.sum(Batch.size), 0)).where(Batch.issue_id == issue.id)) or 0


def _in_audience(theme_id: int, cut_at: datetime) -> ColumnElement[bool]:
    """Cutting and reading ask the same thing, so that nobody is counted who can't be read."""
    return and_(
        Subscription.theme_id == theme_id,
        Subscription.state == State.ACTIVE,
        Subscription.confirmed_at <= cut_at,
    )


def claim(
    *, session: Session, now: datetime, batch_id: int, lease: timedelta, among: Collection[IssueState] = GOING_OUT
) -> Claimed | None:
    """None when it isn't due, another worker has it, or its issue isn't in a state `among` these.

    Shares the issue's lock until commit: who cancels the issue sees the batch that is held, or no batch is had.
    """
    query = select(Issue).join(Batch, Batch.issue_id == Issue.id).where(Batch.id == batch_id)
    query = query.with_for_update(read=True, of=Issue).execution_options(populate_existing=True)
    issue = session.scalar(query)
    if issue is None or issue.state not in among:
        return None
    # A machine that vanished may hold the row for a minute yet: nobody waits for it, least of all the clock.
    free = select(Batch).where(Batch.id == batch_id, Batch.state.in_(OPEN), Batch.due_at <= now)
    free = free.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    batch = session.scalar(free)
    if batch is None:
        return None
    batch.fence += 1
    if batch.state is BatchState.WAITING:
        batch.since_fence = batch.fence
    batch.state, batch.due_at = BatchState.SENDING, now + lease
    batch.nudged_at = None  # if we die, the tick needn't wait before it rings again
    session.flush()
    assert issue.cut_at is not None  # an issue that goes out was cut
    return Claimed(
        batch_id=batch.id,
        fence=batch.fence,
        since_fence=batch.since_fence,
        issue_id=issue.id,
        theme_id=issue.theme_id,
        first_id=batch.first_id,
        last_id=batch.last_id,
        size=batch.size,
        cut_at=issue.cut_at,
    )


def let_dead_go(*, session: Session, now: datetime) -> None:
    """For the only process there is, when it starts: whoever held a batch before is dead, so no lease need run out."""
    held = update(Batch).where(Batch.state == BatchState.SENDING, Batch.due_at > now).values(due_at=now)
    session.execute(held.execution_options(synchronize_session=False))


def read(*, session: Session, now: datetime, claimed: Claimed) -> list[Reader]:
    """Who must have the mail now: in the audience still, not suppressed, and without a delivery or with one
    whose next try has come.
    """
    query = (
        select(
            Subscriber.id, Subscriber.email, Subscriber.email_key, Subscriber.language,
            func.coalesce(Delivery.attempts, 0), Delivery.first_at, Subscriber.moved,
        )
        .join(Subscription, Subscription.subscriber_id == Subscriber.id)
        .outerjoin(Delivery, and_(Delivery.issue_id == claimed.issue_id, Delivery.subscriber_id == Subscriber.id))
        .where(
            _in_audience(claimed.theme_id, claimed.cut_at),
            Subscription.subscriber_id.between(claimed.first_id, claimed.last_id),
            or_(
                Delivery.subscriber_id.is_(None),
                and_(Delivery.outcome == Outcome.DEFERRED, Delivery.retry_at <= now),
            ),
        )
        .order_by(Subscriber.id)
    )  # fmt: skip
    found = [Reader(*row) for row in session.execute(query)]
    unwanted = addresses.suppressed(session=session, email_keys={reader.email_key for reader in found})
    return [reader for reader in found if reader.email_key not in unwanted]


def release(*, session: Session, now: datetime, claimed: Claimed, due_at: datetime) -> None:
    """Give the rest of the batch back, to be claimed from `due_at` on. Raises FenceLost."""
    guard(session, claimed, state=BatchState.WAITING, due_at=due_at, nudged_at=None)
    if due_at <= now:
        nudges.nudge(session=session, now=now, batch_ids=[claimed.batch_id])


def settle(*, session: Session, claimed: Claimed, read_at: datetime) -> bool:
    """After all that `read` gave at `read_at`: done, or waiting for the deferred. True when done. Raises FenceLost."""
    guard(session, claimed, nudged_at=None)
    ours = and_(
        Delivery.issue_id == claimed.issue_id, Delivery.subscriber_id.between(claimed.first_id, claimed.last_id)
    )
    deferred = and_(ours, Delivery.outcome == Outcome.DEFERRED)
    # Whose next try had come and who wasn't read has left meanwhile: they count as left, not as deferred.
    session.execute(delete(Delivery).where(deferred, Delivery.retry_at <= read_at))
    retry_at = session.scalar(select(func.min(Delivery.retry_at, type_=Delivery.retry_at.type)).where(deferred))
    if retry_at is not None:
        guard(session, claimed, state=BatchState.WAITING, due_at=retry_at)
        return False
    delivered = session.scalar(select(func.count()).where(ours)) or 0
    guard(session, claimed, state=BatchState.DONE, left_count=claimed.size - delivered)
    return True


def guard(session: Session, claimed: Claimed, **values: Any) -> None:
    """Change the batch, if it is held still. Raises FenceLost."""
    held = session.execute(
        update(Batch)
        .where(Batch.id == claimed.batch_id, Batch.fence == claimed.fence, Batch.state == BatchState.SENDING)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if not _hit(held):
        raise errors.FenceLost("Another worker holds batch %(batch)s.", batch=claimed.batch_id)


def _hit(result: object) -> bool:
    return result.rowcount == 1  # type: ignore[attr-defined,no-any-return]  # a DML result has it
