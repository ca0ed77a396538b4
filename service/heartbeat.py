"""When the tick last ran, so that /healthz can tell a stopped clock from a quiet week; and the night's work."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, Session, mapped_column

from service import db

TICK = "tick"


class Heartbeat(db.Base):
    __tablename__ = "heartbeats"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    at: Mapped[datetime]


def beat(*, session: Session, now: datetime, name: str = TICK) -> None:
    """Two beats at once are one."""
    row = db.insert(session, Heartbeat).values(name=name, at=now)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"at": row.excluded.at}))


def last(*, session: Session, name: str = TICK) -> datetime | None:
    """None when it never was on this database."""
    found = session.get(Heartbeat, name, populate_existing=True)
    return found.at if found else None
