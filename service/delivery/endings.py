"""The end of an address: every theme of its reader ends, and no list brings it back (requirements 1.10)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from service.subscribers import addresses, own_data, unsubscribe
from service.subscribers.models import Channel, EndReason, SuppressionReason

SUPPRESSED = {
    EndReason.HARD_BOUNCE: SuppressionReason.HARD_BOUNCE,
    EndReason.COMPLAINT: SuppressionReason.COMPLAINT,
}


def end(
    *, session: Session, now: datetime, subscriber_id: int, email_key: str, reason: EndReason, channel: Channel
) -> None:
    """`email_key` is the address that was mailed: when the reader has another one by now, this says nothing of it, and
    their themes stay. No mail says so: it wouldn't arrive, or wouldn't be welcome. `reason`: one of SUPPRESSED.
    """
    # The reader's row first, as everywhere: a confirmation of this moment lifts what is suppressed here, or sees it.
    reader = own_data.hold(session=session, subscriber_id=subscriber_id)
    addresses.suppress(session=session, now=now, email_key=email_key, reason=SUPPRESSED[reason])
    if reader is not None and reader.email_key == email_key:
        unsubscribe.end_all(session=session, now=now, subscriber_id=subscriber_id, reason=reason, channel=channel)
