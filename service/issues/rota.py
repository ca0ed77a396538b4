"""Which theme has its turn in which ISO week, at what hour, and what happens when an hour is missed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import errors, i18n, themes
from service.issues import models
from service.issues.models import Issue, IssueState

ASSEMBLE_BEFORE = timedelta(hours=24)  # so long a chief has to look
CATCH_UP = timedelta(hours=6)  # an hour missed by more is held for the editor
YEARS = range(2000, 3000)  # at the ends of the calendar an hour can't be told in UTC
WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")

log = structlog.get_logger()


def monday(week: str) -> date:
    """The first day of ISO week "2026-W49". Raises Refused on field "week"."""
    found = WEEK.fullmatch(week.strip())
    if found is None or int(found[1]) not in YEARS:
        raise errors.Refused("week", "Give an ISO week, as in 2026-W49.")
    try:
        return date.fromisocalendar(int(found[1]), int(found[2]), 1)
    except ValueError:
        raise errors.Refused("week", "The year %(year)s has no week %(week)s.", year=found[1], week=found[2]) from None


def number(week: str) -> int:
    """48 of "2026-W48", as people call it."""
    return monday(week).isocalendar().week


def is_over(*, now: datetime, week: str) -> bool:
    return now >= _end(monday(week))


def week_of(moment: datetime) -> str:
    year, week, _ = moment.astimezone(i18n.HERE).isocalendar()
    return f"{year}-W{week:02d}"


def local(day: date, hour: time) -> datetime:
    """An hour on the wall in Amsterdam, in UTC. One that daylight saving skips moves on by an hour;
    one that comes twice is the first.
    """
    return datetime.combine(day, hour, tzinfo=i18n.HERE).astimezone(UTC)


def parse_local(text: str) -> datetime:
    """As in "2026-12-03T09:00" in Europe/Amsterdam, given in UTC. Raises Refused on field "send_at"."""
    try:
        typed = datetime.fromisoformat(text.strip()) if ":" in text else None  # a day alone would mean midnight
    except ValueError:
        typed = None
    if typed is None or typed.tzinfo is not None or typed.year not in YEARS:
        raise errors.Refused("send_at", "Give day and hour in Dutch time, as in 2026-12-03T09:00.")
    return local(typed.date(), typed.time())


def plan(*, session: Session, now: datetime, theme_id: int, week: str, send_at: datetime | None) -> Issue:
    """Without `send_at`: Thursday 09:00, or when that has gone the hour after next, within the week."""
    week = week.strip()
    theme = session.get(themes.Theme, theme_id)
    if theme is None or theme.retired_at is not None:
        raise errors.Refused("theme", "Choose a theme that is open.")
    hour = _hour(now=now, week=week, send_at=send_at)
    taken = errors.Conflict("This theme has its issue in week %(week)s already.", week=number(week))
    issue = session.scalar(select(Issue).where(Issue.theme_id == theme_id, Issue.week == week).with_for_update())
    if issue is None:
        issue = Issue(theme_id=theme_id, week=week, state=IssueState.PLANNED, send_at=hour, planned_at=now)
        try:
            with session.begin_nested():
                session.add(issue)
        except IntegrityError:  # two chiefs plan it at once
            raise taken from None
    elif issue.state is IssueState.CANCELLED and issue.cut_at is None:
        issue.move(IssueState.PLANNED)
        issue.send_at, issue.planned_at, issue.held_since, issue.note = hour, now, None, ""
        issue.assembled_at = issue.approved_at = issue.approved_by_id = issue.finished_at = None
    else:
        raise taken
    session.flush()
    return issue


def replan(*, session: Session, now: datetime, issue_id: int, send_at: datetime) -> Issue:
    """Give an issue that hasn't started another hour in its week; one that was held is let go."""
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.state not in models.EARLY:
        raise errors.Conflict("This issue has started or ended: its hour can’t change any more.")
    issue.send_at = _hour(now=now, week=issue.week, send_at=send_at)
    issue.held_since = None
    return issue


def due_for_assembly(*, session: Session, now: datetime) -> list[int]:
    query = select(Issue.id).where(
        Issue.state == IssueState.PLANNED,
        Issue.held_since.is_(None),
        Issue.send_at <= now + ASSEMBLE_BEFORE,
        Issue.send_at > now - CATCH_UP,
    )
    return list(session.scalars(query.order_by(Issue.send_at)))


def due_to_start(*, session: Session, now: datetime) -> list[int]:
    query = select(Issue.id).where(
        Issue.state == IssueState.APPROVED,
        Issue.held_since.is_(None),
        Issue.send_at <= now,
        Issue.send_at > now - CATCH_UP,
    )
    return list(session.scalars(query.order_by(Issue.send_at)))


def hold_missed(*, session: Session, now: datetime) -> int:
    """Hold what should have gone out CATCH_UP ago or longer, until an editor says so. Gives how many."""
    missed = session.execute(
        update(Issue)
        .where(Issue.state.in_(models.EARLY), Issue.held_since.is_(None), Issue.send_at <= now - CATCH_UP)
        .values(held_since=now)
    )
    count: int = missed.rowcount  # type: ignore[attr-defined]  # a DML result has it
    if count:
        log.warning("issues_held", count=count)
    return count


def _hour(*, now: datetime, week: str, send_at: datetime | None) -> datetime:
    start = monday(week)
    first, last = local(start, time(0)), _end(start)
    if now >= last:
        raise errors.Refused("week", "Week %(week)s is over.", week=number(week))
    if send_at is None:
        thursday = local(start + timedelta(days=3), time(9))
        soon = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
        return thursday if thursday > now else min(soon, last - timedelta(minutes=1))
    if not first <= send_at < last:
        raise errors.Refused("send_at", "This hour doesn’t lie in week %(week)s.", week=number(week))
    if send_at < now - timedelta(minutes=1):
        raise errors.Refused("send_at", "This hour has gone. Choose a later one.")
    return send_at


def _end(monday: date) -> datetime:
    return local(monday + timedelta(days=7), time(0))
