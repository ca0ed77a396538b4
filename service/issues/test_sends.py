"""An edition mailed to editors only, to see it in a real mail reader before readers do."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import errors, i18n, jobs
from service.issues import models
from service.newsroom import editors
from service.newsroom.models import EditorState, Notice, NoticeKind

PER_HOUR = 20
DOUBLE_CLICK = timedelta(seconds=10)


def request(*, session: Session, now: datetime, issue_id: int, editor_id: int, language: str) -> Notice:
    """Mails the edition in `language` to the editor, once for a button pressed twice.

    Raises Conflict for an issue without items.
    """
    issue = models.find(session=session, issue_id=issue_id)
    editor = editors.find(session=session, editor_id=editor_id)
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    if editor.state is not EditorState.ACTIVE:
        raise errors.NotAllowed("Only editors get test mails.")
    if issue.state not in models.SHOWABLE or not issue.placements:
        raise errors.Conflict("This issue has no items yet, so there is nothing to test.")
    just_asked = _just_asked(session, now, issue_id, editor_id, language)
    if just_asked is not None:
        return just_asked
    if _asked_lately(session, now, editor_id) >= PER_HOUR:
        raise errors.Throttled("You asked for many test mails. Wait an hour, please.", seconds=3600)
    notice = Notice(
        kind=NoticeKind.TEST_SEND,
        editor_id=editor.id,
        issue_id=issue.id,
        language=language,
        created_at=now,
        due_at=now,
    )
    session.add(notice)
    session.flush()
    jobs.enqueue(session, jobs.SEND_NOTICE, notice.id)
    return notice


def _just_asked(session: Session, now: datetime, issue_id: int, editor_id: int, language: str) -> Notice | None:
    query = select(Notice).where(
        Notice.kind == NoticeKind.TEST_SEND,
        Notice.editor_id == editor_id,
        Notice.issue_id == issue_id,
        Notice.language == language,
        Notice.created_at > now - DOUBLE_CLICK,
    )
    return session.scalars(query.order_by(Notice.id.desc()).limit(1)).first()


def _asked_lately(session: Session, now: datetime, editor_id: int) -> int:
    query = select(func.count()).where(
        Notice.editor_id == editor_id,
        Notice.kind == NoticeKind.TEST_SEND,
        Notice.created_at > now - timedelta(hours=1),
    )
    return session.scalar(query) or 0
