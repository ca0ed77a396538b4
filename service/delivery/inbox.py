"""When the mailbox of RETURN_ADDRESS was looked into. worker/inbox.py does the reading."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from service import heartbeat, jobs, settings

BETWEEN = timedelta(minutes=5)
RUNG, READ = "inbox_rung", "inbox_read"


def ring(*, session: Session, now: datetime) -> bool:
    """For the tick. Noted before it is read: a mailbox that doesn't answer is asked no more often."""
    if not settings.current().inbox_url:
        return False
    last = heartbeat.last(session=session, name=RUNG)
    if last is not None and last > now - BETWEEN:
        return False
    again(session=session, now=now)
    return True


def again(*, session: Session, now: datetime) -> None:
    """At once: there is more in it than could be read in one go."""
    heartbeat.beat(session=session, now=now, name=RUNG)
    jobs.enqueue(session, jobs.READ_INBOX)


def done(*, session: Session, now: datetime) -> None:
    heartbeat.beat(session=session, now=now, name=READ)


def last_read(*, session: Session) -> datetime | None:
    return heartbeat.last(session=session, name=READ)
