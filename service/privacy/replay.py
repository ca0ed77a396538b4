"""A database that was put back from a backup is brought in line with the ledger: who was erased since goes again,
who may not be mailed isn't, who left a theme is out of it, and no row number comes a second time.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import links
from service.privacy import erasure, ledger, numbers
from service.privacy.ledger import Ledger
from service.subscribers import addresses, erasures, leavings, unsubscribe
from service.subscribers.models import (
    Channel,
    Consent,
    EndReason,
    State,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)
from service.themes import Theme

STEP = 500
ENDS = {
    SuppressionReason.HARD_BOUNCE: EndReason.HARD_BOUNCE,
    SuppressionReason.COMPLAINT: EndReason.COMPLAINT,
    SuppressionReason.BLOCKED: EndReason.UNSUBSCRIBED,
}


class Step(NamedTuple):
    """`last` is the reader to go on after; 0 when all were looked at. `left`: themes."""

    last: int
    erased: int
    ended: int
    left: int


def readers(*, session: Session, told: Ledger, after: int) -> Step:
    """The next STEP readers. Who signed up, or said yes, after what the ledger tells of their address, stays."""
    newest = select(func.max(Consent.at)).where(Consent.subscriber_id == Subscriber.id).scalar_subquery()
    query = select(Subscriber.id, Subscriber.email_key, Subscriber.created_at, newest)
    rows = session.execute(query.where(Subscriber.id > after).order_by(Subscriber.id).limit(STEP)).all()
    erased = ended = 0
    for number, key, created_at, consented_at in rows:
        known_at = max(created_at, consented_at or created_at)
        gone_at = _erased_at(told, key)
        refused = _refused(told, key)
        if gone_at is not None and gone_at > known_at:
            erasure.erase(session=session, now=gone_at, subscriber_id=number)
            erased += 1
        elif refused is not None and refused[1] > known_at:
            reason, at = refused
            unsubscribe.end_all(
                session=session, now=at, subscriber_id=number, reason=ENDS[reason], channel=Channel.LEDGER
            )
            addresses.suppress(session=session, now=at, email_key=key, reason=reason)
            ended += 1
    left = _leave(session, told, {row.id: row.email_key for row in rows}) if told.left else 0
    return Step(rows[-1].id if rows else 0, erased, ended, left)


def _leave(session: Session, told: Ledger, keys: dict[int, str]) -> int:
    """Of what these have still. Who said yes to the theme after they left it stays."""
    newest = select(func.max(Consent.at)).where(
        Consent.subscriber_id == Subscription.subscriber_id, Consent.theme_id == Subscription.theme_id
    )
    at = func.coalesce(newest.scalar_subquery(), Subscription.confirmed_at, Subscription.requested_at)
    query = select(Subscription.subscriber_id, Theme.id, Theme.slug, at).join(Theme, Theme.id == Subscription.theme_id)
    held = query.where(Subscription.subscriber_id.in_(keys), Subscription.state != State.ENDED)
    left = 0
    for number, theme_id, slug, known_at in session.execute(held.order_by(Subscription.subscriber_id, Theme.id)).all():
        marks = leavings.marks(email_key=keys[number], slug=slug)
        gone_at = max((told.left[one] for one in marks if one in told.left), default=None)
        if gone_at is not None and gone_at > known_at:
            left += unsubscribe.leave(
                session=session, now=gone_at, subscriber_id=number, theme_id=theme_id, channel=Channel.LEDGER
            )
    return left


def marks(*, session: Session, now: datetime, told: Ledger) -> list[str]:
    """After `readers`: the marks themselves, but for those of readers who came back since; and the row numbers.
    Gives the tables whose numbers were behind.
    """
    back = _came_back(session, told)
    known = set(session.scalars(select(Suppression.address_hash)))
    for hashed, (reason, at) in told.suppressions.items():
        if hashed in known or hashed not in back or reason is SuppressionReason.BLOCKED:
            addresses.put(session=session, address_hash=hashed, reason=reason, at=at)
    for hashed, at in told.erasures.items():
        erasures.put(session=session, at=at, address_hash=hashed)
    behind = numbers.skip(session=session, used=told.used)
    ledger.replayed(session=session, told=told)
    return behind


def _came_back(session: Session, told: Ledger) -> set[str]:
    """Marks in the ledger of addresses that are a reader's still."""
    found = set()
    for key in session.scalars(select(Subscriber.email_key).execution_options(yield_per=1000)):
        found |= told.suppressions.keys() & set(links.keyed_hashes(addresses.PURPOSE, key))
    return found


def _erased_at(told: Ledger, key: str) -> datetime | None:
    return max(
        (told.erasures[one] for one in links.keyed_hashes(erasures.PURPOSE, key) if one in told.erasures), default=None
    )


def _refused(told: Ledger, key: str) -> tuple[SuppressionReason, datetime] | None:
    found = [told.suppressions[one] for one in links.keyed_hashes(addresses.PURPOSE, key) if one in told.suppressions]
    return max(found, key=lambda one: one[1], default=None)
