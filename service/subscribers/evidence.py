"""Showing consent (GDPR art. 7(1)): of each active subscription who, which theme, which words, when, through what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

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


class Page(NamedTuple):
    """With the theme's id. `last` is the pair to go on after; None when that was all."""

    rows: list[tuple[int, Shown]]
    last: tuple[int, int] | None


def shown(*, session: Session, after: tuple[int, int] = (0, 0), theme_id: int | None = None) -> Page:
    """Active subscriptions that have their evidence, in order of reader and theme, from after that pair."""
    reader, theme = Subscription.subscriber_id, Subscription.theme_id
    query = (
        select(reader, theme, Subscriber.email, themes.Theme.slug)
        .join(Subscriber, Subscriber.id == reader)
        .join(themes.Theme, themes.Theme.id == theme)
        .where(Subscription.state == State.ACTIVE, reader >= after[0], or_(reader > after[0], theme > after[1]))
        .order_by(reader, theme)
        .limit(PAGE)
    )
    held = session.execute(query if theme_id is None else query.where(theme == theme_id)).all()
    words = _last_words(session, {row[0] for row in held})
    rows = []
    for number, ticked, email, slug in held:
        word = words.get((number, ticked))
        if word is not None and word.event in GIVING and word.wording and word.wording_hash:
            rows.append(
                (
                    ticked,
                    Shown(
                        subscriber_id=number,
                        email=email,
                        theme=slug,
                        event=word.event,
                        at=word.at,
                        channel=word.channel,
                        wording=word.wording,
                        wording_hash=word.wording_hash,
                        source=word.source,
                    ),
                )
            )
    return Page(rows, (held[-1][0], held[-1][1]) if held else None)


def _last_words(session: Session, numbers: set[int]) -> dict[tuple[int, int], Consent]:
    """By reader and theme. What was asked for since is no word yet; who left since took theirs back."""
    query = select(Consent).where(Consent.subscriber_id.in_(numbers), Consent.event != ConsentEvent.REQUESTED)
    return {(row.subscriber_id, row.theme_id): row for row in session.scalars(query.order_by(Consent.id))}


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
