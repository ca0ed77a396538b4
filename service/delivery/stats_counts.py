"""What statistics are made of: true counts, in a few grouped statements. For stats.py, which hides the small ones.

A count is of rows that are there still and of those that were folded into counts since: in one statement, so that
what is folded at this moment is counted once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, time, timedelta

from sqlalchemy import ColumnElement, Integer, Select, String, case, func, literal, select, type_coerce, union_all
from sqlalchemy.orm import Session, joinedload

from service.delivery.models import Batch, BatchState, Delivery, DeliveryCount, Outcome, Report, ReportKind
from service.issues import rota
from service.issues.models import Issue
from service.subscribers.models import Consent, ConsentCount, ConsentEvent, State, Subscription

COUNTED = tuple(event for event in ConsentEvent if event is not ConsentEvent.REQUESTED)
LEFT = "left"

Tallies = dict[int, Counter[str]]  # issue → what → how many
Flows = dict[tuple[int, str], Counter[str]]  # (theme, week) → event → how many


def flows(*, session: Session, weeks: Sequence[str], theme_id: int | None = None) -> Flows:
    """Who came and went in each of the `weeks`, which follow each other. ISO weeks in Europe/Amsterdam: their
    borders are told in UTC beforehand, because the databases don't agree on what a week is.
    """
    borders = [rota.local(rota.monday(week), time(0)) for week in weeks]
    end = rota.local(rota.monday(weeks[-1]) + timedelta(days=7), time(0))
    dated = select(Consent.theme_id, _nth(borders, 0).label("nth"), type_coerce(Consent.event, String).label("event"))
    dated = dated.where(Consent.at >= borders[0], Consent.at < end, Consent.event.in_(COUNTED))
    nth = case({week: number for number, week in enumerate(weeks)}, value=ConsentCount.week)
    folded = select(ConsentCount.theme_id, nth, type_coerce(ConsentCount.event, String), ConsentCount.count)
    folded = folded.where(ConsentCount.week.in_(weeks), ConsentCount.event.in_(COUNTED))
    if theme_id is not None:
        dated, folded = dated.where(Consent.theme_id == theme_id), folded.where(ConsentCount.theme_id == theme_id)
    rows = dated.subquery()
    there = select(rows.c.theme_id, rows.c.nth, rows.c.event, func.count()).group_by(*rows.c)
    found: Flows = defaultdict(Counter)
    for theme, number, event, count in session.execute(union_all(there, folded)):
        found[theme, weeks[number]][event] += count
    return found


def _nth(borders: Sequence[datetime], first: int) -> ColumnElement[int]:
    """The number of the week that a row lies in; by halves, so that a row costs few comparisons."""
    if len(borders) == 1:
        return literal(first, Integer)
    half = len(borders) // 2
    return case((Consent.at < borders[half], _nth(borders[:half], first)), else_=_nth(borders[half:], first + half))


def readers(*, session: Session, theme_id: int | None = None) -> dict[int, int]:
    """By theme: who would get an issue now."""
    query = select(Subscription.theme_id, func.count()).where(Subscription.state == State.ACTIVE)
    if theme_id is not None:
        query = query.where(Subscription.theme_id == theme_id)
    return dict(session.execute(query.group_by(Subscription.theme_id)).all())


def rounds(*, session: Session, weeks: Collection[str], theme_id: int | None = None) -> Sequence[Issue]:
    """Issues of those weeks that started to go out."""
    query = select(Issue).options(joinedload(Issue.theme)).where(Issue.cut_at.is_not(None), Issue.week.in_(weeks))
    if theme_id is not None:
        query = query.where(Issue.theme_id == theme_id)
    return session.scalars(query.order_by(Issue.cut_at.desc())).all()


def newest(*, session: Session, limit: int) -> Sequence[Issue]:
    query = select(Issue).options(joinedload(Issue.theme)).where(Issue.cut_at.is_not(None))
    return session.scalars(query.order_by(Issue.cut_at.desc(), Issue.id.desc()).limit(limit)).all()


def tallies(*, session: Session, issue_ids: Collection[int]) -> Tallies:
    """By issue: how many of each Outcome, of each ReportKind, and LEFT before their mail went out."""
    delivered = select(Delivery.issue_id, type_coerce(Delivery.outcome, String), func.count())
    left = select(Batch.issue_id, literal(LEFT), func.sum(Batch.left_count))
    return _tallied(
        session,
        delivered.where(Delivery.issue_id.in_(issue_ids)).group_by(Delivery.issue_id, Delivery.outcome),
        _folded(issue_ids, [*Outcome, *ReportKind]),
        _reports(issue_ids),
        left.where(Batch.issue_id.in_(issue_ids), Batch.state == BatchState.DONE).group_by(Batch.issue_id),
    )


def came_back(*, session: Session, issue_ids: Collection[int]) -> Tallies:
    """By issue: how many of each ReportKind."""
    return _tallied(session, _reports(issue_ids), _folded(issue_ids, list(ReportKind)))


def _reports(issue_ids: Collection[int]) -> Select[int, str, int]:
    query = select(Report.issue_id, type_coerce(Report.kind, String), func.count())
    return query.where(Report.issue_id.in_(issue_ids)).group_by(Report.issue_id, Report.kind)


def _folded(issue_ids: Collection[int], kinds: Collection[str]) -> Select[int, str, int]:
    query = select(DeliveryCount.issue_id, DeliveryCount.kind, DeliveryCount.count)
    return query.where(DeliveryCount.issue_id.in_(issue_ids), DeliveryCount.kind.in_([str(kind) for kind in kinds]))


def _tallied(session: Session, *queries: Select[int, str, int]) -> Tallies:
    found: Tallies = defaultdict(Counter)
    for issue_id, what, count in session.execute(union_all(*queries)):
        found[issue_id][what] += int(count)  # PostgreSQL adds up bigints as a decimal
    return found
