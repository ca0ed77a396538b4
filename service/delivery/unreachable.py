"""Readers whom the relay itself refuses at issue after issue, ended by night (requirements 1.10).

Not when the refusal is recorded: a relay that is unwell refuses a million, and each would have to be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from service.delivery import endings, soft_bounces
from service.delivery.models import Delivery, Report, ReportKind
from service.issues.models import Issue
from service.subscribers import own_data
from service.subscribers.models import Channel, EndReason, State, Subscription

STEP = 200

log = structlog.get_logger()


def end_some(*, session: Session, now: datetime, after: int) -> int:
    """A step: of the readers numbered higher than `after`. Gives where the next one begins, or 0 when it was the last.
    Reads all deliveries, so it isn't for the day.
    """
    since = select(Issue.id).where(Issue.cut_at > now - soft_bounces.LOOK_BACK)
    telling = soft_bounces.tell(session=session, issue_ids=session.scalars(since).all())
    found = _suspects(session, telling, after)
    for subscriber_id in found:
        # Held first: a confirmation of this moment is then seen.
        reader = own_data.hold(session=session, subscriber_id=subscriber_id)
        if reader and soft_bounces.enough(session=session, now=now, subscriber_id=reader.id, telling=telling):
            endings.end(
                session=session,
                now=now,
                subscriber_id=reader.id,
                email_key=reader.email_key,
                reason=EndReason.HARD_BOUNCE,
                channel=Channel.RELAY,
            )
            log.info("unreachable_reader_ended")
    return found[-1] if len(found) == STEP else 0


def _suspects(session: Session, telling: set[int], after: int) -> Sequence[int]:
    """Readers with so many issues that didn't arrive, in a row or not."""
    refused = select(Delivery.subscriber_id, Delivery.issue_id).where(
        Delivery.issue_id.in_(telling), soft_bounces.COUNTS, Delivery.subscriber_id > after
    )
    reported = select(Report.subscriber_id, Report.issue_id).where(
        Report.kind == ReportKind.SOFT, Report.subscriber_id > after
    )
    rows = union(refused, reported).subquery()
    active = select(Subscription.subscriber_id).where(Subscription.state == State.ACTIVE)
    query = (
        select(rows.c.subscriber_id)
        .where(rows.c.subscriber_id.in_(active))
        .group_by(rows.c.subscriber_id)
        .having(func.count() >= soft_bounces.ISSUES)
        .order_by(rows.c.subscriber_id)
        .limit(STEP)
    )
    return session.scalars(query).all()
