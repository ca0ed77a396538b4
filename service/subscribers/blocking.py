"""“This wasn't me, never mail me again”: by the link in the mail that a sign-up caused."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func
from sqlalchemy.orm import Session

from service import throttle
from service.subscribers import addresses, confirmation, own_data, signup, unsubscribe
from service.subscribers.models import Channel, Confirmation, Letter, LetterKind, SuppressionReason


def block(*, session: Session, now: datetime, confirmation_id: int) -> bool:
    """Of who never confirmed anything nothing stays but the keyed mark; who reads us leaves every theme.
    False when the request isn't there any more: then we don't know whose it was.
    """
    asked = session.get(Confirmation, confirmation_id, populate_existing=True)
    reader = own_data.hold(session=session, subscriber_id=asked.subscriber_id) if asked else None
    if reader is None:
        return False
    subscriber_id, key = reader.id, reader.email_key
    addresses.suppress(session=session, now=now, email_key=key, reason=SuppressionReason.BLOCKED)
    session.flush()
    throttle.forget(session=session, kind=signup.MAILED, who=key)
    to_here = delete(Letter).where(Letter.kind == LetterKind.ADDRESS_NEW, func.lower(Letter.email) == key)
    session.execute(to_here.where(Letter.used_at.is_(None)))
    confirmation.withdraw(session=session, now=now, subscriber_id=subscriber_id)
    unsubscribe.leave_all(session=session, now=now, subscriber_id=subscriber_id, channel=Channel.MAIL)
    return True
