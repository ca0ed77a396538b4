"""The circuit breaker: a relay that is down, refuses to log in, or says 5.7.x to everything (requirements 1.10).

`trip` pauses every round that is going out, with the reason as its note, and charges nobody. The tick asks
`due` and rings for a probe; when the relay answers, `heal` lets the paused rounds go on. After refusals a
probe can't tell, so the rounds themselves are the next try: it trips again, after a longer pause.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service import db
from service.delivery import nudges
from service.delivery.models import Relay, Trouble
from service.issues.models import Issue, IssueState

NAME = "newsletter"
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
RECENT = timedelta(minutes=1)
SLOW_DOWN = timedelta(minutes=10)  # "stop ≥10 min" (requirements 1.10)
NOTES = frozenset(str(trouble) for trouble in Trouble)

log = structlog.get_logger()


def relay(*, session: Session, now: datetime) -> Relay:
    """The one row, made when it isn't there."""
    found = session.get(Relay, NAME, populate_existing=True)
    if found is None:
        row = db.insert(session, Relay).values(name=NAME, status="", text="", probes=0, tokens=0.0, filled_at=now)
        session.execute(row.on_conflict_do_nothing())
        found = session.get_one(Relay, NAME)
    return found


def look(*, session: Session) -> Relay:
    """For doors that only look: a row that isn't kept, when there is none."""
    return session.get(Relay, NAME, populate_existing=True) or Relay(
        name=NAME, status="", text="", probes=0, tokens=0.0
    )


def trip(*, session: Session, now: datetime, trouble: Trouble, status: str = "", text: str = "") -> None:
    """The first worker's word counts; later ones change nothing until the next probe."""
    row = lock(session=session, now=now)
    if row.trouble is None:
        again = row.since is not None and (row.accepted_at is None or row.accepted_at < row.since)
        row.probes = row.probes + 1 if again else 0
        row.since = now
        _wait(row, now, trouble, status, text)
        log.error("relay_trouble", trouble=str(trouble), status=status, text=text, probe_at=str(row.probe_at))
    session.execute(
        update(Issue)
        .where(Issue.state == IssueState.SENDING)
        .values(state=IssueState.PAUSED, note=str(row.trouble))
        .execution_options(synchronize_session=False)
    )
    session.flush()


def due(*, session: Session, now: datetime) -> bool:
    """Is it time to try the relay again?"""
    row = session.get(Relay, NAME, populate_existing=True)
    return row is not None and row.trouble is not None and row.probe_at is not None and row.probe_at <= now


def still(*, session: Session, now: datetime, trouble: Trouble, status: str = "", text: str = "") -> None:
    """A probe in vain: the next one comes later."""
    row = lock(session=session, now=now)
    if row.trouble is None:
        return
    row.probes += 1
    _wait(row, now, trouble, status, text)
    session.execute(
        update(Issue)
        .where(Issue.state == IssueState.PAUSED, Issue.note.in_(NOTES))
        .values(note=str(trouble))
        .execution_options(synchronize_session=False)
    )
    session.flush()


def heal(*, session: Session, now: datetime) -> list[int]:
    """The relay answers, or somebody says that it does: what it paused goes on. Gives the issues.

    `since` stays, so that trouble which comes back before a mail was taken meets a longer pause.
    """
    row = lock(session=session, now=now)
    row.trouble, row.status, row.text, row.probe_at = None, "", "", None
    session.flush()
    waiting = select(Issue).where(Issue.state == IssueState.PAUSED, Issue.note.in_(NOTES)).order_by(Issue.id)
    issues = session.scalars(waiting.with_for_update().execution_options(populate_existing=True)).all()
    for issue in issues:
        issue.move(IssueState.SENDING)
        issue.note = ""
    session.flush()
    for issue in issues:
        nudges.ring(session=session, now=now, issue_id=issue.id)
        log.info("round_resumed", issue=issue.id)
    return [issue.id for issue in issues]


def accepted(*, session: Session, now: datetime) -> None:
    """The relay takes our newsletters."""
    relay(session=session, now=now)
    session.execute(
        update(Relay).where(Relay.name == NAME).values(accepted_at=now).execution_options(synchronize_session=False)
    )


def takes(*, session: Session, now: datetime) -> bool:
    """Did it take a newsletter of anybody's lately?"""
    row = session.get(Relay, NAME, populate_existing=True)
    return row is not None and row.accepted_at is not None and row.accepted_at > now - RECENT


def _wait(row: Relay, now: datetime, trouble: Trouble, status: str, text: str) -> None:
    row.trouble, row.status, row.text = trouble, status[:20], text[:200]
    pause = min(FIRST_PAUSE * (1 << min(row.probes, 10)), LONGEST_PAUSE)
    row.probe_at = now + (SLOW_DOWN if trouble is Trouble.SLOW_DOWN else pause)
    if trouble is Trouble.SLOW_DOWN:
        row.slowed_until = row.probe_at


def lock(*, session: Session, now: datetime) -> Relay:
    """The row, held until commit."""
    relay(session=session, now=now)
    query = select(Relay).where(Relay.name == NAME).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()
