"""A house with a past, made of rows, for tests of statistics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.delivery.models import Batch, BatchState, Delivery, DeliveryCount, Outcome, Report, ReportKind
from service.issues.models import Issue, IssueState
from service.subscribers.models import Channel, Consent, ConsentCount, ConsentEvent, Subscriber
from tests import make
from tests.make import NOW

THIS_WEEK, LAST_WEEK = "2026-W48", "2026-W47"
LAST_THURSDAY = datetime(2026, 11, 19, 8, tzinfo=UTC)


def evidence(session: Session, slug: str, event: ConsentEvent, count: int = 1, at: datetime = NOW) -> None:
    """`count` events of one reader: whose they are, statistics don't ask."""
    reader = session.scalars(select(Subscriber)).first() or make.reader(session)
    theme_id = make.theme(session, slug).id
    session.add_all(
        Consent(
            subscriber_id=reader.id,
            theme_id=theme_id,
            event=event,
            channel=Channel.MAIL,
            at=at,
            wording="",
            wording_hash="",
        )
        for _ in range(count)
    )
    session.flush()


def folded(session: Session, slug: str, week: str, counts: Mapping[ConsentEvent, int]) -> None:
    """In place of what was folded before."""
    theme_id = make.theme(session, slug).id
    session.execute(delete(ConsentCount).where(ConsentCount.theme_id == theme_id, ConsentCount.week == week))
    session.add_all(
        ConsentCount(theme_id=theme_id, week=week, event=event, count=count) for event, count in counts.items()
    )
    session.flush()


def issue(
    session: Session,
    slug: str = "innovatie",
    outcomes: Mapping[Outcome, int] | None = None,
    reports: Mapping[ReportKind, int] | None = None,
    left: int = 0,
    **values: Any,
) -> Issue:
    """A sent issue of last week, with a row for each delivery and report."""
    outcomes, reports = outcomes or {}, reports or {}
    made = Issue(
        theme_id=make.theme(session, slug).id,
        week=LAST_WEEK,
        send_at=LAST_THURSDAY,
        state=IssueState.SENT,
        planned_at=LAST_THURSDAY,
        cut_at=LAST_THURSDAY,
        audience=sum(outcomes.values()) + left,
    )
    for name, value in values.items():
        setattr(made, name, value)
    session.add(made)
    session.flush()
    readers = [outcome for outcome, count in outcomes.items() for _ in range(count)]
    session.add_all(
        Delivery(issue_id=made.id, subscriber_id=number, outcome=outcome, at=NOW, first_at=NOW)
        for number, outcome in enumerate(readers, 1)
    )
    session.add_all(
        Report(issue_id=made.id, subscriber_id=number, kind=kind, at=NOW)
        for kind, count in reports.items()
        for number in range(1, count + 1)
    )
    batch = Batch(issue_id=made.id, first_id=1, last_id=len(readers) + 1, size=made.audience, due_at=NOW)
    batch.state, batch.left_count = BatchState.DONE, left
    session.add(batch)
    session.flush()
    return made


def counted(session: Session, issue_id: int, counts: Mapping[str, int]) -> None:
    """Counts in place of an issue's deliveries and reports."""
    for model in (Delivery, Report, DeliveryCount):
        session.execute(delete(model).where(model.issue_id == issue_id))
    session.add_all(DeliveryCount(issue_id=issue_id, kind=kind, count=count) for kind, count in counts.items())
    session.flush()


def monday(weeks_ago: int) -> datetime:
    """Noon of the Monday of that week."""
    return datetime(2026, 11, 23, 11, tzinfo=UTC) - timedelta(weeks=weeks_ago)


def issue_of(session: Session, issue_id: int) -> Issue:
    return session.get_one(Issue, issue_id)
