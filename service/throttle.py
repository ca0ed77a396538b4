"""Counting tries, to cap them: sign-ups per address and network, log-ins per editor (requirements 4.4).

In the database, so that caps hold over all web processes and outlive an emptied Redis.
Who tried is a keyed hash; rows vanish after KEEP.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from sqlalchemy import Index, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from service import links
from service.db import Base

KEEP = timedelta(days=30)


class Attempt(Base):
    __tablename__ = "attempts"
    __table_args__ = (Index(None, "kind", "who", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(30))
    who: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(index=True)


def note(*, session: Session, kind: str, who: str, now: datetime) -> None:
    session.add(Attempt(kind=kind, who=links.keyed_hash(kind, who), at=now))


def count(*, session: Session, kind: str, who: str, since: datetime) -> int:
    query = select(func.count()).where(
        Attempt.kind == kind, Attempt.who == links.keyed_hash(kind, who), Attempt.at > since
    )
    return session.scalar(query) or 0


def count_all(*, session: Session, kind: str, since: datetime) -> int:
    return session.scalar(select(func.count()).where(Attempt.kind == kind, Attempt.at > since)) or 0


def forget(*, session: Session, kind: str, who: str) -> None:
    session.execute(delete(Attempt).where(Attempt.kind == kind, Attempt.who == links.keyed_hash(kind, who)))


def expire(*, session: Session, now: datetime) -> None:
    session.execute(delete(Attempt).where(Attempt.at < now - KEEP))


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
