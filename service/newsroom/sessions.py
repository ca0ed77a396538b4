"""Signed-in browsers. The browser holds a random token, the database its SHA-256; ending a row ends the session.

Idle for twelve hours or older than a week: sign in again (requirements 6.2, ASVS 7.3). Idle counts from the last
form that was sent, since a page that is only looked at writes nothing; twelve hours, so that an editor who signs in
in the morning and reads all day loses no text. A week, so that a stolen cookie dies by itself.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from service import errors, throttle
from service.newsroom import passwords
from service.newsroom.models import Editor, EditorSession, EditorState

IDLE = timedelta(hours=12)
LIFE = timedelta(days=7)
# Bookkeeping of who is still there; not at each form.
TOUCH = timedelta(minutes=5)

WINDOW = timedelta(minutes=15)
# Tries in WINDOW. Few for one editor from one network; more from everywhere, so that a stranger who knows
# the address can't simply lock its owner out.
PER_EDITOR_AND_NETWORK = 5
PER_EDITOR = 50
PER_NETWORK = 30


def knock(*, session: Session, now: datetime, email: str, network: str) -> None:
    """Count a try, before the password is looked at. Commit it by itself, then call `sign_in`.

    Counted after the check, guesses sent side by side would all pass, and a refusal's rollback would
    forget them. Raises Throttled.
    """
    address = _normal(email)
    for kind, who, most in (
        ("login_pair", f"{address} {network}", PER_EDITOR_AND_NETWORK),
        ("login_editor", address, PER_EDITOR),
        ("login_network", network, PER_NETWORK),
    ):
        if throttle.count(session=session, kind=kind, who=who, since=now - WINDOW) >= most:
            raise errors.Throttled(
                "Too many tries. Wait %(minutes)s minutes and try again.",
                seconds=int(WINDOW.total_seconds()),
                minutes=int(WINDOW.total_seconds() // 60),
            )
        throttle.note(session=session, kind=kind, who=who, now=now)


def sign_in(*, session: Session, now: datetime, email: str, password: str, network: str) -> str:
    """A new token, never one the browser came with. Raises Refused with one answer for every reason."""
    address = _normal(email)
    editor = session.scalar(select(Editor).where(Editor.email == address)) if address.isprintable() else None
    may = editor is not None and editor.state is EditorState.ACTIVE
    if not passwords.fits(password, editor.password_hash if editor and may else "") or editor is None:
        raise errors.Refused("password", "This address and password don’t belong together.")
    throttle.forget(session=session, kind="login_pair", who=f"{address} {network}")
    throttle.forget(session=session, kind="login_editor", who=address)
    editor.password_hash = passwords.renewed(password, editor.password_hash)
    _expire(session, now, editor.id)
    token = secrets.token_urlsafe(32)
    session.add(EditorSession(token_hash=_hash(token), editor_id=editor.id, created_at=now, seen_at=now))
    return token


def find(*, session: Session, now: datetime, token: str) -> EditorSession | None:
    """None when it was ended, is too old, or its editor has left."""
    found = session.get(EditorSession, _hash(token), populate_existing=True)
    if found is None or found.revoked_at is not None or found.editor.state is not EditorState.ACTIVE:
        return None
    return found if now < found.seen_at + IDLE and now < found.created_at + LIFE else None


def count(*, session: Session, now: datetime, editor_id: int) -> int:
    """How many of the editor's browsers are signed in."""
    query = select(func.count()).where(
        EditorSession.editor_id == editor_id,
        EditorSession.revoked_at.is_(None),
        EditorSession.seen_at > now - IDLE,
        EditorSession.created_at > now - LIFE,
    )
    return session.scalar(query) or 0


def touch(*, session: Session, now: datetime, token: str) -> None:
    """Note that the editor is still there; does nothing within TOUCH of the last time."""
    session.execute(
        update(EditorSession)
        .where(
            EditorSession.token_hash == _hash(token),
            EditorSession.revoked_at.is_(None),
            EditorSession.seen_at < now - TOUCH,
        )
        .values(seen_at=now)
    )


def sign_out(*, session: Session, now: datetime, token: str) -> None:
    session.execute(
        update(EditorSession)
        .where(EditorSession.token_hash == _hash(token), EditorSession.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def revoke_all(*, session: Session, now: datetime, editor_id: int, but: str | None = None) -> int:
    """End all the editor's sessions, or all but the one of token `but`. Returns how many."""
    query = update(EditorSession).where(EditorSession.editor_id == editor_id, EditorSession.revoked_at.is_(None))
    if but is not None:
        query = query.where(EditorSession.token_hash != _hash(but))
    ended = session.execute(query.values(revoked_at=now))
    return ended.rowcount  # type: ignore[attr-defined,no-any-return]  # a DML result has it


def _expire(session: Session, now: datetime, editor_id: int) -> None:
    session.execute(
        delete(EditorSession).where(EditorSession.editor_id == editor_id, EditorSession.created_at < now - LIFE)
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _normal(email: str) -> str:
    return email.strip().lower()
