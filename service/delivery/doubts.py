"""A relay that refuses or hangs up, and takes nothing meanwhile (requirements 1.10): are these readers meant, or
is everybody? What other batches of the issue met tells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.delivery import breaker
from service.delivery.batches import Claimed
from service.delivery.models import Delivery, Outcome
from service.delivery.outcomes import FEW_REFUSALS, GIVE_UP, Reader
from service.subscribers.models import Subscriber

RECENT = timedelta(minutes=1)


@dataclass(frozen=True)
class Word:
    """`theirs`: defer these readers; otherwise the relay is in trouble. `domain`: the one that it is about."""

    theirs: bool
    domain: str = ""


def weigh(
    *, session: Session, now: datetime, claimed: Claimed, readers: Sequence[Reader], good: Collection[str], at_end: bool
) -> Word:
    """`readers` were refused, or hung up on, and nobody had a mail after it. `good` are the domains that had one
    in this pass. `at_end`: nobody of the batch is left to try.
    """
    fresh = [reader for reader in readers if not reader.attempts]
    if not fresh or now - claimed.cut_at >= GIVE_UP:  # they were charged before; or: a round must come to its end
        return Word(theirs=True)
    domains = {reader.domain for reader in readers}
    if len(domains) == 1 and _strange(session, claimed, next(iter(domains)), good):
        return Word(theirs=True, domain=domains.pop())
    last = _last_taken(session, claimed.issue_id)
    few = at_end and last is not None and len(fresh) + _refused_since(session, claimed, last) < FEW_REFUSALS
    # Long after the last mail that was taken, the relay is suspected once, and then these few.
    since = breaker.look(session=session).since
    return Word(theirs=few and last is not None and (last > now - RECENT or (since is not None and since > last)))


def _last_taken(session: Session, issue_id: int) -> datetime | None:
    return session.scalar(
        select(func.max(Delivery.at, type_=Delivery.at.type)).where(
            Delivery.issue_id == issue_id, Delivery.outcome == Outcome.ACCEPTED
        )
    )


def _refused_since(session: Session, claimed: Claimed, last: datetime) -> int:
    """Of other batches, for a reason of ours; who is deferred for one of their own doesn't count."""
    query = select(func.count()).where(Delivery.issue_id == claimed.issue_id, Delivery.outcome == Outcome.DEFERRED)
    return session.scalar(query.where(Delivery.at > last, Delivery.status.startswith("5"))) or 0


def _strange(session: Session, claimed: Claimed, domain: str, good: Collection[str]) -> bool:
    """Nobody of the domain had this issue, and others had: it refuses us, the others don't."""
    if domain in good:
        return False
    taken = (
        select(Delivery.subscriber_id)
        .join(Subscriber, Subscriber.id == Delivery.subscriber_id)
        .where(Delivery.issue_id == claimed.issue_id, Delivery.outcome == Outcome.ACCEPTED)
    )
    if not good and not session.scalar(select(taken.exists())):
        return False
    return not session.scalar(
        select(taken.where(Subscriber.email_key.endswith(f"@{domain}", autoescape=True)).exists())
    )
