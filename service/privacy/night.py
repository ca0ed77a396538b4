"""The night's work, begun at the first tick after three o'clock: the table of retention.py is applied, and readers
whom no mail reaches are ended.

A night that was missed is made up for at the first tick there is. What is noted is that it was done, so that a bell
that nobody heard, and a job that died, are rung for again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from service import db, heartbeat, i18n, jobs

THREE = 3  # o'clock in Amsterdam: a quiet hour
QUIET = timedelta(minutes=15)  # so long a bell has to be heard, and a job to go on by itself
DONE, RUNG, ENDED = "retention done", "retention rung", "unreachable rung"


def ring(*, session: Session, now: datetime) -> None:
    """For the tick. In a new house nothing is old: it begins with the next night."""
    done = heartbeat.last(session=session, name=DONE)
    if done is None:
        finish(session=session, now=now)
        return
    rung = heartbeat.last(session=session, name=RUNG)
    if done < last_three(now) and (rung is None or rung <= now - QUIET):
        go_on(session=session, now=now)
        _end_unreachable(session, now)


def _end_unreachable(session: Session, now: datetime) -> None:
    """Once a night, also when the table takes all day: it reads much. What isn't heard waits for the next."""
    rung = heartbeat.last(session=session, name=ENDED)
    if rung is None or rung < last_three(now):
        heartbeat.beat(session=session, now=now, name=ENDED)
        jobs.enqueue(session, jobs.END_UNREACHABLE, 0)


def go_on(*, session: Session, now: datetime) -> None:
    heartbeat.beat(session=session, now=now, name=RUNG)
    jobs.enqueue(session, jobs.APPLY_RETENTION)


def finish(*, session: Session, now: datetime) -> None:
    """With it goes from SQLite's log what was taken out by day, or while somebody was reading."""
    db.scrub(session)
    heartbeat.beat(session=session, now=now, name=DONE)


def last_three(now: datetime) -> datetime:
    local = now.astimezone(i18n.HERE)
    three = local.replace(hour=THREE, minute=0, second=0, microsecond=0)
    return three if three <= local else three - timedelta(days=1)
