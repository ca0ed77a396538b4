"""Who got an issue becomes how many, when the time to keep it is over.

A step takes a thousand rows: it counts them, adds that to the counts, and deletes them, all in one transaction, so
that the books balance whenever somebody looks. Only of issues that are over, and held as an editor would hold them:
nobody can have mails sent again meanwhile. One that stays paused would never be over, so it is cancelled first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from service import db
from service.delivery import folded, rounds, soft_bounces
from service.delivery.models import Batch, BatchState, Delivery, DeliveryCount, Report
from service.issues import models
from service.issues.models import Issue, IssueState

KEEP = soft_bounces.LOOK_BACK  # nothing asks for longer who got an issue
STEP = 1000
OVER = (IssueState.SENT, IssueState.CANCELLED)


def deliveries(*, session: Session, now: datetime) -> int:
    """Fold the first of the oldest issue; gives how many, 0 when there is nothing to fold."""
    _cancel_forgotten(session, now)
    issue_id = _due(session, now, Delivery.issue_id)
    if issue_id is None:
        return _batches(session, now)
    ours = Delivery.issue_id == issue_id
    query = select(Delivery.subscriber_id).where(ours).order_by(Delivery.subscriber_id).limit(STEP)
    numbers = session.scalars(query).all()
    if not numbers:
        return 0
    these = and_(ours, Delivery.subscriber_id.between(numbers[0], numbers[-1]))
    kinds = folded.kinds()
    counted = session.execute(select(*(func.count().filter(which) for which in kinds.values())).where(these)).one()
    _add(session, issue_id, dict(zip(kinds, counted, strict=True)))
    session.execute(delete(Delivery).where(these).execution_options(synchronize_session=False))
    return len(numbers)


def reports(*, session: Session, now: datetime) -> int:
    """The same for bounces and complaints, also for one that came when its issue had been folded."""
    issue_id = _due(session, now, Report.issue_id)
    if issue_id is None:
        return 0
    ours = Report.issue_id == issue_id
    query = select(Report.subscriber_id, Report.kind).where(ours).order_by(Report.subscriber_id, Report.kind)
    found = session.execute(query.limit(STEP)).all()
    for kind in {row.kind for row in found}:
        readers = [row.subscriber_id for row in found if row.kind is kind]
        these = and_(ours, Report.kind == kind, Report.subscriber_id.in_(readers))
        session.execute(delete(Report).where(these).execution_options(synchronize_session=False))
    _add(session, issue_id, Counter(str(row.kind) for row in found))
    return len(found)


def _cancel_forgotten(session: Session, now: datetime) -> None:
    """Paused, with no batch that was opened or claimed since as long as we keep who got it."""
    moved = exists().where(Batch.issue_id == Issue.id, Batch.due_at >= now - KEEP)
    still = and_(Issue.state == IssueState.PAUSED, Issue.cut_at < now - KEEP, ~moved)
    for issue_id in session.scalars(select(Issue.id).where(still).order_by(Issue.id)).all():
        models.lock(session=session, issue_id=issue_id)
        if session.scalar(select(Issue.id).where(still, Issue.id == issue_id)):  # nobody had it go on meanwhile
            rounds.cancel(session=session, now=now, issue_id=issue_id)


def _batches(session: Session, now: datetime) -> int:
    """Where a batch begins and ends are readers' numbers too. With no delivery left to lie between, they go."""
    query = select(Batch.id).join(Issue, Issue.id == Batch.issue_id).where(_over(now), Batch.last_id > 0)
    ids = session.scalars(query.order_by(Batch.id).limit(STEP)).all()
    bare = update(Batch).where(Batch.id.in_(ids)).values(first_id=0, last_id=0)
    session.execute(bare.execution_options(synchronize_session=False))
    return len(ids)


def _over(now: datetime) -> ColumnElement[bool]:
    """A late worker may still tell what it had sent of an issue that it holds a batch of: that one waits."""
    of = aliased(Batch)
    held = exists().where(of.issue_id == Issue.id, of.state == BatchState.SENDING)
    return and_(Issue.state.in_(OVER), Issue.finished_at < now - KEEP, ~held)


def _due(session: Session, now: datetime, issue_of: InstrumentedAttribute[int]) -> int | None:
    """The oldest issue with rows to fold, locked."""
    # With a limit of its own it is one look into an index for each issue, however many rows there are.
    has_rows = select(issue_of).where(issue_of == Issue.id).limit(1).correlate(Issue).scalar_subquery()
    query = select(Issue.id).where(_over(now), has_rows.is_not(None))
    issue_id = session.scalar(query.order_by(Issue.id).limit(1))
    if issue_id is None:
        return None
    models.lock(session=session, issue_id=issue_id)  # from here on nobody can have it go on
    return session.scalar(select(Issue.id).where(_over(now), Issue.id == issue_id))


def _add(session: Session, issue_id: int, counted: Mapping[str, int]) -> None:
    for kind, count in counted.items():
        if count:
            row = db.insert(session, DeliveryCount).values(issue_id=issue_id, kind=kind, count=count)
            more = {"count": DeliveryCount.count + row.excluded.count}
            session.execute(row.on_conflict_do_update(index_elements=["issue_id", "kind"], set_=more))
