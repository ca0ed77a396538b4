"""A relay that refuses for a reason of ours (requirements 1.10): are these readers meant, or is everybody?

They are, once it takes a mail for others after it refused them. Until it does nobody is charged: their
batch steps back (`doubted_at`), so that the others of the round may tell. When a second batch is refused
meanwhile, or nobody is left who could tell, the round must stop until an operator has looked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from service.delivery.batches import Claimed
from service.delivery.models import OPEN, Batch, BatchState, Delivery, Outcome
from service.delivery.outcomes import FEW_REFUSALS, MOST_REFUSALS, Result
from service.subscribers.models import Subscriber


class Word(StrEnum):
    THEIRS = "theirs"  # charge them
    UNKNOWN = "unknown"  # let others go first
    OURS = "ours"  # stop


def weigh(
    *,
    session: Session,
    now: datetime,
    claimed: Claimed,
    suspects: Sequence[Result],
    good: Collection[str],
    all_tried: bool,
) -> Word:
    """`suspects` were refused and nobody had a mail after them. `good` are the domains that had one in
    this pass; `all_tried` when nobody of the batch is left to try.
    """
    last = _last_taken(session, claimed.issue_id)
    word = _word(session, now, claimed, suspects, good, all_tried, last)
    session.execute(
        update(Batch)
        .where(Batch.id == claimed.batch_id, Batch.fence == claimed.fence)
        .values(doubted_at=None if word is Word.THEIRS else now)
        .execution_options(synchronize_session=False)
    )
    return word


def _word(
    session: Session,
    now: datetime,
    claimed: Claimed,
    suspects: Sequence[Result],
    good: Collection[str],
    all_tried: bool,
    last: datetime | None,
) -> Word:
    before = claimed.doubted_at
    since = before if before and not good else suspects[0].at
    if last is not None and last > since:
        return Word.THEIRS
    if before is None and _another_doubts(session, claimed, last):
        return Word.OURS
    if _others_can_tell(session, now, claimed):
        return Word.UNKNOWN
    if last is None and not good:
        return Word.OURS
    few = len(suspects) < FEW_REFUSALS if before is None else len(suspects) <= MOST_REFUSALS
    if (few and all_tried) or (before and _one_strange_domain(session, claimed, suspects, good)):
        return Word.THEIRS
    return Word.OURS


def _last_taken(session: Session, issue_id: int) -> datetime | None:
    return session.scalar(
        select(func.max(Delivery.at, type_=Delivery.at.type)).where(
            Delivery.issue_id == issue_id, Delivery.outcome == Outcome.ACCEPTED
        )
    )


def _another_doubts(session: Session, claimed: Claimed, last: datetime | None) -> bool:
    """And nobody had a mail since."""
    doubted = Batch.doubted_at.is_not(None) if last is None else Batch.doubted_at >= last
    others = and_(Batch.issue_id == claimed.issue_id, Batch.id != claimed.batch_id, Batch.state.in_(OPEN))
    return bool(session.scalar(select(exists().where(others, doubted))))


def _others_can_tell(session: Session, now: datetime, claimed: Claimed) -> bool:
    """Batches that are sent now, or can be; not those that wait for readers who were deferred."""
    at_hand = or_(Batch.state == BatchState.SENDING, and_(Batch.state == BatchState.WAITING, Batch.due_at <= now))
    others = and_(Batch.issue_id == claimed.issue_id, Batch.id != claimed.batch_id, Batch.doubted_at.is_(None))
    return bool(session.scalar(select(exists().where(others, at_hand))))


def _one_strange_domain(session: Session, claimed: Claimed, suspects: Sequence[Result], good: Collection[str]) -> bool:
    """All are of one domain, and nobody of it had this issue: it refuses us, the others don't."""
    domains = {result.reader.domain for result in suspects}
    if len(domains) > 1 or domains & set(good):
        return False
    taken = (
        select(Delivery.subscriber_id)
        .join(Subscriber, Subscriber.id == Delivery.subscriber_id)
        .where(Delivery.issue_id == claimed.issue_id, Delivery.outcome == Outcome.ACCEPTED)
        .where(Subscriber.email_key.endswith(f"@{domains.pop()}", autoescape=True))
    )
    return not session.scalar(select(taken.exists()))
