"""Mails to one editor: an invitation, "ready to approve", a test send, an alarm, an issue that stands still."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from service import i18n, links, mail, settings
from service.issues import alarms, editions, models, rota, stops
from service.issues.models import Issue, IssueState
from service.newsroom import editors
from service.newsroom.models import EditorState, Notice, NoticeKind, Role


def compose(*, session: Session, now: datetime, notice_id: int) -> mail.Outbound | None:
    """None when the notice is out of date: nothing is mailed then."""
    notice = session.get(Notice, notice_id)
    if notice is None or notice.editor.state is EditorState.LEFT:
        return None
    message = {
        NoticeKind.INVITATION: _invitation,
        NoticeKind.READY: _ready,
        NoticeKind.TEST_SEND: _test_send,
        NoticeKind.ALARM: _alarm,
        NoticeKind.HELD: _stopped,
        NoticeKind.PAUSED: _stopped,
        NoticeKind.WAITS: _stopped,
    }[notice.kind](session, now, notice)
    if message is None:
        return None
    return mail.Outbound(recipient=notice.editor.email, sender=mail.return_address(), message=message)


def _invitation(session: Session, now: datetime, notice: Notice) -> bytes | None:
    editor = notice.editor
    if editor.state is not EditorState.INVITED or editor.invited_at is None:
        return None
    until = editor.invited_at + editors.INVITATION_LIFE
    if now > until:
        return None
    rendered = mail.render(
        "invitation",
        language=notice.language,
        name=editor.name,
        role=str(editor.role),
        invitation_url=links.invitation(editor.id, editor.password_version),
        until=i18n.day_and_hour(notice.language, until),
    )
    return _composed(rendered, now, notice)


def _ready(session: Session, now: datetime, notice: Notice) -> bytes | None:
    issue = _issue(session, notice)
    if issue is None or issue.state is not IssueState.ASSEMBLED:
        return None
    rendered = mail.render(
        "ready",
        language=notice.language,
        theme=issue.theme.name(notice.language),
        week=rota.number(issue.week),
        titles=[item.title for item in editions.of(session=session, issue=issue)],
        moment=i18n.day_and_hour(notice.language, issue.send_at),
        issue_url=links.page(f"newsroom/issues/{issue.id}"),
    )
    return _composed(rendered, now, notice)


def _test_send(session: Session, now: datetime, notice: Notice) -> bytes | None:
    """What readers get, but for the subject's first word and the links, which change nothing."""
    issue = _issue(session, notice)
    if issue is None or issue.state not in models.SHOWABLE:
        return None
    rendered = editions.shown(session=session, issue=issue, language=notice.language)
    if rendered is None:
        return None
    marked = mail.Rendered(
        subject=i18n.gettext(notice.language, "[Test] %(subject)s", subject=rendered.subject),
        html=rendered.html,
        text=rendered.text,
    )
    unsubscribe, preferences = editions.sample_links()
    return editions.cut(issue=issue, rendered=marked, language=notice.language, date=now).fill(
        to=notice.editor.email,
        message_id=mail.message_id("t", notice.id),
        unsubscribe=unsubscribe,
        preferences=preferences,
    )


def _alarm(session: Session, now: datetime, notice: Notice) -> bytes | None:
    editor = notice.editor
    if editor.role is not Role.ADMIN or editor.state is not EditorState.ACTIVE:
        return None
    rendered = mail.render(
        "alarm",
        language=notice.language,
        hour=i18n.hour(notice.created_at),
        count=settings.current().signups_per_hour,
        hours=int(alarms.QUIET.total_seconds() // 3600),
        desk_url=links.page("newsroom/"),
    )
    return _composed(rendered, now, notice)


def _stopped(session: Session, now: datetime, notice: Notice) -> bytes | None:
    issue = _issue(session, notice)
    if issue is None or stops.kind_of(issue) is not notice.kind or not notice.editor.role.covers(Role.CHIEF):
        return None
    rendered = mail.render(
        "stopped",
        language=notice.language,
        kind=str(notice.kind),
        note=issue.note,
        theme=issue.theme.name(notice.language),
        week=rota.number(issue.week),
        moment=i18n.day_and_hour(notice.language, issue.send_at),
        approved=issue.state is IssueState.APPROVED,
        over=rota.is_over(now=now, week=issue.week),
        issue_url=links.page(f"newsroom/issues/{issue.id}"),
    )
    return _composed(rendered, now, notice)


def _issue(session: Session, notice: Notice) -> Issue | None:
    return session.get(Issue, notice.issue_id) if notice.issue_id else None


def _composed(rendered: mail.Rendered, now: datetime, notice: Notice) -> bytes:
    return mail.compose(
        rendered,
        to=notice.editor.email,
        to_name=notice.editor.name,
        stream=mail.Stream.NOTICE,
        now=now,
        message_id=mail.message_id("n", notice.id),
    )
