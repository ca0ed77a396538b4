"""The books of a round: everybody who was counted at the cut stands in one column, and in one only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.delivery import folded
from service.delivery.models import OPEN, Batch, BatchState, Delivery, Outcome
from service.issues import models


@dataclass(frozen=True)
class Books:
    """`waiting`: no mail went out yet, or never will when the round was cancelled.
    `left`: left before their mail went out; known batch by batch, when each is done.
    """

    audience: int
    accepted: int
    deferred: int
    rejected: int
    given_up: int
    uncertain: int
    left: int
    waiting: int

    @property
    def balance(self) -> bool:
        """Each column is counted on its own, so this can be false: then something is wrong."""
        columns = (self.accepted, self.deferred, self.rejected, self.given_up, self.uncertain, self.left, self.waiting)
        return self.audience == sum(columns)


def of(*, session: Session, issue_id: int) -> Books:
    """Raises NotFound. Of an issue that hasn't started all is 0. Deliveries whose rows are gone count as they did."""
    issue = models.find(session=session, issue_id=issue_id)
    tally = select(Delivery.outcome, func.count()).where(Delivery.issue_id == issue_id).group_by(Delivery.outcome)
    gone = folded.counts(session=session, issue_id=issue_id)
    counted = gone + Counter({str(outcome): count for outcome, count in session.execute(tally)})
    delivered = (
        select(func.count())
        .where(Delivery.issue_id == Batch.issue_id, Delivery.subscriber_id.between(Batch.first_id, Batch.last_id))
        .scalar_subquery()
    )
    waiting = select(func.sum(Batch.size - delivered)).where(Batch.issue_id == issue_id, Batch.state.in_(OPEN))
    left = select(func.sum(Batch.left_count)).where(Batch.issue_id == issue_id, Batch.state == BatchState.DONE)
    return Books(
        audience=issue.audience,
        left=int(session.scalar(left) or 0),
        # PostgreSQL adds up bigints as a decimal.
        waiting=int(session.scalar(waiting) or 0) - gone[folded.IN_OPEN_BATCH],
        **{str(outcome): counted[str(outcome)] for outcome in Outcome},
    )
