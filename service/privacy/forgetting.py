"""What goes when its time is over. Each takes a thousand rows at most and gives how many; 0 when nothing is left.

The periods that are decided nowhere else stand here, and why they are so long in the table (retention.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.delivery.models import ReportCount
from service.issues.models import Issue
from service.newsroom import sessions
from service.newsroom.models import Editor, EditorSession, EditorState, Item, Notice
from service.privacy import erasure
from service.subscribers import confirmation
from service.subscribers.models import (
    Confirmation,
    Erasure,
    Letter,
    SignupRequest,
    State,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)

STEP = 1000
YEAR = timedelta(days=365)
EVIDENCE = 2 * YEAR
LETTERS = timedelta(days=30)  # a bounce or complaint about the address that a reader left may come late (returned.py)
DEAD_ADDRESS = 2 * YEAR
ERASURES = YEAR  # as long as the oldest backup (README)
REPORT_COUNTS = YEAR
EDITORS = YEAR
INVITATIONS = timedelta(days=30)
NOTICES = timedelta(days=30)


def forms(*, session: Session, now: datetime) -> int:
    """Those that no worker took: `intake.take` would refuse them."""
    return _delete(session, SignupRequest.id, SignupRequest.at < now - confirmation.LIFE)


def letters(*, session: Session, now: datetime) -> int:
    return _delete(session, Letter.id, Letter.asked_at < now - LETTERS)


def readers(*, session: Session, now: datetime) -> int:
    """Who left every theme long ago, and who has nothing left: the evidence becomes a count, the address goes."""
    query = select(Subscriber.id).where(_gone(now)).order_by(Subscriber.id).limit(STEP)
    held = session.scalars(query.with_for_update(skip_locked=True, of=Subscriber)).all()
    # Again, now that nobody can sign up meanwhile: who just did stays.
    ids = session.scalars(select(Subscriber.id).where(Subscriber.id.in_(held), _gone(now))).all() if held else []
    if not ids:
        return 0
    erasure.fold_consents(session=session, subscriber_ids=ids)
    for model in (Subscription, Confirmation, Letter):
        _run(session, delete(model).where(model.subscriber_id.in_(ids)))
    _run(session, delete(Subscriber).where(Subscriber.id.in_(ids)))
    return len(ids)


def _gone(now: datetime) -> ColumnElement[bool]:
    fresh = or_(Subscription.state != State.ENDED, Subscription.ended_at >= now - EVIDENCE)
    had = exists().where(Subscription.subscriber_id == Subscriber.id)
    kept = exists().where(Subscription.subscriber_id == Subscriber.id, fresh)
    asked = exists().where(Confirmation.subscriber_id == Subscriber.id)
    written = exists().where(Letter.subscriber_id == Subscriber.id)
    lonely = and_(~had, ~asked, ~written, Subscriber.created_at < now - confirmation.LIFE)
    return or_(and_(had, ~kept), lonely)


def dead_addresses(*, session: Session, now: datetime) -> int:
    bounced = and_(Suppression.reason == SuppressionReason.HARD_BOUNCE, Suppression.at < now - DEAD_ADDRESS)
    return _delete(session, Suppression.address_hash, bounced)


def erasures(*, session: Session, now: datetime) -> int:
    return _delete(session, Erasure.address_hash, Erasure.at < now - ERASURES)


def report_counts(*, session: Session, now: datetime) -> int:
    return _delete(session, ReportCount.day, ReportCount.day < (now - REPORT_COUNTS).date())


def editor_sessions(*, session: Session, now: datetime) -> int:
    return _delete(session, EditorSession.token_hash, EditorSession.created_at < now - sessions.LIFE)


def notices(*, session: Session, now: datetime) -> int:
    return _delete(session, Notice.id, Notice.created_at < now - NOTICES)


def invitations(*, session: Session, now: datetime) -> int:
    """Those of people who never came. Somebody who wrote here and is to choose a new password counts as who left."""
    wrote = or_(exists().where(Item.author_id == Editor.id), exists().where(Issue.approved_by_id == Editor.id))
    asked = and_(Editor.state == EditorState.INVITED, Editor.invited_at < now - INVITATIONS)
    return _forget_editors(session, and_(asked, ~wrote))


def editors(*, session: Session, now: datetime) -> int:
    """What they wrote and approved stays, without their name."""
    since = now - EDITORS
    left = and_(Editor.state == EditorState.LEFT, Editor.left_at < since)
    silent = and_(Editor.state == EditorState.INVITED, Editor.invited_at < since)
    return _forget_editors(session, or_(left, silent))


def _forget_editors(session: Session, which: ColumnElement[bool]) -> int:
    query = select(Editor.id).where(which).order_by(Editor.id).limit(STEP)
    ids = session.scalars(query.with_for_update(skip_locked=True)).all()
    if not ids:
        return 0
    _run(session, update(Item).where(Item.author_id.in_(ids)).values(author_id=None))
    _run(session, update(Issue).where(Issue.approved_by_id.in_(ids)).values(approved_by_id=None))
    for model in (Notice, EditorSession):
        _run(session, delete(model).where(model.editor_id.in_(ids)))
    _run(session, delete(Editor).where(Editor.id.in_(ids)))
    return len(ids)


def _delete(session: Session, key: InstrumentedAttribute[Any], which: ColumnElement[bool]) -> int:
    found: Sequence[Any] = session.scalars(select(key).where(which).distinct().order_by(key).limit(STEP)).all()
    if found:
        _run(session, delete(key.class_).where(key.in_(found), which))
    return len(found)


def _run(session: Session, statement: Any) -> None:
    session.execute(statement.execution_options(synchronize_session=False))
