"""Items: one piece of news each. draft → published → placed; or withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from service import errors, i18n, wire
from service.newsroom import markup
from service.newsroom.models import Item, ItemState
from service.themes import Theme

TITLE, BODY, URL = 120, 5000, 500
# Joiners hold emoji together; every other invisible character can only mislead.
JOINERS = str.maketrans("", "", wire.JOINERS)
NOT_IN_URL = set("\"'<>\\^`{|}")


def write(
    *,
    session: Session,
    now: datetime,
    editor_id: int | None,
    theme_id: int,
    title: str,
    body: str,
    url: str,
    language: str = "nl",
) -> Item:
    """A new draft. Raises Refused with the field: title, body, url, theme or language."""
    item = Item(state=ItemState.DRAFT, author_id=editor_id, created_at=now, updated_at=now, version=1)
    _fill(session, item, theme_id, title, body, url, language)
    session.add(item)
    session.flush()
    return item


def change(
    *,
    session: Session,
    now: datetime,
    item_id: int,
    version: int,
    title: str,
    body: str,
    url: str,
    theme_id: int,
    language: str,
) -> Item:
    """Raises Conflict when `version` isn't the newest, or the item's issue was approved."""
    item = _movable(session, item_id)
    if item.version != version:
        raise errors.Conflict("Somebody else changed this item while you were writing.")
    if item.state is ItemState.PLACED and theme_id != item.theme_id:
        raise errors.Conflict(
            "This item is placed in an issue of its theme. Drop it there before you change the theme."
        )
    _fill(session, item, theme_id, title, body, url, language)
    item.version += 1
    item.updated_at = now
    session.flush()
    return item


def publish(*, session: Session, now: datetime, item_id: int) -> Item:
    """Ready for an issue. Harmless when it is published already."""
    item = _movable(session, item_id)
    if item.state in (ItemState.DRAFT, ItemState.WITHDRAWN):
        item.state, item.published_at, item.updated_at = ItemState.PUBLISHED, now, now
    return item


def withdraw(*, session: Session, now: datetime, item_id: int) -> Item:
    """Not for any issue. Harmless when it is withdrawn already."""
    item = _movable(session, item_id)
    if item.state is ItemState.PLACED:
        raise errors.Conflict("This item is placed in an issue. Drop it from the issue first.")
    if item.state is not ItemState.WITHDRAWN:
        item.state, item.updated_at = ItemState.WITHDRAWN, now
    return item


def problems(
    *, session: Session, theme_id: int, title: str, body: str, url: str, language: str
) -> list[errors.Refused]:
    """All that is wrong with a form at once; `write` and `change` stop at the first."""
    found: list[errors.Refused] = []
    for check, value in ((_title, title), (_body, body), (_url, url), (_language, language)):
        try:
            check(value)
        except errors.Refused as refused:
            found.append(refused)
    theme = session.get(Theme, theme_id)
    return found if theme is not None else [*found, errors.Refused("theme", "Choose one of the themes.")]


def find(*, session: Session, item_id: int) -> Item:
    item = session.get(Item, item_id)
    if item is None:
        raise errors.NotFound("There is no item %(id)s.", id=str(item_id))
    return item


def some(
    *, session: Session, theme_id: int | None = None, state: ItemState | None = None, start: int = 0, limit: int = 50
) -> Sequence[Item]:
    """Newest change first."""
    query = select(Item).options(joinedload(Item.theme), joinedload(Item.author))
    if theme_id is not None:
        query = query.where(Item.theme_id == theme_id)
    if state is not None:
        query = query.where(Item.state == state)
    return session.scalars(query.order_by(Item.updated_at.desc(), Item.id.desc()).offset(start).limit(limit)).all()


def waiting(*, session: Session) -> dict[int, int]:
    """How many published items wait for an issue, by theme id."""
    query = select(Item.theme_id, func.count()).where(Item.state == ItemState.PUBLISHED).group_by(Item.theme_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _movable(session: Session, item_id: int) -> Item:
    item = session.get(Item, item_id, with_for_update={"of": Item}, populate_existing=True)
    if item is None:
        raise errors.NotFound("There is no item %(id)s.", id=str(item_id))
    if item.frozen_at is not None:
        raise errors.Conflict("This item stands in an approved issue, so it can’t be changed any more.")
    return item


def _fill(session: Session, item: Item, theme_id: int, title: str, body: str, url: str, language: str) -> None:
    item.title = _title(title)
    item.body = _body(body)
    item.url = _url(url)
    item.language = _language(language)
    theme = session.get(Theme, theme_id)
    if theme is None or (theme.retired_at is not None and theme.id != item.theme_id):
        raise errors.Refused("theme", "Choose one of the themes.")
    item.theme_id = theme_id


def _title(text: str) -> str:
    title = " ".join(text.split())
    if not title:
        raise errors.Refused("title", "Enter a title.")
    if len(title) > TITLE:
        raise errors.Refused(
            "title", "The title has %(length)s characters; at most %(most)s are allowed.", length=len(title), most=TITLE
        )
    if not title.translate(JOINERS).isprintable():
        raise errors.Refused("title", "The title holds characters that can’t be shown.")
    return title


def _body(text: str) -> str:
    body = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not body:
        raise errors.Refused("body", "Enter the news itself.")
    if len(body) > BODY:
        raise errors.Refused(
            "body", "The text has %(length)s characters; at most %(most)s are allowed.", length=len(body), most=BODY
        )
    if any(ord(character) < 32 and character not in "\n\t" for character in body):
        raise errors.Refused("body", "The text holds characters that can’t be shown.")
    markup.check(body)
    return body


def _url(text: str) -> str:
    """Only a whole web address: it becomes an href in mails."""
    url = text.strip()
    if not url:
        return ""
    if len(url) > URL:
        raise errors.Refused(
            "url", "The link has %(length)s characters; at most %(most)s are allowed.", length=len(url), most=URL
        )
    wrong = errors.Refused("url", "Enter a whole web address, as in https://example.nl/page.")
    if not url.isprintable() or " " in url or NOT_IN_URL & set(url):
        raise wrong
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        raise wrong from None
    if not known:
        raise wrong
    return url


def _language(language: str) -> str:
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    return language
