"""“This wasn’t me, never mail me again”: by the link in a mail that anybody can cause, with the sign-up form or by
filling in this address as their new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func
from sqlalchemy.orm import Session

from service import throttle
from service.subscribers import address_change, addresses, confirmation, own_data, signup, unsubscribe
from service.subscribers.models import Channel, Confirmation, Letter, LetterKind, SuppressionReason


@dataclass(frozen=True)
class Asked:
    """Whom the mail went to. `reader_id`: who has that address; of a letter perhaps nobody."""

    email: str
    language: str
    reader_id: int | None


def find(*, session: Session, now: datetime, confirmation_id: int = 0, letter_id: int = 0) -> Asked | None:
    """None when the link works no longer. It goes along when the mail is forwarded, and only an operator undoes a
    block: so it works as long as the request could be answered, and no longer.
    """
    if letter_id:
        return _of_letter(session, now, letter_id)
    asked = session.get(Confirmation, confirmation_id, populate_existing=True)
    if asked is None or now > asked.requested_at + confirmation.LIFE:
        return None
    return Asked(asked.subscriber.email, asked.language, asked.subscriber_id)


def block(*, session: Session, now: datetime, confirmation_id: int = 0, letter_id: int = 0) -> bool:
    """Of who never confirmed anything nothing stays but the keyed mark; who reads us leaves every theme.
    False when the link works no longer.
    """
    _hold(session, confirmation_id, letter_id)
    asked = find(session=session, now=now, confirmation_id=confirmation_id, letter_id=letter_id)
    if asked is None:
        return False
    key, reader_id = addresses.key(asked.email), asked.reader_id
    addresses.suppress(session=session, now=now, email_key=key, reason=SuppressionReason.BLOCKED)
    session.flush()
    throttle.forget(session=session, kind=signup.MAILED, who=key)
    to_here = delete(Letter).where(Letter.kind == LetterKind.ADDRESS_NEW, func.lower(Letter.email) == key)
    session.execute(to_here.where(Letter.used_at.is_(None)))
    if reader_id is not None:
        confirmation.withdraw(session=session, now=now, subscriber_id=reader_id)
        unsubscribe.leave_all(session=session, now=now, subscriber_id=reader_id, channel=Channel.MAIL)
    return True


def _of_letter(session: Session, now: datetime, letter_id: int) -> Asked | None:
    letter = session.get(Letter, letter_id, populate_existing=True)
    if letter is None or letter.kind is not LetterKind.ADDRESS_NEW or letter.used_at is not None:
        return None
    if now > letter.asked_at + address_change.LIFE:
        return None
    owner = address_change.owner(session=session, letter=letter)
    return Asked(letter.email, letter.language, owner.id if owner else None)


def _hold(session: Session, confirmation_id: int, letter_id: int) -> None:
    """The rows of whom it is about, before all that is theirs: the other button may be pressed at this moment."""
    if letter_id:
        letter = session.get(Letter, letter_id)
        if letter is not None:
            address_change.hold(session=session, letter=letter)
        return
    asked = session.get(Confirmation, confirmation_id)
    if asked is not None:
        own_data.hold(session=session, subscriber_id=asked.subscriber_id)
