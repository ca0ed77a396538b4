"""Mails of which nobody knows whether they went out, and an editor's word on them (design: the round, steps 6 and 8;
requirements 1.9: at most once, and the count is told).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog
from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from service import errors
from service.delivery import nudges
from service.delivery.models import Batch, BatchState, Delivery, Doubt, Outcome
from service.issues import editions, models
from service.issues.models import Issue, IssueState
from service.subscribers.models import State, Subscriber, Subscription

PAGE = 100
WHY = [str(doubt) for doubt in Doubt]
STILL_GOES_OUT = frozenset({IssueState.SENDING, IssueState.PAUSED, IssueState.SENT})

log = structlog.get_logger()


class Word(StrEnum):
    """What an editor says of a mail in doubt."""

    ARRIVED = "arrived"
    AGAIN = "again"
    LEAVE = "leave"


@dataclass(frozen=True)
class Doubtful:
    """One mail in doubt. `email` and `language` are None of a reader who was erased meanwhile; `left`: it isn't
    sent again, whatever is said. `why` is a Doubt, or what an older version wrote.
    """

    subscriber_id: int
    email: str | None
    language: str | None
    left: bool
    at: datetime
    why: str
    attempts: int
    message_id: str


@dataclass(frozen=True)
class Tally:
    """All that ever came in doubt. `again`: sent once more, or waits for that, by an editor's word or by the
    setting; each may have arrived twice.
    """

    uncertain: int
    again: int
    arrived: int
    left_alone: int


def listed(*, session: Session, issue_id: int, after: int = 0, limit: int = PAGE) -> list[Doubtful]:
    """Those after subscriber `after`, by subscriber."""
    issue = models.find(session=session, issue_id=issue_id)
    if issue.cut_at is None:
        return []
    query = (
        select(
            Delivery.subscriber_id, Subscriber.email, Subscriber.language, Subscription.subscriber_id.is_(None),
            func.coalesce(Delivery.uncertain_at, Delivery.at, type_=Delivery.at.type), Delivery.status,
            Delivery.attempts,
        )
        .outerjoin(Subscriber, Subscriber.id == Delivery.subscriber_id)
        .outerjoin(
            Subscription,
            and_(
                Subscription.subscriber_id == Delivery.subscriber_id,
                Subscription.theme_id == issue.theme_id,
                Subscription.state == State.ACTIVE,
                Subscription.confirmed_at <= issue.cut_at,
            ),
        )
        .where(_in_doubt(issue_id, None), Delivery.subscriber_id > after)
        .order_by(Delivery.subscriber_id)
        .limit(limit)
    )  # fmt: skip
    return [
        Doubtful(*row, message_id=editions.message_id(issue_id=issue_id, subscriber_id=row.subscriber_id))
        for row in session.execute(query)
    ]


def tally(*, session: Session, issue_id: int) -> Tally:
    """A mail that was sent again has the relay's answer for a status; one that was settled by word keeps its doubt."""
    by_word = Delivery.status.in_(WHY)
    query = (
        select(
            func.count().filter(Delivery.outcome == Outcome.UNCERTAIN),
            func.count().filter(
                or_(
                    Delivery.outcome == Outcome.DEFERRED, and_(Delivery.outcome != Outcome.UNCERTAIN, ~by_word)
                )
            ),
            func.count().filter(Delivery.outcome == Outcome.ACCEPTED, by_word),
            func.count().filter(Delivery.outcome == Outcome.GIVEN_UP, by_word),
        )
        .where(Delivery.issue_id == issue_id)
        .where(or_(Delivery.uncertain_at.is_not(None), Delivery.outcome == Outcome.UNCERTAIN))
    )  # fmt: skip
    return Tally(*session.execute(query).one())


def find(*, session: Session, issue_id: int, names: Collection[str]) -> list[int]:
    """The subscribers behind `names`: addresses, or numbers of those who were erased. Raises Refused for a name
    of which no mail is in doubt.
    """
    models.find(session=session, issue_id=issue_id)
    numbers = {int(name) for name in names if name.isdecimal() and len(name) < 10}
    keys = {name.strip().lower() for name in names}
    query = (
        select(Delivery.subscriber_id, Subscriber.email_key)
        .outerjoin(Subscriber, Subscriber.id == Delivery.subscriber_id)
        .where(_in_doubt(issue_id, None))
        .where(or_(Subscriber.email_key.in_(keys), Delivery.subscriber_id.in_(numbers)))
        .order_by(Delivery.subscriber_id)
    )
    found = session.execute(query).all()
    known = {str(row.subscriber_id) for row in found} | {row.email_key for row in found}
    for name in names:
        if name.strip().lower() not in known:
            raise errors.Refused("reader", "No mail to %(name)s is uncertain.", name=name)
    return [row.subscriber_id for row in found]


def settle(
    *, session: Session, now: datetime, issue_id: int, word: Word, readers: Collection[int], editor_id: int | None
) -> int:
    """Take the word on these readers' mails, or on none: raises Conflict when one isn't in doubt any more. Gives
    how many.
    """
    wanted = set(readers)
    if not wanted:
        raise errors.Refused("reader", "Tick at least one reader.")
    issue = models.lock(session=session, issue_id=issue_id)
    count = _settle(session, now, issue, word, wanted)
    if count != len(wanted):
        raise errors.Conflict("Somebody settled some of these already. Nothing is changed: look at the list again.")
    _log(issue, word, count, editor_id)
    return count


def settle_all(
    *, session: Session, now: datetime, issue_id: int, word: Word, seen: int | None, editor_id: int | None
) -> int:
    """Raises Conflict when there is none, or when it isn't the `seen` number that was asked about."""
    issue = models.lock(session=session, issue_id=issue_id)
    count = _settle(session, now, issue, word, None)
    if not count:
        raise errors.Conflict("No mail of this issue is uncertain any more.")
    if seen is not None and seen != count:
        raise errors.Conflict("Their number has changed while you looked. Nothing is changed: look at the list again.")
    _log(issue, word, count, editor_id)
    return count


def _in_doubt(issue_id: int, readers: set[int] | None) -> ColumnElement[bool]:
    found = and_(Delivery.issue_id == issue_id, Delivery.outcome == Outcome.UNCERTAIN)
    return found if readers is None else and_(found, Delivery.subscriber_id.in_(readers))


def _settle(session: Session, now: datetime, issue: Issue, word: Word, readers: set[int] | None) -> int:
    if word is Word.AGAIN and issue.state not in STILL_GOES_OUT:
        raise errors.Conflict("This issue is “%(state)s”: nothing of it is sent again.", state=str(issue.state))
    touched = _locked_batches(session, issue.id, readers)
    doubted = _in_doubt(issue.id, readers)
    if word is Word.AGAIN:
        return _send_again(session, now, issue, touched, doubted)
    values: dict[str, object] = {"outcome": Outcome.ACCEPTED}  # at the time it went out: that is when it was taken
    if word is Word.LEAVE:
        values = {"outcome": Outcome.GIVEN_UP, "at": now}
    return _change(session, doubted, values)


def _locked_batches(session: Session, issue_id: int, readers: set[int] | None) -> Sequence[Batch]:
    """Those with a mail in doubt. Their workers wait, so that none of them settles a batch on half of our words."""
    doubted = exists().where(
        _in_doubt(issue_id, readers), Delivery.subscriber_id.between(Batch.first_id, Batch.last_id)
    )
    query = select(Batch).where(Batch.issue_id == issue_id, doubted).order_by(Batch.id)
    return session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()


def _send_again(
    session: Session, now: datetime, issue: Issue, touched: Sequence[Batch], doubted: ColumnElement[bool]
) -> int:
    """Who left meanwhile is found by the batch's own settling, as with anybody who was deferred."""
    # The 48 hours in which a relay may put the mail off begin anew.
    values: dict[str, object] = {"outcome": Outcome.DEFERRED, "at": now, "first_at": now, "retry_at": now}
    count = 0
    for batch in touched:
        if batch.state is BatchState.SENDING:
            # Its worker read its readers without this one, and perhaps later than our `now`: what was due by then
            # and wasn't read counts as left. Not so what is due when the lease ends.
            in_it = and_(doubted, Delivery.subscriber_id.between(batch.first_id, batch.last_id))
            count += _change(session, in_it, {**values, "retry_at": max(now, batch.due_at)})
    count += _change(session, doubted, values)
    idle = [batch.id for batch in touched if batch.state is not BatchState.SENDING]
    session.execute(
        update(Batch)
        .where(Batch.id.in_(idle))
        .values(
            state=BatchState.WAITING,
            due_at=now,
        )
    )
    if issue.state is IssueState.SENT and idle:
        issue.move(IssueState.SENDING)
        issue.finished_at = None
    session.flush()
    nudges.nudge(session=session, now=now, batch_ids=idle)
    return count


def _change(session: Session, which: ColumnElement[bool], values: dict[str, object]) -> int:
    """Keeps since when and why it was in doubt, also of a row by an older version, which didn't say."""
    doubt = {
        "uncertain_at": func.coalesce(Delivery.uncertain_at, Delivery.at),
        "status": case((Delivery.status.in_(WHY), Delivery.status), else_=str(Doubt.LINE_LOST)),
    }
    statement = update(Delivery).where(which).values(**doubt, **values)
    done = session.execute(statement.execution_options(synchronize_session=False))
    return int(done.rowcount)  # type: ignore[attr-defined]  # a DML result has it


def _log(issue: Issue, word: Word, count: int, editor_id: int | None) -> None:
    log.info("uncertain_settled", issue=issue.id, word=str(word), count=count, editor=editor_id)
