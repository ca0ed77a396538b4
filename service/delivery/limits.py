"""What the relay allows, shared by all workers through the database, and changeable while a round runs.

Connections are divided over the workers that are sending now. Messages a second are tokens in one bucket:
each worker takes what it may send until it comes again, so the limit holds however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import case, delete, func, select
from sqlalchemy.orm import Session

from service import db, settings
from service.delivery import breaker
from service.delivery.models import Relay, Sender

FRESH = timedelta(seconds=5)  # a worker that wasn't heard for so long sends no more
FORGET = timedelta(hours=1)
BUCKET_SECONDS = 1.0  # what may be saved up while nobody sends
ONE_MORE = timedelta(seconds=30)  # "resume with one connection, add one by one" (requirements 1.10)


@dataclass(frozen=True)
class Limits:
    """`rate` in messages a second, 0 for no limit. Of a share: `alone`, nobody else sends; `waits`, it will have
    connections soon.
    """

    connections: int
    rate: float
    alone: bool = field(default=False, compare=False)
    waits: bool = field(default=False, compare=False)


def of(*, row: Relay) -> Limits:
    """As the operator set them, and otherwise the settings'."""
    chosen = settings.current()
    return Limits(
        connections=chosen.relay_connections if row.connections is None else row.connections,
        rate=chosen.relay_rate if row.rate is None else row.rate,
    )


def together(*, row: Relay, now: datetime) -> Limits:
    """What all workers may have now: less after a slow-down, and then one connection more each time."""
    most = of(row=row)
    if row.slowed_until is None:
        return most
    return Limits(min(most.connections, 1 + max((now - row.slowed_until) // ONE_MORE, 0)), most.rate)


def change(*, session: Session, now: datetime, connections: int | None, rate: float | None) -> Limits:
    """None goes back to the setting. Workers hear it within a second."""
    row = breaker.relay(session=session, now=now)
    row.connections, row.rate = connections, rate
    session.flush()
    return of(row=row)


def report(
    *, session: Session, now: datetime, name: str, issue_id: int | None, connections: int, rate: float
) -> Limits:
    """Say that this worker sends, and hear its share: connections, 0 when there are more workers than those,
    and whether there is a rate, of which `grant` gives a part.
    """
    values = {"issue_id": issue_id, "seen_at": now, "connections": connections, "rate": rate}
    row = db.insert(session, Sender).values(name=name, **values)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_=values))
    return _share(session, now, name)


def join(*, session: Session, now: datetime, name: str) -> Limits:
    """Before a batch: this worker's share. One that wasn't heard lately has none until it reports, half a second
    later, when others have: by then they know of it, and use fewer.
    """
    known = session.get(Sender, name, populate_existing=True)
    if known is not None and known.seen_at > now - FRESH:
        known.seen_at = max(known.seen_at, now)
        session.flush()
        return _share(session, now, name)
    breaker.lock(session=session, now=now)  # of two that join at once the second sees the first
    share = report(session=session, now=now, name=name, issue_id=None, connections=0, rate=0.0)
    return share if share.alone or not share.connections else replace(share, connections=0, waits=True)


def _share(session: Session, now: datetime, name: str) -> Limits:
    ahead = func.sum(case((Sender.name < name, 1), else_=0))
    counted = session.execute(select(func.count(), ahead).where(Sender.seen_at > now - FRESH)).one()
    number, before = counted[0] or 1, int(counted[1] or 0)
    most = together(row=breaker.look(session=session), now=now)
    mine = most.connections // number + (1 if before < most.connections % number else 0)
    return Limits(mine, most.rate, alone=number == 1)


def leave(*, session: Session, name: str) -> None:
    session.execute(delete(Sender).where(Sender.name == name))


def senders(*, session: Session, now: datetime) -> list[Sender]:
    """The workers that send now."""
    return list(session.scalars(select(Sender).where(Sender.seen_at > now - FRESH).order_by(Sender.name)))


def forget(*, session: Session, now: datetime) -> None:
    session.execute(delete(Sender).where(Sender.seen_at <= now - FORGET))


def grant(*, session: Session, now: datetime, want: int) -> int | None:
    """How many of the `want` messages may be sent now; None without a limit."""
    row = breaker.lock(session=session, now=now)
    rate = of(row=row).rate
    if not rate:
        return None
    filled_at = row.filled_at or now
    tokens = row.tokens + max((now - filled_at).total_seconds(), 0.0) * rate
    tokens = min(tokens, max(rate * BUCKET_SECONDS, 1.0))
    given = min(want, int(tokens))
    row.tokens, row.filled_at = tokens - given, max(now, filled_at)
    session.flush()
    return given
