"""Who doesn't get which theme any more, known by a keyed hash: a backup that is put back mails nobody what they left.

Nothing is stored for it: the marks are made from the subscriptions that ended.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import links
from service.subscribers.models import State, Subscriber, Subscription
from service.themes import Theme

PURPOSE = "left"


def marks(*, email_key: str, slug: str) -> list[str]:
    """The newest first; one holds the address and the theme together, so neither can be looked for alone."""
    return links.keyed_hashes(PURPOSE, _both(email_key, slug))


def known(*, session: Session, since: datetime) -> dict[str, datetime]:
    """When each of these ended, of those that did after `since`; also with a form that nobody confirmed after it."""
    query = (
        select(Subscriber.email_key, Theme.slug, Subscription.ended_at)
        .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
        .join(Theme, Theme.id == Subscription.theme_id)
        .where(Subscription.state != State.ACTIVE, Subscription.ended_at >= since)
    )
    return {links.keyed_hash(PURPOSE, _both(key, slug)): at for key, slug, at in session.execute(query) if at}


def _both(email_key: str, slug: str) -> str:
    return f"{slug} {email_key}"  # a slug has no space
