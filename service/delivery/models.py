"""Batches and deliveries: who gets an issue, and what became of it."""

from __future__ import annotations

from datetime import date, datetime
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


class Trouble(StrEnum):
    """Why the relay has no mail of ours now. The value is also the note of an issue that waits for it."""

    DOWN = "relay_down"  # no answer, or it hangs up
    LOGIN = "relay_login"
    REFUSES = "relay_refuses"  # 5.7.x, or no to our sender
    SLOW_DOWN = "relay_slow_down"  # 421 4.7.28: it had too much of us (requirements 1.10)


class Doubt(StrEnum):
    """Why nobody can know whether a mail went out. The value is the status of a delivery that is uncertain."""

    LINE_LOST = "line lost"  # between its dot and the relay's answer
    WORKER_LOST = "worker lost"  # between the same two: its journal told


class ReportKind(StrEnum):
    """What a report says of the mail it is about (requirements 1.10)."""

    HARD = "hard"  # the address is dead
    SOFT = "soft"  # full, away, time-out: this mail didn't arrive, the next may
    COMPLAINT = "complaint"
    FAULT = "fault"  # ours: policy, signature, content


class Batch(Base):
    """The subscribers `first_id`..`last_id` of an issue's theme, `size` of them at the cut.

    `fence` grows with each claim: what a worker recorded under an older one is refused. `since_fence` is that of
    the first claim since the batch was last let go in good order: journals from there on are still to be read.
    `due_at` is when it may be claimed (waiting) or its lease ends (sending).
    `left_count` is who left before their mail went out; known when the batch is done.
    `recorded` is how many outcomes were written, deferrals too: for the progress, not for the books.
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
    since_fence: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    nudged_at: Mapped[datetime | None]
    left_count: Mapped[int] = mapped_column(default=0)
    recorded: Mapped[int] = mapped_column(default=0)


class Delivery(Base):
    """One recipient of one issue. The key is the last guard against sending twice.

    No foreign keys: millions are written in a hurry, and a row must outlive its subscriber's erasure.
    `uncertain_at`: when nobody could know whether it went out; stays when it is sent again.
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
    uncertain_at: Mapped[datetime | None]


class Relay(Base):
    """The relay as all workers see it: its trouble, and the limits an operator set. One row.

    `probe_at`: when it is tried again; `probes`: how often it was tried in vain. `accepted_at`: when it last
    took a newsletter. `slowed_until`: from then on connections are added one by one. `tokens` and `filled_at`
    are the rate's bucket: limits.py.
    """

    __tablename__ = "relays"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    trouble: Mapped[Trouble | None]
    status: Mapped[str] = mapped_column(String(20), default="")
    text: Mapped[str] = mapped_column(String(200), default="")
    since: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
    probes: Mapped[int] = mapped_column(default=0)
    accepted_at: Mapped[datetime | None]
    connections: Mapped[int | None]
    rate: Mapped[float | None]
    slowed_until: Mapped[datetime | None]
    tokens: Mapped[float] = mapped_column(default=0.0)
    filled_at: Mapped[datetime | None]


class Sender(Base):
    """A worker that sends newsletters, as long as `seen_at` is fresh: what it has of the relay's connections,
    and how many messages a second it sends.
    """

    __tablename__ = "senders"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    issue_id: Mapped[int | None]
    seen_at: Mapped[datetime]
    connections: Mapped[int] = mapped_column(default=0)
    rate: Mapped[float] = mapped_column(default=0.0)


class Report(Base):
    """A bounce or complaint about one mail. No foreign keys, as in Delivery. The key: a report that comes twice
    is one report.
    """

    __tablename__ = "reports"
    __table_args__ = (PrimaryKeyConstraint("issue_id", "subscriber_id", "kind"), Index(None, "subscriber_id"))

    issue_id: Mapped[int] = mapped_column(autoincrement=False)
    subscriber_id: Mapped[int] = mapped_column(autoincrement=False)
    kind: Mapped[ReportKind]
    status: Mapped[str] = mapped_column(String(20), default="")
    at: Mapped[datetime] = mapped_column(index=True)


class ReportCount(Base):
    """How many mails came in of a sort that leaves no Report: forged, unreadable, delayed, out of office, but also
    those that asked to leave."""

    __tablename__ = "report_counts"

    day: Mapped[date] = mapped_column(primary_key=True)
    sort: Mapped[str] = mapped_column(String(20), primary_key=True)
    count: Mapped[int]


class DeliveryCount(Base):
    """How many of an issue's deliveries were of `kind` (folded.kinds), or reports (a ReportKind), when their rows
    went: it names nobody."""

    __tablename__ = "delivery_counts"

    issue_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    count: Mapped[int]
