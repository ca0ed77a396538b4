"""Leaving: at once, without reason asked, and harmless to repeat."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.subscribers import consent
from service.subscribers.models import Channel, ConsentEvent, EndReason, State, Subscription

EVIDENCE = {
    EndReason.UNSUBSCRIBED: ConsentEvent.WITHDRAWN,
    EndReason.HARD_BOUNCE: ConsentEvent.BOUNCED,
    EndReason.COMPLAINT: ConsentEvent.COMPLAINT,
}


def leave(*, session: Session, now: datetime, subscriber_id: int, theme_id: int, channel: Channel) -> bool:
    """End one theme (RFC 8058 §3.1: that recipient, that list). False for who is out already: nothing happens."""
    return _end(session, now, subscriber_id, EndReason.UNSUBSCRIBED, channel, theme_id)


def leave_all(*, session: Session, now: datetime, subscriber_id: int, channel: Channel) -> None:
    _end(session, now, subscriber_id, EndReason.UNSUBSCRIBED, channel, None)


def end_all(
    *, session: Session, now: datetime, subscriber_id: int, reason: EndReason, channel: Channel = Channel.RELAY
) -> None:
    """For what comes back, from the relay or in a report: a bounce or complaint ends every theme."""
    _end(session, now, subscriber_id, reason, channel, None)


def _end(
    session: Session, now: datetime, subscriber_id: int, reason: EndReason, channel: Channel, theme_id: int | None
) -> bool:
    query = select(Subscription).where(
        Subscription.subscriber_id == subscriber_id, Subscription.state.in_((State.ACTIVE, State.PENDING))
    )
    if theme_id is not None:
        query = query.where(Subscription.theme_id == theme_id)
    query = query.order_by(Subscription.theme_id).with_for_update().execution_options(populate_existing=True)
    held = session.scalars(query).all()
    for subscription in held:
        subscription.state, subscription.end_reason, subscription.ended_at = State.ENDED, reason, now
        consent.record(
            session=session,
            now=now,
            subscriber_id=subscriber_id,
            theme_id=subscription.theme_id,
            event=EVIDENCE[reason],
            channel=channel,
            wording=consent.NONE,
        )
    return bool(held)
