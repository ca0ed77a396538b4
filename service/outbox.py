"""Single mails that must go out once, kept as rows: confirmations, letters to readers, notices to editors.

claim → (commit) → send → settle. A worker that dies in between leaves a lease that runs out,
after which the tick offers the row again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from service.db import UtcDateTime

LEASE = timedelta(minutes=5)
# Growing pauses after a 4xx; after the last one the mail is given up.
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 480))
MOST_CLAIMS = 10
# While nobody is to blame (a broken line, a relay that is down) the pauses grow with the mail's age, in these bounds.
SHORTEST, LONGEST = timedelta(seconds=30), timedelta(minutes=15)
GIVE_UP = timedelta(hours=72)  # as old as a mail may get, whoever is to blame


class Outgoing:
    """Columns that a row needs to be sent by mail. A mixin for models with an integer `id`."""

    id: Mapped[int] = mapped_column(primary_key=True)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime(), index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    mailed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]

    @property
    def made_at(self) -> datetime:
        raise NotImplementedError


def claim(*, session: Session, model: type[Outgoing], row_id: int, now: datetime) -> bool:
    """Take the row for LEASE. False when another has it, or it has gone out, or isn't due yet,
    or was taken MOST_CLAIMS times: a mail that kills its worker each time is given up.
    """
    attempts = session.scalar(
        update(model)
        .where(model.id == row_id, model.due_at <= now)
        .values(due_at=now + LEASE, attempts=model.attempts + 1)
        .returning(model.attempts)
    )
    if attempts is not None and attempts > MOST_CLAIMS:
        refused(session=session, model=model, row_id=row_id, now=now)
        return False
    return attempts is not None


def due(*, session: Session, model: type[Outgoing], now: datetime, limit: int = 500) -> list[int]:
    return list(session.scalars(select(model.id).where(model.due_at <= now).order_by(model.due_at).limit(limit)))


def sent(*, session: Session, model: type[Outgoing], row_id: int, now: datetime) -> None:
    session.execute(update(model).where(model.id == row_id).values(due_at=None, mailed_at=now))


def refused(*, session: Session, model: type[Outgoing], row_id: int, now: datetime) -> None:
    """The relay said no for good (5xx)."""
    session.execute(update(model).where(model.id == row_id).values(due_at=None, failed_at=now))


def later(*, session: Session, model: type[Outgoing], row_id: int, now: datetime, charged: bool) -> None:
    """Try again after a pause. `charged` is false when the line broke: then no try is counted."""
    row = session.get(model, row_id)
    if row is None:
        return
    age = now - row.made_at
    if age >= GIVE_UP or (charged and row.attempts > len(PAUSES)):
        row.due_at, row.failed_at = None, now
    elif not charged:
        row.attempts -= 1
        row.due_at = now + min(max(age / 4, SHORTEST), LONGEST)
    else:
        row.due_at = now + PAUSES[row.attempts - 1]
