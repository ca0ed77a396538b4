"""The one mail that answers a sign-up, and the letters to a reader about their own data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from service import i18n, links, mail
from service.subscribers import address_change, addresses, confirmation, own_data, signup
from service.subscribers.models import Confirmation, Letter, LetterKind

# How long a letter is worth sending: as long as its link works.
LIVES = {
    LetterKind.DATA: own_data.LIFE,
    LetterKind.ADDRESS_NEW: address_change.LIFE,
    LetterKind.ADDRESS_TOLD: timedelta(hours=72),
    LetterKind.THEMES_TOLD: timedelta(hours=72),
}


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
    return _outbound(rendered, to=asked.subscriber.email, now=now, message_id=mail.message_id("c", asked.id))


def compose_letter(*, session: Session, now: datetime, letter_id: int) -> mail.Outbound | None:
    """None when there is nothing to mail any more: too late, used, vanished, or its address may not be mailed."""
    letter = session.get(Letter, letter_id)
    if letter is None or letter.used_at is not None or now > letter.asked_at + LIVES[letter.kind]:
        return None
    if not _may_be_mailed(session, letter):
        return None
    rendered = RENDER[letter.kind](session, letter)
    if rendered is None:
        return None
    return _outbound(rendered, to=letter.email, now=now, message_id=mail.message_id("l", letter.id))


def _may_be_mailed(session: Session, letter: Letter) -> bool:
    """What was asked for goes out after a bounce or complaint too, as a confirmation does."""
    key = addresses.key(letter.email)
    if letter.kind in (LetterKind.ADDRESS_TOLD, LetterKind.THEMES_TOLD):
        return not addresses.suppressed(session=session, email_keys=[key])
    if addresses.blocked(session=session, email_key=key):
        return False
    if letter.kind is LetterKind.DATA:
        return True
    return not signup.was_too_much(session=session, at=letter.asked_at, email_key=key)


def _outbound(rendered: mail.Rendered, *, to: str, now: datetime, message_id: str) -> mail.Outbound:
    message = mail.compose(rendered, to=to, stream=mail.Stream.CONFIRMATION, now=now, message_id=message_id)
    return mail.Outbound(recipient=to, sender=mail.return_address(), message=message)


def _data(session: Session, letter: Letter) -> mail.Rendered:
    return mail.render(
        "data_link",
        language=letter.language,
        data_url=links.data(letter.id),
        until=i18n.day_and_hour(letter.language, letter.asked_at + own_data.LIFE),
    )


def _address_new(session: Session, letter: Letter) -> mail.Rendered:
    return mail.render(
        "address_new",
        language=letter.language,
        old=addresses.mask(letter.subscriber.email),
        alike=addresses.alike(letter.subscriber.email, letter.email),
        address_url=links.address(letter.id),
        block_url=links.block_letter(letter.id),
        until=i18n.day_and_hour(letter.language, letter.asked_at + address_change.LIFE),
    )


def _address_told(session: Session, letter: Letter) -> mail.Rendered:
    return mail.render(
        "address_told",
        language=letter.language,
        new=addresses.mask(letter.subscriber.email),
        alike=addresses.alike(letter.subscriber.email, letter.email),
    )


def _themes_told(session: Session, letter: Letter) -> mail.Rendered | None:
    if addresses.key(letter.email) != letter.subscriber.email_key:  # moved meanwhile: the link isn't for that mailbox
        return None
    held = confirmation.themes_held(session=session, subscriber_id=letter.subscriber_id)
    if not held:  # left meanwhile
        return None
    return mail.render(
        "themes_told",
        language=letter.language,
        themes=[theme.name(letter.language) for theme in held],
        preferences_url=links.preferences(letter.subscriber_id, letter.subscriber.moved),
    )


RENDER: dict[LetterKind, Callable[[Session, Letter], mail.Rendered | None]] = {
    LetterKind.DATA: _data,
    LetterKind.ADDRESS_NEW: _address_new,
    LetterKind.ADDRESS_TOLD: _address_told,
    LetterKind.THEMES_TOLD: _themes_told,
}


def _to_confirm(session: Session, asked: Confirmation) -> mail.Rendered | None:
    wanted = confirmation.themes_of(session=session, confirmation=asked)
    if not wanted:
        return None
    return mail.render(
        "confirmation",
        language=asked.language,
        themes=[theme.name(asked.language) for theme in wanted],
        confirm_url=links.confirm(asked.id),
        block_url=links.block(asked.id),
        until=i18n.day_and_hour(asked.language, asked.requested_at + confirmation.LIFE),
    )


def _already_subscribed(session: Session, asked: Confirmation) -> mail.Rendered | None:
    held = confirmation.themes_held(session=session, subscriber_id=asked.subscriber_id)
    if not held:  # left between the form and this mail
        return None
    return mail.render(
        "already_subscribed",
        language=asked.language,
        themes=[theme.name(asked.language) for theme in held],
        preferences_url=links.preferences(asked.subscriber_id, asked.subscriber.moved),
    )
