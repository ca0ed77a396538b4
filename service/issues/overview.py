"""What the newsroom looks at: which issues there are, and for how many readers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, joinedload

from service.issues.models import Issue, IssueState, Placement
from service.subscribers.models import State, Subscription

ENDED = (IssueState.SENT, IssueState.SKIPPED, IssueState.CANCELLED)


def of_week(*, session: Session, week: str) -> Sequence[Issue]:
    return session.scalars(_with_theme().where(Issue.week == week).order_by(Issue.send_at, Issue.id)).all()


def waiting_for_a_chief(*, session: Session) -> Sequence[Issue]:
    """To approve, paused, or held because their hour was missed."""
    held = Issue.held_since.is_not(None) & Issue.state.not_in(ENDED)
    query = _with_theme().where(or_(Issue.state.in_((IssueState.ASSEMBLED, IssueState.PAUSED)), held))
    return session.scalars(query.order_by(Issue.send_at, Issue.id)).all()


def coming(*, session: Session) -> Sequence[Issue]:
    """What hasn't ended yet, the next hour first."""
    query = _with_theme().where(Issue.state.not_in(ENDED))
    return session.scalars(query.order_by(Issue.send_at, Issue.id)).all()


def ended(*, session: Session, start: int = 0, limit: int = 50) -> Sequence[Issue]:
    """The last hour first."""
    query = _with_theme().where(Issue.state.in_(ENDED))
    return session.scalars(query.order_by(Issue.send_at.desc(), Issue.id.desc()).offset(start).limit(limit)).all()


def issue_of(*, session: Session, item_id: int) -> Issue | None:
    """The issue an item is placed in."""
    query = _with_theme().join(Placement, Placement.issue_id == Issue.id).where(Placement.item_id == item_id)
    return session.scalar(query)


def readers(*, session: Session, theme_id: int) -> int:
    """Who would get an issue of this theme if it went out now."""
    query = select(func.count()).where(Subscription.theme_id == theme_id, Subscription.state == State.ACTIVE)
    return session.scalar(query) or 0


def _with_theme() -> Select[Issue]:
    return select(Issue).options(joinedload(Issue.theme))
