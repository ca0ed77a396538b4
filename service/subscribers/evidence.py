"""Showing consent (GDPR art. 7(1)): of each active subscription who, which theme, which words, when, through what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from service import themes
from service.subscribers.models import Channel, Consent, ConsentEvent, State, Subscriber, Subscription

GIVING = (ConsentEvent.CONFIRMED, ConsentEvent.CHANGED, ConsentEvent.IMPORTED)
PAGE = 1000


@dataclass(frozen=True)
class Shown:
    subscriber_id: int
    email: str
    theme: str
    event: ConsentEvent
    at: datetime
    channel: Channel
    wording: str
    wording_hash: str
    source: str


def shown(*, session: Session, after: tuple[int, int], theme_id: int | None = None) -> Sequence[tuple[int, Shown]]:
    """A page of active subscriptions in order of reader and theme, beginning after that pair; with the theme's id."""
    reader, theme = Subscription.subscriber_id, Subscription.theme_id
    query = (
        select(
            theme, reader, Subscriber.email, themes.Theme.slug, Consent.event, Consent.at,
            Consent.channel, Consent.wording, Consent.wording_hash, Consent.source,
        )
        .join(Subscriber, Subscriber.id == reader)
        .join(themes.Theme, themes.Theme.id == theme)
        .join(Consent, _theirs(Consent))
        .where(Subscription.state == State.ACTIVE, _shows(Consent), _last_word(Consent))
        .where(or_(reader > after[0], and_(reader == after[0], theme > after[1])))
        .order_by(reader, theme)
        .limit(PAGE)
    )  # fmt: skip
    if theme_id is not None:
        query = query.where(theme == theme_id)
    return [(theme_id, Shown(*more)) for theme_id, *more in session.execute(query)]


def missing(*, session: Session, limit: int = PAGE) -> list[tuple[int, str]]:
    """Reader and theme of active subscriptions that can't be shown to be wanted. There must be none, ever."""
    has = select(Consent.id).where(_theirs(Consent), _shows(Consent), _last_word(Consent)).exists()
    query = (
        select(Subscription.subscriber_id, themes.Theme.slug)
        .join(themes.Theme, themes.Theme.id == Subscription.theme_id)
        .where(Subscription.state == State.ACTIVE, ~has)
        .order_by(Subscription.subscriber_id, themes.Theme.slug)
        .limit(limit)
    )
    return [(subscriber_id, slug) for subscriber_id, slug in session.execute(query)]


def _theirs(row: type[Consent]) -> ColumnElement[bool]:
    return and_(row.subscriber_id == Subscription.subscriber_id, row.theme_id == Subscription.theme_id)


def _shows(row: type[Consent]) -> ColumnElement[bool]:
    return and_(row.event.in_(GIVING), row.wording != "", row.wording_hash != "")


def _last_word(row: type[Consent]) -> ColumnElement[bool]:
    """What was asked for since is no word yet; who left since took theirs back."""
    other = aliased(Consent)
    newest = select(func.max(other.id)).where(
        other.subscriber_id == row.subscriber_id,
        other.theme_id == row.theme_id,
        other.event != ConsentEvent.REQUESTED,
    )
    return row.id == newest.correlate(row).scalar_subquery()
