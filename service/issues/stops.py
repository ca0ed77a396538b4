"""Chiefs hear of an issue that stands still by no word of theirs: its hour was missed, or trouble paused its round.

A notice lives as long as the standstill that it tells of: while there is one, nobody is mailed again, and once it has
gone, the next standstill is told anew. But no notice outlives its time in the privacy page's table (30 days): an issue
that stands still longer is told again each time that is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy.orm import Session

from service import jobs
from service.issues import models
from service.issues.models import Issue, IssueState
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role

KINDS = (NoticeKind.HELD, NoticeKind.PAUSED, NoticeKind.WAITS)
# What waits for the relay goes on by itself, mostly within minutes; and while it tries, it may stop time and again.
PATIENCE = timedelta(minutes=15)
QUIET = timedelta(hours=6)
RELAY = "relay_"  # begins the note of what waits for it


def kind_of(issue: Issue) -> NoticeKind | None:
    """How the issue stands still; None when it doesn't, or because an editor wants it so."""
    if issue.held_since is not None and issue.state in models.EARLY:
        return NoticeKind.HELD
    if issue.state is IssueState.PAUSED and issue.note:
        return NoticeKind.WAITS if issue.note.startswith(RELAY) else NoticeKind.PAUSED
    return None


def tell(*, session: Session, now: datetime) -> None:
    """Mail every chief, once for each standstill; of a long one each month."""
    _forget(session, now)
    held = and_(Issue.state.in_(models.EARLY), Issue.held_since.is_not(None))
    paused = and_(Issue.state == IssueState.PAUSED, Issue.note != "")
    issues = session.scalars(select(Issue).where(or_(held, paused)).order_by(Issue.id)).all()
    if not issues:
        return
    chiefs = select(Editor).where(Editor.state == EditorState.ACTIVE, Editor.role.in_((Role.CHIEF, Role.ADMIN)))
    # Held until commit: of two ticks at once the second sees what the first one did.
    editors = session.scalars(chiefs.order_by(Editor.id).with_for_update()).all()
    for issue in issues:
        kind = kind_of(issue)
        if kind is not None and not session.scalar(
            select(exists().where(Notice.issue_id == issue.id, Notice.kind == kind))
        ):
            for editor in editors:
                _tell(session, now, kind, issue, editor)


def _tell(session: Session, now: datetime, kind: NoticeKind, issue: Issue, editor: Editor) -> None:
    notice = Notice(
        kind=kind, editor_id=editor.id, issue_id=issue.id, language=editor.language, created_at=now, due_at=now
    )
    if kind is NoticeKind.WAITS:
        notice.due_at = now + PATIENCE
    session.add(notice)
    session.flush()
    if notice.due_at == now:
        jobs.enqueue(session, jobs.SEND_NOTICE, notice.id)


def _forget(session: Session, now: datetime) -> None:
    """Of what is over. One that still has to go out stays: whether there is anything to tell is seen when it does."""
    query = select(Notice, Issue).join(Issue, Issue.id == Notice.issue_id).where(Notice.kind.in_(KINDS))
    over = [
        notice.id
        for notice, issue in session.execute(query.where(Notice.due_at.is_(None)))
        if _is_over(notice, issue, now)
    ]
    if over:
        session.execute(delete(Notice).where(Notice.id.in_(over)))


def _is_over(notice: Notice, issue: Issue, now: datetime) -> bool:
    if notice.kind is not NoticeKind.WAITS:
        return kind_of(issue) is not notice.kind
    if notice.mailed_at is None:
        return True  # it found the round going on, or the relay refused it: if it stands still now, that is told later
    return kind_of(issue) is not notice.kind and notice.created_at <= now - QUIET
