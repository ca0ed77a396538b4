"""Mails that `vinkje up` caught: files in DATA_DIR with a reader's address and links in them."""

from __future__ import annotations

import contextlib
import email
import email.policy
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import folder, settings
from service.privacy.spellings import Spelled
from service.subscribers import erasures
from service.subscribers.models import Letter, Subscriber

KEEP = timedelta(days=30)
STEP = 1000


def held() -> bool:
    """Whether any is left, also long after mail went out for real."""
    return any(_mails())


def expire(*, session: Session, now: datetime) -> int:
    """Also after the trial, by whoever has its DATA_DIR: their links to leave work for good."""
    old = (path for path in _mails() if _came_at(path) < now - KEEP)
    gone = list(islice(old, STEP))
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)


def forget(*, emails: Collection[str]) -> None:
    """Throw away each caught mail to or about one of these. Where no mail is caught there is nothing to do.

    In the transaction and not after it: the address is known nowhere once that is over. A rollback costs no more
    than mails which only this machine shows.
    """
    spelled = [Spelled(one) for one in emails]
    for path in _mails():
        with contextlib.suppress(FileNotFoundError):  # it made room for a newer one
            data = path.read_bytes()
            if any(one.inside(data) for one in spelled):
                path.unlink()


def sweep(*, session: Session, since: datetime) -> None:
    """The same for mails that came after `since` to who was erased by then, and isn't a reader anew. One that tells an
    old address of its change is let be: its row has the address as long (retention).
    """
    fresh = [path for path in _mails() if _came_at(path) > since]
    sent_to = {path: key for path in fresh if (key := _recipient(path))}
    gone = erasures.known(session=session, email_keys=set(sent_to.values()))
    if not gone:
        return
    kept = set(session.scalars(select(Subscriber.email_key).where(Subscriber.email_key.in_(gone))))
    kept |= {one.lower() for one in session.scalars(select(Letter.email))}
    for path, key in sent_to.items():
        if key in gone and key not in kept:
            path.unlink(missing_ok=True)


def _mails() -> Iterator[Path]:
    """Also what a kill left half written."""
    found = (settings.current().data_dir / folder.MAILBOX).glob(f"{'[0-9]' * 20}.*")
    yield from sorted(path for path in found if path.suffix in (".eml", folder.HALF))


def _came_at(path: Path) -> datetime:
    """Its name says so, in nanoseconds (worker/mailbox.py)."""
    return datetime.fromtimestamp(int(path.stem) / 1e9, UTC)


def _recipient(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        to = email.message_from_binary_file(file, policy=email.policy.default)["To"]
        return to.addresses[0].addr_spec.lower() if to and to.addresses else ""
    return ""
