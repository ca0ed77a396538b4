"""What came in, by sort and by day: the reports, and what is counted only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import db
from service.delivery.models import Report, ReportCount

DAYS = 30


@dataclass(frozen=True)
class Line:
    """`count` mails of a sort on a day (in UTC). `counted`: no Report is kept of it."""

    day: date
    sort: str
    count: int
    counted: bool


def add(*, session: Session, now: datetime, sort: str) -> None:
    """One more."""
    row = db.insert(session, ReportCount).values(day=now.astimezone(UTC).date(), sort=str(sort), count=1)
    session.execute(
        row.on_conflict_do_update(
            index_elements=[ReportCount.day, ReportCount.sort], set_={"count": ReportCount.count + 1}
        )
    )


def listing(*, session: Session, now: datetime, days: int = DAYS) -> list[Line]:
    """The newest day first."""
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    lines = [
        Line(day, sort, count, counted=True)
        for day, sort, count in session.execute(
            select(ReportCount.day, ReportCount.sort, ReportCount.count).where(ReportCount.day >= first)
        )
    ]
    for day in (first + timedelta(days=number) for number in range(days)):
        start = datetime.combine(day, time(), tzinfo=UTC)
        of_day = Report.at >= start, Report.at < start + timedelta(days=1)
        tally = select(Report.kind, func.count()).where(*of_day).group_by(Report.kind)
        lines += [Line(day, str(kind), count, counted=False) for kind, count in session.execute(tally)]
    return sorted(lines, key=lambda line: (-line.day.toordinal(), line.counted, line.sort))


def totals(lines: list[Line]) -> dict[str, int]:
    """By sort."""
    found: Counter[str] = Counter()
    for line in lines:
        found[line.sort] += line.count
    return dict(found)
