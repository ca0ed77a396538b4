"""What is left of an issue's deliveries when their rows are gone: counts that name nobody.

`service/privacy/folding.py` makes them; the books and the tally of mails in doubt add them to what they count.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session

from service.delivery.models import OPEN, Batch, Delivery, DeliveryCount, Doubt, Outcome

# Kinds beside an Outcome and a ReportKind. A delivery is counted in each that fits.
IN_OPEN_BATCH = "in_open_batch"  # its round was cancelled: its batch stayed open, and others in it got nothing
AGAIN, ARRIVED, LEFT_ALONE = "again", "arrived", "left_alone"  # what became of those that ever were in doubt
WHY = [str(doubt) for doubt in Doubt]


def kinds() -> dict[str, ColumnElement[bool]]:
    """Each kind, and which deliveries are of it."""
    outcomes = {str(outcome): Delivery.outcome == outcome for outcome in Outcome}
    in_open_batch = exists().where(
        Batch.issue_id == Delivery.issue_id,
        Batch.state.in_(OPEN),
        Delivery.subscriber_id.between(Batch.first_id, Batch.last_id),
    )
    return {**outcomes, IN_OPEN_BATCH: in_open_batch, **after_doubt()}


def after_doubt() -> dict[str, ColumnElement[bool]]:
    """A mail that was sent again has the relay's answer for a status; one that was settled by word keeps its doubt."""
    doubted, by_word = Delivery.uncertain_at.is_not(None), Delivery.status.in_(WHY)
    sent_again = or_(Delivery.outcome == Outcome.DEFERRED, and_(Delivery.outcome != Outcome.UNCERTAIN, ~by_word))
    return {
        AGAIN: and_(doubted, sent_again),
        ARRIVED: and_(doubted, Delivery.outcome == Outcome.ACCEPTED, by_word),
        LEFT_ALONE: and_(doubted, Delivery.outcome == Outcome.GIVEN_UP, by_word),
    }


def counts(*, session: Session, issue_id: int) -> Counter[str]:
    """By kind; empty while all rows are there. (An issue of which some rows are gone has both.)"""
    query = select(DeliveryCount.kind, DeliveryCount.count).where(DeliveryCount.issue_id == issue_id)
    found: Counter[str] = Counter()
    for kind, count in session.execute(query):
        found[kind] = count
    return found
