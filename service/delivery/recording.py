"""What became of the recipients, written in one go and guarded by the fencing token (design: the round, step 7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy
from sqlalchemy import DateTime, Integer, String, Table, and_, bindparam, case, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service import db
from service.delivery import batches, endings, outcomes
from service.delivery.batches import Claimed
from service.delivery.models import Batch, Delivery, Doubt, Outcome
from service.delivery.outcomes import Reader, Result
from service.issues.models import Issue, IssueState
from service.subscribers.models import Channel, EndReason

TIMES = postgresql.ARRAY(DateTime(timezone=True))
ARRAYS: dict[str, postgresql.ARRAY[Any]] = {
    "subscriber_id": postgresql.ARRAY(Integer()),
    "outcome": postgresql.ARRAY(String()),
    "at": TIMES,
    "attempts": postgresql.ARRAY(Integer()),
    "first_at": TIMES,
    "retry_at": TIMES,
    "status": postgresql.ARRAY(String()),
    "uncertain_at": TIMES,
}


def record(
    *, session: Session, now: datetime, claimed: Claimed, results: Sequence[Result], lease: timedelta
) -> IssueState:
    """Write what became of the readers so far, and prolong the lease. Of two results of one reader the last counts.

    Gives the issue's state: anything but "sending" means stop. Raises FenceLost.
    """
    final = sum(1 for result in results if result.outcome is not Outcome.UNCERTAIN)
    batches.guard(session, claimed, due_at=now + lease, recorded=Batch.recorded + final)
    last = {result.reader.subscriber_id: result for result in results}
    if last:
        # In the order of the key: its index is then written where it was written just before.
        rows = [_row(last[number]) for number in sorted(last)]
        if session.get_bind().dialect.name == "sqlite":
            named = [{"issue_id": claimed.issue_id, **dict(zip(ARRAYS, row, strict=True))} for row in rows]
            session.execute(_upsert(db.insert(session, Delivery)), named)
        else:
            _write(session, claimed, rows)
    for number in sorted(last):  # in one order: two rounds that bury the same readers must not wait for each other
        if last[number].dead:
            endings.end(
                session=session,
                now=now,
                subscriber_id=number,
                email_key=last[number].reader.email_key,
                reason=EndReason.HARD_BOUNCE,
                channel=Channel.RELAY,
            )
    return session.scalars(select(Issue.state).where(Issue.id == claimed.issue_id)).one()


def recover(
    *,
    session: Session,
    now: datetime,
    claimed: Claimed,
    accepted: Collection[int],
    doubtful: Collection[int],
    lease: timedelta,
    resend: bool,
) -> None:
    """What a worker that died had in its journal: subscribers whose mail was taken, and those of whom nobody
    can know (step 8). What it had recorded itself stays. Raises FenceLost.
    """
    tried = _tried(session, claimed, doubtful)
    results = [Result(_known_by(number), Outcome.ACCEPTED, now, "250") for number in accepted]
    results += [
        outcomes.doubtful(
            reader=tried.get(number) or _known_by(number), doubt=Doubt.WORKER_LOST, now=now, resend=resend
        )
        for number in doubtful
    ]
    record(session=session, now=now, claimed=claimed, results=results, lease=lease)
    if resend:
        _send_again(session, now, claimed)
    batches.guard(session, claimed, since_fence=claimed.fence)


def _send_again(session: Session, now: datetime, claimed: Claimed) -> None:
    """Those whom it had recorded as in doubt before they went out, because it had no journal."""
    session.execute(
        update(Delivery)
        .where(
            Delivery.issue_id == claimed.issue_id,
            Delivery.subscriber_id.between(claimed.first_id, claimed.last_id),
            Delivery.outcome == Outcome.UNCERTAIN,
            Delivery.status == Doubt.WORKER_LOST,
            Delivery.first_at > now - outcomes.GIVE_UP,
        )
        .values(outcome=Outcome.DEFERRED, retry_at=now + outcomes.PAUSES[0])
        .execution_options(synchronize_session=False)
    )


def _tried(session: Session, claimed: Claimed, numbers: Collection[int]) -> dict[int, Reader]:
    """Those who had a try before: sending again must come to its end."""
    if not numbers:
        return {}
    query = select(Delivery.subscriber_id, Delivery.attempts, Delivery.first_at).where(
        Delivery.issue_id == claimed.issue_id, Delivery.subscriber_id.in_(numbers)
    )
    return {row[0]: Reader(row[0], "", "", "", row[1], row[2]) for row in session.execute(query)}


def _known_by(number: int) -> Reader:
    """The row needs no more of a reader, who may have left meanwhile."""
    return Reader(number, "", "", "")


def _row(result: Result) -> tuple[Any, ...]:
    return (
        result.reader.subscriber_id,
        result.outcome,
        result.at,
        result.reader.attempts + 1,
        result.at,
        result.retry_at,
        result.status,
        result.uncertain_at,
    )


def _write(session: Session, claimed: Claimed, rows: Sequence[tuple[Any, ...]]) -> None:
    """A thousand rows are eight arrays: the statement is read and planned once, and short."""
    columns = {name: db.array(column) for name, column in zip(ARRAYS, zip(*rows, strict=True), strict=True)}
    spread = select(
        literal(claimed.issue_id),
        *(func.unnest(sqlalchemy.cast(bindparam(name, type_=String()), kind)) for name, kind in ARRAYS.items()),
    )
    given = postgresql.insert(cast(Table, Delivery.__table__)).from_select(["issue_id", *ARRAYS], spread)
    session.connection().execute(_upsert(given), columns)


def _upsert(given: postgresql.Insert | sqlite.Insert) -> postgresql.Insert | sqlite.Insert:
    new = given.excluded
    fresh = {name: new[name] for name in ("outcome", "at", "retry_at", "status", "attempts")}
    # A mail that was said to be going out, and had its answer, was never in doubt; who was, stays so.
    doubt = case(
        (Delivery.outcome == Outcome.UNCERTAIN, new.uncertain_at),
        else_=func.coalesce(new.uncertain_at, Delivery.uncertain_at),
    )
    return given.on_conflict_do_update(
        index_elements=["issue_id", "subscriber_id"],
        set_={**fresh, "uncertain_at": doubt},
        # The last guard: what is final stays. But who was given up because the round was cancelled
        # while their try was under way, has the answer to that try.
        where=or_(
            Delivery.outcome == Outcome.DEFERRED,
            and_(Delivery.outcome == Outcome.UNCERTAIN, new.outcome != Outcome.UNCERTAIN),
            and_(Delivery.outcome == Outcome.GIVEN_UP, new.outcome != Outcome.DEFERRED),
        ),
    )
