"""Reads the mailbox of RETURN_ADDRESS and empties it, over IMAP (RFC 3501).

Each mail is taken in a transaction of its own and goes only after that: one that came twice is one. It has a flag while
it is looked at. So what can't be handled stays, with that flag, out of the way of those behind it; also what hangs or
kills the worker. Two that read at once do no harm.
"""

from __future__ import annotations

import contextlib
import imaplib
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError

from service import db, settings
from service.delivery import inbox, report_counts, returned

PATIENCE = 30.0  # seconds for an answer
AT_ONCE, SECONDS = 200, 60.0  # others wait for this thread
WINDOW = 1000  # mails that a search looks at: a full mailbox mustn't give an answer without end
FAILED = "failed"  # as it is counted
TRIES = 3  # of a mail about a reader with whom somebody else is busy
CROSSED = ("40P01", "40001")  # PostgreSQL's deadlock_detected and serialization_failure

log = structlog.get_logger()


class Mailbox:
    """Open, as a context. Raises imaplib.IMAP4.error or OSError for whatever the server does wrong."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._name = unquote(parts.path.strip("/")) or "INBOX"
        self._done: list[str] = []
        if parts.scheme == "imaps":
            tls = ssl.create_default_context()
            self._imap: imaplib.IMAP4 = imaplib.IMAP4_SSL(host, parts.port or 993, ssl_context=tls, timeout=PATIENCE)
        else:
            self._imap = imaplib.IMAP4(host, parts.port or 143, timeout=PATIENCE)

    def __enter__(self) -> Mailbox:
        try:
            if "AUTH=PLAIN" in self._imap.capabilities:
                self._imap.authenticate("PLAIN", lambda _: f"\0{self._user}\0{self._password}".encode())
            else:
                self._imap.login(self._user, self._password)
            self._can = bytes(_good(self._imap.capability())[-1]).upper().split()
            quoted = self._name.replace("\\", "\\\\").replace('"', '\\"')
            _good(self._imap.select(f'"{quoted}"'))
            _good(self._imap.expunge())  # what was taken just before the line broke
            self._size = int(_good(self._imap.select(f'"{quoted}"'))[0])
        except BaseException:
            self._imap.shutdown()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        """What was taken goes, also when we stumbled over one after it."""
        try:
            if self._done:
                self._expunge()
        finally:
            with contextlib.suppress(imaplib.IMAP4.error, OSError):
                self._imap.logout()

    def waiting(self, most: int) -> list[str]:
        """UIDs, the oldest first, without those that were set aside."""
        found: list[str] = []
        for first in range(1, self._size + 1, WINDOW):
            span = f"{first}:{min(first + WINDOW - 1, self._size)}"
            for line in _good(self._imap.uid("SEARCH", span, "UNDELETED", "UNFLAGGED")):
                found += (line or b"").decode().split()
            if len(found) >= most:
                break
        return found[:most]

    def fetch(self, uid: str) -> bytes | None:
        """Its beginning, which is all that a report needs. None: another reader had it."""
        for part in _good(self._imap.uid("FETCH", uid, f"(BODY.PEEK[]<0.{returned.LARGEST}>)")):
            if isinstance(part, tuple):
                return bytes(part[1])
        return None

    def drop(self, uid: str) -> None:
        _good(self._imap.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)"))
        self._done.append(uid)

    def set_aside(self, uid: str) -> None:
        _good(self._imap.uid("STORE", uid, "+FLAGS.SILENT", r"(\Flagged)"))

    def put_back(self, uid: str) -> None:
        _good(self._imap.uid("STORE", uid, "-FLAGS.SILENT", r"(\Flagged)"))

    def _expunge(self) -> None:
        """Ours only, where the server can (RFC 4315)."""
        if b"UIDPLUS" in self._can:
            _good(self._imap.uid("EXPUNGE", ",".join(self._done)))
        else:
            _good(self._imap.expunge())


def read(*, clock: Callable[[], datetime], halted: Callable[[], bool]) -> None:
    """As many as fit in one go; rings again for the rest."""
    url = settings.current().inbox_url
    if not url:
        return
    try:
        with Mailbox(url) as mailbox:
            more = _read(mailbox, clock, halted)
    except (imaplib.IMAP4.error, OSError) as fault:
        log.error("inbox_unread", fault=type(fault).__name__, why=str(fault))
        return
    except (OperationalError, InterfaceError) as fault:  # nothing is lost: it stays in the mailbox
        log.error("database_away", fault=type(fault.orig).__name__)
        return
    with db.transaction() as session:
        inbox.done(session=session, now=clock())
        if more and not halted():
            inbox.again(session=session, now=clock())


def _read(mailbox: Mailbox, clock: Callable[[], datetime], halted: Callable[[], bool]) -> bool:
    """Is there more?"""
    until = time.monotonic() + SECONDS
    waiting = mailbox.waiting(AT_ONCE)
    for uid in waiting:
        if halted() or time.monotonic() > until:
            return True
        raw = mailbox.fetch(uid)
        if raw is None:
            continue
        mailbox.set_aside(uid)
        try:
            if _take(raw, clock):
                mailbox.drop(uid)
        except (OperationalError, InterfaceError):
            mailbox.put_back(uid)
            raise
    return len(waiting) == AT_ONCE


def _take(raw: bytes, clock: Callable[[], datetime]) -> bool:
    """False: it is to stay set aside."""
    try:
        for left in reversed(range(TRIES)):
            if _taken(raw, clock, last=not left):
                break
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # whatever it is, it must not hold up those behind it
        log.exception("report_not_taken")
        with db.transaction() as session:
            report_counts.add(session=session, now=clock(), sort=FAILED)
        return False
    return True


def _taken(raw: bytes, clock: Callable[[], datetime], *, last: bool) -> bool:
    """False: somebody came in between."""
    try:
        with db.transaction() as session:
            returned.take(session=session, now=clock(), raw=raw)
    except (IntegrityError, OperationalError) as fault:
        crossed = isinstance(fault, IntegrityError) or getattr(fault.orig, "sqlstate", None) in CROSSED
        if last or not crossed:
            raise
        return False
    return True


def _good(answer: tuple[str, Sequence[Any]]) -> Sequence[Any]:
    """imaplib raises for BAD only."""
    word, data = answer
    if word != "OK":
        raise imaplib.IMAP4.error(f"{word} {data!r}")
    return data
