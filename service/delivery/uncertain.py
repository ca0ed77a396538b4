"""Mails of which nobody knows whether they went out, and an editor's word on them (design: the round, steps 6 and 8;
requirements 1.9: at most once, and the count is told).

Not those of a batch that is held: its worker, or who takes over from it, may have the relay's answer yet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog
from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select, update
from sqlalchemy.orm import Session

from service import errors
from service.delivery import folded, nudges
from service.delivery.models import Batch, BatchState, Delivery, Doubt, Outcome
from service.issues import editions, models
from service.issues.models import Issue, IssueState
from service.subscribers.models import State, Subscriber, Subscription

PAGE = 100
WHY = folded.WHY
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
    """All that ever came in doubt. `held`: of batches that a worker holds. `again`: sent once more, or waits for
    that, by an editor's word or by the setting; each may have arrived twice. `nameless`: uncertain when their rows
    went, so for good.
    """

    uncertain: int
    held: int
    again: int
    arrived: int
    left_alone: int
    nameless: int = 0


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
        .where(_in_doubt(issue_id), ~_held(issue_id), Delivery.subscriber_id > after)
        .order_by(Delivery.subscriber_id)
        .limit(limit)
    )  # fmt: skip
    return [
        Doubtful(*row, message_id=editions.message_id(issue_id=issue_id, subscriber_id=row.subscriber_id))
        for row in session.execute(query)
    ]


def tally(*, session: Session, issue_id: int) -> Tally:
    after_doubt = folded.after_doubt()
    query = select(
        func.count().filter(Delivery.outcome == Outcome.UNCERTAIN, ~_held(issue_id)),
        func.count().filter(Delivery.outcome == Outcome.UNCERTAIN, _held(issue_id)),
        *(func.count().filter(which) for which in after_doubt.values()),
    ).where(Delivery.issue_id == issue_id)
    # Who was never in doubt isn't looked at further.
    query = query.where(or_(Delivery.uncertain_at.is_not(None), Delivery.outcome == Outcome.UNCERTAIN))
    uncertain, held, *settled = session.execute(query).one()
    gone = folded.counts(session=session, issue_id=issue_id)
    known = {kind: count + gone[kind] for kind, count in zip(after_doubt, settled, strict=True)}
    return Tally(uncertain=uncertain, held=held, **known, nameless=gone[Outcome.UNCERTAIN])


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
        .where(_in_doubt(issue_id), ~_held(issue_id))
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
        raise errors.Conflict(
            "Some of these aren’t uncertain any more, or are being sent. Nothing is changed: look at the list again."
        )
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


def _in_doubt(issue_id: int, readers: set[int] | None = None) -> ColumnElement[bool]:
    found = and_(Delivery.issue_id == issue_id, Delivery.outcome == Outcome.UNCERTAIN)
    return found if readers is None else and_(found, Delivery.subscriber_id.in_(readers))


def _held(issue_id: int) -> ColumnElement[bool]:
    return exists().where(
        Batch.issue_id == issue_id,
        Batch.state == BatchState.SENDING,
        Delivery.subscriber_id.between(Batch.first_id, Batch.last_id),
    )


def _settle(session: Session, now: datetime, issue: Issue, word: Word, readers: set[int] | None) -> int:
    if word is Word.AGAIN and issue.state not in STILL_GOES_OUT:
        raise errors.Conflict("This issue is “%(state)s”: nothing of it is sent again.", state=str(issue.state))
    if word is Word.AGAIN and folded.counts(session=session, issue_id=issue.id):
        # A batch counts who left by the rows that are there.
        raise errors.Conflict("This issue is too old: who got it isn’t kept any more, so nothing of it is sent again.")
    batch_ids = _locked_batches(session, issue.id, readers)
    # Only what is in these: another batch may have been let go since we looked, and would stay as it is.
    locked = exists().where(Batch.id.in_(batch_ids), Delivery.subscriber_id.between(Batch.first_id, Batch.last_id))
    count = _change(session, and_(_in_doubt(issue.id, readers), locked), _values(word, now))
    if word is Word.AGAIN and count:
        _reopen(session, now, issue, batch_ids)
    return count


def _locked_batches(session: Session, issue_id: int, readers: set[int] | None) -> Sequence[int]:
    """Those with a mail in doubt that nobody holds. The issue's lock keeps them from being claimed."""
    doubted = exists().where(
        _in_doubt(issue_id, readers), Delivery.subscriber_id.between(Batch.first_id, Batch.last_id)
    )
    query = select(Batch.id).where(Batch.issue_id == issue_id, Batch.state != BatchState.SENDING, doubted)
    return session.scalars(query.order_by(Batch.id).with_for_update()).all()


def _values(word: Word, now: datetime) -> dict[str, object]:
    """What was tried isn't tried anew by a word, so `at` stays, but for who is given up only now."""
    if word is Word.ARRIVED:
        return {"outcome": Outcome.ACCEPTED}
    if word is Word.LEAVE:
        return {"outcome": Outcome.GIVEN_UP, "at": now}
    # The 48 hours in which a relay may put the mail off begin anew.
    return {"outcome": Outcome.DEFERRED, "first_at": now, "retry_at": now}


def _reopen(session: Session, now: datetime, issue: Issue, batch_ids: Sequence[int]) -> None:
    """Who left meanwhile is found by a batch's own settling, as with anybody who was deferred."""
    opened = {"state": BatchState.WAITING, "due_at": now}
    session.execute(update(Batch).where(Batch.id.in_(batch_ids)).values(**opened))
    if issue.state is IssueState.SENT:
        issue.move(IssueState.SENDING)
        issue.finished_at = None
    session.flush()
    nudges.nudge(session=session, now=now, batch_ids=batch_ids)


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
