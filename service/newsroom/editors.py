"""Editors: who writes, and what they may do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors, i18n, jobs, throttle
from service.newsroom import passwords, sessions
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role

INVITATION_LIFE = timedelta(days=7)
# An editor whose session was stolen floods nobody (requirements 4.4): invitations by one, and to one address.
BY_ONE: throttle.Caps = ((timedelta(hours=1), 20),)
TO_ONE: throttle.Caps = ((timedelta(hours=24), 5),)


def add(
    *, session: Session, now: datetime, email: str, name: str, role: Role, password: str, language: str = "nl"
) -> Editor:
    """An editor who can sign in at once; for the operator, who hands over the password."""
    editor = _new(session, now, email, name, role, language, EditorState.ACTIVE)
    _set_password(editor, password)
    session.flush()
    return editor


def invite(
    *, session: Session, now: datetime, email: str, name: str, role: Role, language: str, by: int | None = None
) -> Editor:
    """Mails a link that works once, for INVITATION_LIFE. For who left, it's the way back in.
    `by` is the editor who asks for it. Raises Throttled.
    """
    known = session.scalar(select(Editor).where(Editor.email == _address(email)))
    if known is None:
        editor = _new(session, now, email, name, role, language, EditorState.INVITED)
    elif known.state is EditorState.ACTIVE:
        raise errors.Refused("email", "There is an editor with this address already.")
    else:
        editor = known
        editor.name, editor.role, editor.language = _name(name), role, _language(language)
        editor.state, editor.left_at = EditorState.INVITED, None
        editor.password_version += 1  # the older invitation must not work beside this one
    return _mail_invitation(session, now, editor, by)


def reinvite(*, session: Session, now: datetime, editor_id: int, by: int | None = None) -> Editor:
    """The way back in for who forgot the password: ends it and its sessions, and mails a link to choose another.
    Raises Conflict for the last admin, who would shut everybody out until that mail is read, and Throttled.
    """
    editor = _locked(session, editor_id)
    if editor.state is EditorState.LEFT:
        raise errors.Conflict("This editor has left. Invite them with the form.")
    if editor.state is EditorState.ACTIVE:
        _keep_an_admin(session, editor)
    editor.state, editor.password_hash = EditorState.INVITED, ""
    editor.password_version += 1
    sessions.revoke_all(session=session, now=now, editor_id=editor.id)
    return _mail_invitation(session, now, editor, by)


def reset_password(*, session: Session, now: datetime, email: str, password: str) -> Editor:
    """By the operator, when nobody else can let this editor in. Ends the editor's sessions; who was invited and
    hasn't answered can sign in from now on. Raises NotFound for who has left, too.
    """
    query = select(Editor).where(Editor.email == _address(email), Editor.state != EditorState.LEFT)
    editor = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if editor is None:
        raise errors.NotFound("There is no editor with this address.")
    _set_password(editor, password)
    editor.state = EditorState.ACTIVE
    sessions.revoke_all(session=session, now=now, editor_id=editor.id)
    return editor


def invited(*, session: Session, now: datetime, editor_id: int, version: int) -> Editor:
    """The editor an invitation is for. Raises LinkRefused when it was used, replaced, or is too old."""
    editor = session.get(Editor, editor_id, with_for_update=True, populate_existing=True)
    if editor is None or editor.state is not EditorState.INVITED or editor.password_version != version:
        raise errors.LinkRefused("This invitation was used already, or a newer one has replaced it.")
    if editor.invited_at is None or now > editor.invited_at + INVITATION_LIFE:
        raise errors.LinkRefused("This invitation is too old. Ask for a new one.")
    return editor


def accept(*, session: Session, now: datetime, editor_id: int, version: int, password: str) -> Editor:
    editor = invited(session=session, now=now, editor_id=editor_id, version=version)
    _set_password(editor, password)
    editor.state = EditorState.ACTIVE
    return editor


def change_role(*, session: Session, editor_id: int, role: Role) -> Editor:
    editor = _locked(session, editor_id)
    if role is not Role.ADMIN:
        _keep_an_admin(session, editor)
    editor.role = role
    return editor


def leave(*, session: Session, now: datetime, editor_id: int) -> Editor:
    """Ends the account and its sessions; what the editor wrote stays."""
    editor = _locked(session, editor_id)
    _keep_an_admin(session, editor)
    editor.state, editor.left_at = EditorState.LEFT, now
    editor.password_hash = ""
    editor.password_version += 1
    sessions.revoke_all(session=session, now=now, editor_id=editor.id)
    return editor


def change_password(
    *, session: Session, now: datetime, editor_id: int, current: str, password: str, token: str | None
) -> Editor:
    """Ends the editor's other sessions; the one of `token` goes on."""
    editor = _locked(session, editor_id)
    if not passwords.fits(current, editor.password_hash):
        raise errors.Refused("current", "This isn’t your current password.")
    _set_password(editor, password)
    sessions.revoke_all(session=session, now=now, editor_id=editor.id, but=token)
    return editor


def change_language(*, session: Session, editor_id: int, language: str) -> Editor:
    editor = find(session=session, editor_id=editor_id)
    editor.language = _language(language)
    return editor


def find(*, session: Session, editor_id: int) -> Editor:
    editor = session.get(Editor, editor_id)
    if editor is None:
        raise errors.NotFound("There is no editor %(id)s.", id=str(editor_id))
    return editor


def every(*, session: Session) -> Sequence[Editor]:
    return session.scalars(select(Editor).order_by(Editor.state, Editor.name, Editor.id)).all()


def _new(
    session: Session, now: datetime, email: str, name: str, role: Role, language: str, state: EditorState
) -> Editor:
    made = db.insert(session, Editor).values(
        email=_address(email),
        name=_name(name),
        role=role,
        language=_language(language),
        state=state,
        password_hash="",
        password_version=0,
        created_at=now,
    )
    # Two admins may invite the same person at once. A statement that fails would put the address in PostgreSQL's log.
    editor_id = session.scalar(made.on_conflict_do_nothing().returning(Editor.id))
    if editor_id is None:
        raise errors.Refused("email", "There is an editor with this address already.")
    return session.get_one(Editor, editor_id)


def _mail_invitation(session: Session, now: datetime, editor: Editor, by: int | None) -> Editor:
    if by is not None and throttle.reached(session=session, kind="invites", who=str(by), now=now, caps=BY_ONE):
        raise errors.Throttled("You sent many invitations. Wait an hour, please.", seconds=3600)
    if throttle.reached(session=session, kind="invited", who=editor.email, now=now, caps=TO_ONE):
        raise errors.Throttled("This address got several invitations today. Try again tomorrow.", seconds=86400)
    for kind, who in (("invites", str(by)), ("invited", editor.email)):
        throttle.note(session=session, kind=kind, who=who, now=now)
    editor.invited_at = now
    session.flush()
    notice = Notice(
        kind=NoticeKind.INVITATION, editor_id=editor.id, language=editor.language, created_at=now, due_at=now
    )
    session.add(notice)
    session.flush()
    jobs.enqueue(session, jobs.SEND_NOTICE, notice.id)
    return editor


def _set_password(editor: Editor, password: str) -> None:
    editor.password_hash = passwords.hash_of(password, known=(editor.email, editor.name))
    editor.password_version += 1


def _locked(session: Session, editor_id: int) -> Editor:
    editor = session.get(Editor, editor_id, with_for_update=True, populate_existing=True)
    if editor is None:
        raise errors.NotFound("There is no editor %(id)s.", id=str(editor_id))
    return editor


def _keep_an_admin(session: Session, editor: Editor) -> None:
    """Locks all admins: two who end each other at the same moment go one after the other."""
    admins = select(Editor.id).where(Editor.role == Role.ADMIN, Editor.state == EditorState.ACTIVE).order_by(Editor.id)
    if set(session.scalars(admins.with_for_update())) == {editor.id}:
        raise errors.Conflict("This is the last admin. Make somebody else admin first.")


def _address(email: str) -> str:
    try:
        found = validate_email(email.strip(), check_deliverability=False, allow_smtputf8=False, test_environment=True)
    except EmailNotValidError:
        raise errors.Refused("email", "Enter an e-mail address, as in name@example.nl.") from None
    return found.ascii_email.lower() if found.ascii_email else found.normalized.lower()


def _name(name: str) -> str:
    shown = " ".join(name.split())
    if not shown or len(shown) > 80 or not shown.isprintable():
        raise errors.Refused("name", "Enter a name of 80 characters at most.")
    return shown


def _language(language: str) -> str:
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    return language
