"""What administrators hear of at once: the sign-up form is at its ceiling (requirements 4.4)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from service import jobs
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role
from service.subscribers import signup

QUIET = timedelta(hours=6)  # from one mail about it to the next


def tell(*, session: Session, now: datetime) -> None:
    """Mail every administrator, unless that was done within QUIET."""
    if not signup.full(session=session, now=now):
        return
    query = select(Editor).where(Editor.role == Role.ADMIN, Editor.state == EditorState.ACTIVE)
    # Held until commit: of two ticks at once the second sees what the first one did.
    admins = session.scalars(query.order_by(Editor.id).with_for_update()).all()
    if session.scalar(select(exists().where(Notice.kind == NoticeKind.ALARM, Notice.created_at > now - QUIET))):
        return
    for admin in admins:
        notice = Notice(kind=NoticeKind.ALARM, editor_id=admin.id, language=admin.language, created_at=now, due_at=now)
        session.add(notice)
        session.flush()
        jobs.enqueue(session, jobs.SEND_NOTICE, notice.id)
