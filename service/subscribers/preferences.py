"""The preference centre: a reader's themes and language, behind a link in each mail."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import errors, i18n, themes
from service.subscribers import addresses, confirmation, consent, own_data, unsubscribe
from service.subscribers.models import Channel, ConsentEvent, State, Subscriber, Subscription


@dataclass(frozen=True)
class Shown:
    """Open themes, and retired ones that the reader still has; True where the reader has it."""

    subscriber: Subscriber
    themes: list[tuple[themes.Theme, bool]]


def show(*, session: Session, subscriber_id: int) -> Shown | None:
    """None when there is no such subscriber any more."""
    subscriber = session.get(Subscriber, subscriber_id)
    if subscriber is None:
        return None
    query = select(Subscription.theme_id).where(
        Subscription.subscriber_id == subscriber_id, Subscription.state == State.ACTIVE
    )
    has = set(session.scalars(query))
    offered = [
        (theme, theme.id in has)
        for theme in themes.every(session=session)
        if theme.retired_at is None or theme.id in has
    ]
    return Shown(subscriber=subscriber, themes=offered)


def change(
    *, session: Session, now: datetime, subscriber_id: int, slugs: Collection[str], language: str, shown_in: str = ""
) -> None:
    """Make `slugs` the reader's themes. One that is added is new consent and is recorded (requirements 4.12).

    `shown_in`: the language of the page, when `language` is what the reader changed it to.
    """
    own_data.hold(session=session, subscriber_id=subscriber_id)
    shown = show(session=session, subscriber_id=subscriber_id)
    if shown is None:
        raise errors.NotFound("We have no data about you any more. You can sign up again.")
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    if set(slugs) - {theme.slug for theme, _ in shown.themes}:
        raise errors.Refused("themes", "One of these themes isn’t offered any more. Please choose again.")
    added = {theme.id for theme, has in shown.themes if theme.slug in slugs and not has}
    if added:
        _check_mailable(session=session, email_key=shown.subscriber.email_key)
    shown.subscriber.language = language
    # In order of theme, as everywhere: two changes at once must not wait for each other.
    for theme, has in sorted(shown.themes, key=lambda pair: pair[0].id):
        if theme.id in added:
            confirmation.activate(
                session=session,
                now=now,
                subscriber_id=subscriber_id,
                theme_id=theme.id,
                event=ConsentEvent.CHANGED,
                channel=Channel.PREFERENCES,
                wording=consent.wording(consent.PREFERENCES, shown_in or language),
            )
        elif has and theme.slug not in slugs:
            unsubscribe.leave(
                session=session,
                now=now,
                subscriber_id=subscriber_id,
                theme_id=theme.id,
                channel=Channel.PREFERENCES,
            )


def _check_mailable(*, session: Session, email_key: str) -> None:
    if addresses.blocked(session=session, email_key=email_key):
        raise errors.Refused("themes", "You asked us never to mail you again. Write to us, and we undo that.")
    if addresses.suppressed(session=session, email_keys=[email_key]):
        raise errors.Refused("themes", "Mail to you came back or was reported. Sign up again to add themes.")
