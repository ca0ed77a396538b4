"""How a round goes, for who watches it: how many had their turn, how fast, how long still, and the relay.

A look adds up the batches, some thousand rows for a million readers, so it may be taken each second. The books
count each delivery: who looks often leaves them out now and then (`rest`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from service import errors
from service.delivery import books, breaker, limits, return_faults
from service.delivery.books import Books
from service.delivery.limits import Limits
from service.delivery.models import Batch, BatchState, Relay, Sender, Trouble
from service.i18n import N_
from service.issues.models import Issue, IssueState

OVER = frozenset({IssueState.SENT, IssueState.SKIPPED, IssueState.CANCELLED})
# Counting may take this part of a watcher's time, so that watching slows no round down.
SHARE = 1 / 25
# A worker tells its rate over five seconds, and what went out each half second: nobody can see a smaller difference.
BLUR = 0.1

WHY: dict[Trouble, str] = {
    Trouble.DOWN: N_("The mail server doesn’t answer."),
    Trouble.LOGIN: N_("The mail server doesn’t let us log in."),
    Trouble.REFUSES: N_("The mail server refuses our mail."),
    Trouble.SLOW_DOWN: N_("The mail server had too much mail from us, and wants us to wait."),
}
# %(hour)s is when it is tried again.
AND_THEN: dict[Trouble, str] = {
    Trouble.DOWN: N_("Sending goes on by itself as soon as it does. Next try at %(hour)s."),
    Trouble.LOGIN: N_("Sending goes on by itself as soon as it does. Next try at %(hour)s."),
    Trouble.REFUSES: N_("Sending tries again by itself at %(hour)s."),
    Trouble.SLOW_DOWN: N_("Sending goes on by itself at %(hour)s."),
}
COMES_BACK = N_(
    "Other mail servers took our mail and sent it back later, because of our settings or our text and not because of"
    " the readers. Have an administrator look at it before you go on."
)


@dataclass(frozen=True)
class RelayState:
    """`connections`, `rate` and `workers` are those of now; what may be stands in `limits`.

    `text` is the last answer that was trouble, without what only the operator may see. `own` is what an operator
    set: None where the setting holds. `allowed` connections are fewer than the limit for a while after it said
    that it had too much.
    """

    trouble: Trouble | None
    status: str
    text: str
    since: datetime | None
    probe_at: datetime | None
    accepted_at: datetime | None
    limits: Limits
    allowed: int
    own_connections: int | None
    own_rate: float | None
    workers: int
    connections: int
    rate: float

    @property
    def heard(self) -> str:
        """Its last words when trouble began, or what became of the line; "" without trouble."""
        text = self.text.removeprefix(self.status.partition(" ")[2]).strip()  # mostly begins with the code that we know
        return f"{self.status} {text}".strip()


@dataclass(frozen=True)
class Progress:
    """`done` of the `audience` had their turn: sent, refused, deferred or gone. `rate` is in messages a second.

    `seconds_left`, until everybody had their turn; None when nobody can know it. `books` None: not counted now.
    `relay`, `workers` and `connections` are of the workers that send this issue.
    """

    state: IssueState
    note: str
    audience: int
    done: int
    books: Books | None
    rate: float
    seconds_left: int | None
    relay: RelayState
    workers: int
    connections: int

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def waits_for(self) -> Trouble | None:
        """The relay's trouble that paused this round; None for a round that an editor paused."""
        paused = self.state is IssueState.PAUSED and self.note in breaker.NOTES
        return Trouble(self.note) if paused else None

    @property
    def comes_back(self) -> bool:
        """Too many mails came back because of us: a person should look."""
        return self.state is IssueState.PAUSED and self.note == return_faults.NOTE

    @property
    def next_try(self) -> datetime | None:
        return self.relay.probe_at if self.waits_for and self.relay.trouble else None


def of(*, session: Session, now: datetime, issue_id: int, counted: bool = True) -> Progress:
    """Raises NotFound. Not `counted`: without the books, at a fraction of the cost."""
    row = session.execute(select(Issue.state, Issue.note, Issue.audience).where(Issue.id == issue_id)).one_or_none()
    if row is None:
        raise errors.NotFound("There is no issue %(id)s.", id=str(issue_id))
    ours = [sender for sender in limits.senders(session=session, now=now) if sender.issue_id == issue_id]
    seen = relay(session=session, now=now)
    rate = _rate(ours, seen.limits)
    pace = (
        min(rate, seen.limits.rate) if seen.limits.rate else rate
    )  # a lower limit is at work before the rate of the last seconds tells
    done = _done(session, issue_id)
    ahead = row.audience - done
    return Progress(
        state=row.state,
        note=row.note,
        audience=row.audience,
        done=done,
        books=books.of(session=session, issue_id=issue_id) if counted else None,
        rate=rate,
        seconds_left=math.ceil(ahead / pace) if row.state is IssueState.SENDING and ahead and pace else None,
        relay=seen,
        workers=len(ours),
        connections=sum(sender.connections for sender in ours),
    )


def relay(*, session: Session, now: datetime) -> RelayState:
    row: Relay = breaker.look(session=session)
    sending = limits.senders(session=session, now=now)
    most = limits.of(row=row)
    return RelayState(
        trouble=row.trouble,
        status=row.status,
        text=row.text,
        since=row.since,
        probe_at=row.probe_at,
        accepted_at=row.accepted_at,
        limits=most,
        allowed=limits.together(row=row, now=now).connections,
        own_connections=row.connections,
        own_rate=row.rate,
        workers=len(sending),
        connections=sum(sender.connections for sender in sending),
        rate=_rate(sending, most),
    )


def rest(*, seconds: float) -> float:
    """How long the books should wait for their next count, when the last one took `seconds`."""
    return seconds / SHARE


def _rate(sending: Sequence[Sender], most: Limits) -> float:
    """Above the limit only when it truly was, as just after somebody lowered it."""
    rate = sum(sender.rate for sender in sending)
    return min(rate, most.rate) if most.rate and rate <= most.rate * (1 + BLUR) else rate


def _done(session: Session, issue_id: int) -> int:
    """A batch that was tried twice recorded some readers twice."""
    tried = case((Batch.recorded < Batch.size, Batch.recorded), else_=Batch.size)
    turns = case((Batch.state == BatchState.DONE, Batch.size), else_=tried)
    return int(session.scalar(select(func.sum(turns)).where(Batch.issue_id == issue_id)) or 0)
