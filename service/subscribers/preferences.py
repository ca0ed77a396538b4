"""The preference centre: a reader's themes and language, behind a link in each mail.

Who has a mail that was passed on has the link too (decision 0021). So whatever is more than leaving is told to the
reader by mail; who left everything comes back by a mailed button; and a link from before a change of address opens
the way out and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import errors, i18n, themes, throttle
from service.subscribers import addresses, confirmation, consent, own_data, signup, unsubscribe
from service.subscribers.models import Channel, ConsentEvent, Letter, LetterKind, State, Subscriber, Subscription

ADDED, TOLD = "themes_added", "themes_letter"
MOST_ADDED = ((timedelta(hours=24), 10),)  # changes of one reader that add a theme


class Change(StrEnum):
    SAVED = "saved"
    ASKED = "asked"  # the reader reads nothing now: we mail them the button, unless they had too many
    OLDER = "older"  # the address was changed at this very moment: the link opens only the way out by now


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


def older(*, session: Session, subscriber_id: int, moved: int) -> bool:
    """Is a link with `moved` in it from a mail to an address that isn't the reader's any more?"""
    reader = session.get(Subscriber, subscriber_id)
    return reader is not None and reader.moved != moved


def change(
    *,
    session: Session,
    now: datetime,
    subscriber_id: int,
    slugs: Collection[str],
    language: str,
    shown_in: str = "",
    moved: int | None = None,
) -> Change:
    """Make `slugs` the reader's themes. One that is added is new consent and is recorded (requirements 4.12).

    `shown_in`: the language of the page, when `language` is what the reader changed it to. `moved`: the link's, when
    it is by a link. Raises NotFound, Refused.
    """
    own_data.hold(session=session, subscriber_id=subscriber_id)
    shown = show(session=session, subscriber_id=subscriber_id)
    if shown is None:
        raise errors.NotFound("We have no data about you any more. You can sign up again.")
    reader = shown.subscriber
    if moved is not None and moved != reader.moved:
        return Change.OLDER
    _check(shown, slugs, language)
    added = [theme for theme, has in shown.themes if theme.slug in slugs and not has]
    asks = bool(added) and _asks(session, now, shown)
    # In order of theme, as everywhere: two changes at once must not wait for each other.
    for theme, has in sorted(shown.themes, key=lambda pair: pair[0].id):
        if theme in added and not asks:
            _add(session, now, reader, theme, shown_in or language)
        elif has and theme.slug not in slugs:
            _drop(session, now, reader, theme)
    if asks:
        read = shown_in or language
        signup.ask_back(session=session, now=now, reader=reader, chosen=added, language=language, shown_in=read)
        return Change.ASKED
    if added or language != reader.language:
        reader.language = language
        if slugs:  # who reads nothing has nothing to put right
            _tell(session, now, reader)
    return Change.SAVED


def _check(shown: Shown, slugs: Collection[str], language: str) -> None:
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    if set(slugs) - {theme.slug for theme, _ in shown.themes}:
        raise errors.Refused("themes", "One of these themes isn’t offered any more. Please choose again.")


def _asks(session: Session, now: datetime, shown: Shown) -> bool:
    """Whether themes are added by a mailed button only. Raises Refused when not even so, or too often."""
    # A block is told whoever asks for more, reading something or not.
    if not _mailable(session, shown.subscriber) or not any(has for _, has in shown.themes):
        return True
    _check_often(session, now, shown.subscriber)
    return False


def _add(session: Session, now: datetime, reader: Subscriber, theme: themes.Theme, shown_in: str) -> None:
    confirmation.activate(
        session=session,
        now=now,
        subscriber_id=reader.id,
        theme_id=theme.id,
        event=ConsentEvent.CHANGED,
        channel=Channel.PREFERENCES,
        wording=consent.wording(consent.PREFERENCES, shown_in),
    )


def _drop(session: Session, now: datetime, reader: Subscriber, theme: themes.Theme) -> None:
    channel = Channel.PREFERENCES
    unsubscribe.leave(session=session, now=now, subscriber_id=reader.id, theme_id=theme.id, channel=channel)


def _tell(session: Session, now: datetime, reader: Subscriber) -> None:
    """The reader hears of each change, and of many at once: a mail that waits says what is true when it goes out."""
    waiting = select(Letter).where(
        Letter.subscriber_id == reader.id,
        Letter.kind == LetterKind.THEMES_TOLD,
        Letter.email == reader.email,  # not one to the mailbox that they left meanwhile: that one stays here
        Letter.due_at.is_not(None),
        Letter.attempts == 0,
    )
    # Held: a worker that takes it at this moment waits, and then sees what we do here.
    told = session.scalars(waiting.with_for_update().execution_options(populate_existing=True)).first()
    if told is None:
        due_at = _next_turn(session, now, reader)
        throttle.note(session=session, kind=TOLD, who=reader.email_key, now=due_at)
        told = own_data.post(session=session, now=now, reader=reader, kind=LetterKind.THEMES_TOLD, email=reader.email)
        told.due_at = due_at
    told.language = reader.language


def _next_turn(session: Session, now: datetime, reader: Subscriber) -> datetime:
    """When the next mail of that kind isn't too soon."""
    full = [
        span
        for span, most in own_data.CAPS
        if throttle.count(session=session, kind=TOLD, who=reader.email_key, since=now - span) >= most
    ]
    return now + max(full, default=timedelta(0))


def _check_often(session: Session, now: datetime, reader: Subscriber) -> None:
    if throttle.reached(session=session, kind=ADDED, who=reader.email_key, now=now, caps=MOST_ADDED):
        raise errors.Refused(
            "themes", "You have added themes many times today. Try again tomorrow. You can still leave."
        )
    throttle.note(session=session, kind=ADDED, who=reader.email_key, now=now)


def _mailable(session: Session, reader: Subscriber) -> bool:
    """After a bounce or a complaint only a fresh press of a mailed button undoes it (requirements 4.14)."""
    if addresses.blocked(session=session, email_key=reader.email_key):
        raise errors.Refused("themes", "You asked us never to mail you again. Write to us, and we undo that.")
    return not addresses.suppressed(session=session, email_keys=[reader.email_key])
