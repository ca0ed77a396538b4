"""The one mail that answers a sign-up."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import i18n, links, mail, themes
from service.subscribers import addresses, confirmation
from service.subscribers.models import Confirmation, State, Subscription


def compose(*, session: Session, now: datetime, confirmation_id: int) -> mail.Outbound | None:
    """None when there is nothing to mail any more: confirmed, expired, vanished, or blocked by its owner."""
    asked = confirmation.find(session=session, confirmation_id=confirmation_id)
    if asked is None or asked.confirmed_at is not None or not confirmation.open_at(asked, now):
        return None
    if addresses.blocked(session=session, email_key=asked.subscriber.email_key):
        return None
    rendered = (_to_confirm if asked.theme_ids else _already_subscribed)(session, asked)
    if rendered is None:
        return None
    return mail.Outbound(
        recipient=asked.subscriber.email,
        sender=mail.address(),
        message=mail.compose(
            rendered,
            to=asked.subscriber.email,
            stream=mail.Stream.CONFIRMATION,
            now=now,
            message_id=mail.message_id("c", asked.id),
        ),
    )


def _to_confirm(session: Session, asked: Confirmation) -> mail.Rendered | None:
    wanted = confirmation.themes_of(session=session, confirmation=asked)
    if not wanted:
        return None
    return mail.render(
        "confirmation",
        language=asked.language,
        themes=[theme.name(asked.language) for theme in wanted],
        confirm_url=links.confirm(asked.id),
        until=i18n.day_and_hour(asked.language, asked.requested_at + confirmation.LIFE),
    )


def _already_subscribed(session: Session, asked: Confirmation) -> mail.Rendered | None:
    query = (
        select(themes.Theme)
        .join(Subscription, Subscription.theme_id == themes.Theme.id)
        .where(Subscription.subscriber_id == asked.subscriber_id, Subscription.state == State.ACTIVE)
        .order_by(themes.Theme.name_nl)
    )
    held = session.scalars(query).all()
    if not held:  # left between the form and this mail
        return None
    return mail.render(
        "already_subscribed",
        language=asked.language,
        themes=[theme.name(asked.language) for theme in held],
        preferences_url=links.preferences(asked.subscriber_id),
    )
