"""Counting tries, to cap them: sign-ups per address and network, log-ins per editor (requirements 4.4).

In the database, so that caps hold over all web processes and outlive an emptied Redis.
Who tried is a keyed hash; rows vanish after KEEP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Index, String, and_, delete, func, or_, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from service import db, links

KEEP = timedelta(days=30)
Caps = Sequence[tuple[timedelta, int]]


ONCE = "proof"  # the kind of which each `who` is taken once, however many come at the same moment
KEEP_ONCE = timedelta(minutes=20)  # longer than what it stands for can be used (service/subscribers/proof.py)
_ONCE = text(f"kind = '{ONCE}'")


class Attempt(db.Base):
    __tablename__ = "attempts"
    __table_args__ = (
        Index(None, "kind", "who", "at"),
        Index("uq_attempts_once", "who", unique=True, sqlite_where=_ONCE, postgresql_where=_ONCE),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(30))
    who: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(index=True)


def note(*, session: Session, kind: str, who: str, now: datetime) -> None:
    session.add(Attempt(kind=kind, who=links.keyed_hash(kind, who), at=now))


def first(*, session: Session, who: str, now: datetime) -> bool:
    """Note a try of kind ONCE. False when that same one was noted before."""
    row = {"kind": ONCE, "who": links.keyed_hash(ONCE, who), "at": now}
    noted = session.execute(db.insert(session, Attempt).values(row).on_conflict_do_nothing().returning(Attempt.id))
    return noted.first() is not None


def count(*, session: Session, kind: str, who: str, since: datetime, until: datetime | None = None) -> int:
    query = select(func.count()).where(
        Attempt.kind == kind, Attempt.who == links.keyed_hash(kind, who), Attempt.at > since
    )
    return session.scalar(query.where(Attempt.at <= until) if until else query) or 0


def count_all(*, session: Session, kind: str, since: datetime, until: datetime | None = None) -> int:
    query = select(func.count()).where(Attempt.kind == kind, Attempt.at > since)
    return session.scalar(query.where(Attempt.at <= until) if until else query) or 0


def reached(*, session: Session, kind: str, who: str, now: datetime, caps: Caps) -> bool:
    """Whether one of `caps`, each a span and how many in it, is full."""
    return any(count(session=session, kind=kind, who=who, since=now - span) >= most for span, most in caps)


def was_reached(*, session: Session, kind: str, who: str, at: datetime, caps: Caps) -> bool:
    """The same for a try that was noted at `at`, whatever came after it: the answer stays as it was."""
    spans = ((at - span, most) for span, most in caps)
    return any(count(session=session, kind=kind, who=who, since=since, until=at) > most for since, most in spans)


def forget(*, session: Session, kind: str, who: str, since: datetime | None = None) -> None:
    theirs = delete(Attempt).where(Attempt.kind == kind, Attempt.who == links.keyed_hash(kind, who))
    session.execute(theirs if since is None else theirs.where(Attempt.at > since))


def expire(*, session: Session, now: datetime) -> int:
    """Gives how many went, a thousand at most; the next tick goes on."""
    spent = and_(Attempt.kind == ONCE, Attempt.at < now - KEEP_ONCE)
    query = select(Attempt.id).where(or_(Attempt.at < now - KEEP, spent))
    old = session.scalars(query.order_by(Attempt.at).limit(1000)).all()
    session.execute(delete(Attempt).where(Attempt.id.in_(old)))
    return len(old)


def network(remote_address: str) -> str:
    """The IPv4 /24 or IPv6 /56 an address lies in: households and offices, not persons."""
    try:
        address = ipaddress.ip_address(remote_address)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    prefix = 24 if address.version == 4 else 56
    return str(ipaddress.ip_network((address, prefix), strict=False))
