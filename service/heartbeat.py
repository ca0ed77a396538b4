"""When the tick last ran, so that /healthz can tell a stopped clock from a quiet week."""

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


def beat(*, session: Session, now: datetime) -> None:
    """Two beats at once are one."""
    row = db.insert(session, Heartbeat).values(name=TICK, at=now)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"at": row.excluded.at}))


def last(*, session: Session) -> datetime | None:
    """None when no tick has run on this database yet."""
    found = session.get(Heartbeat, TICK, populate_existing=True)
    return found.at if found else None
