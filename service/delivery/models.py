"""Batches and deliveries: who gets an issue, and what became of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, PrimaryKeyConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from service.db import Base


class BatchState(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    DONE = "done"


OPEN = (BatchState.WAITING, BatchState.SENDING)


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    GIVEN_UP = "given_up"
    UNCERTAIN = "uncertain"


class Batch(Base):
    """The subscribers `first_id`..`last_id` of an issue's theme, `size` of them at the cut.

    `fence` grows with each claim: what a worker recorded under an older one is refused.
    `due_at` is when it may be claimed (waiting) or its lease ends (sending).
    `left_count` is who left before their mail went out; known when the batch is done.
    `doubted_at` is when the relay's refusals left open whether they are about these readers: doubts.py.
    """

    __tablename__ = "batches"
    __table_args__ = (Index(None, "issue_id", "state"), Index(None, "state", "due_at"))

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    issue_id: Mapped[int] = mapped_column(ForeignKey("issues.id"))
    first_id: Mapped[int]
    last_id: Mapped[int]
    size: Mapped[int]
    state: Mapped[BatchState] = mapped_column(default=BatchState.WAITING)
    fence: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    nudged_at: Mapped[datetime | None]
    left_count: Mapped[int] = mapped_column(default=0)
    doubted_at: Mapped[datetime | None]


class Delivery(Base):
    """One recipient of one issue. The key is the last guard against sending twice.

    No foreign keys: millions are written in a hurry, and a row must outlive its subscriber's erasure.
    """

    __tablename__ = "deliveries"
    __table_args__ = (PrimaryKeyConstraint("issue_id", "subscriber_id"),)

    issue_id: Mapped[int] = mapped_column(autoincrement=False)
    subscriber_id: Mapped[int] = mapped_column(autoincrement=False)
    outcome: Mapped[Outcome]
    at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=1)
    first_at: Mapped[datetime]
    retry_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(String(20), default="")
