"""The end of an address: every theme of its reader ends, and no list brings it back (requirements 1.10)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from service.subscribers import addresses, unsubscribe
from service.subscribers.models import Channel, EndReason, SuppressionReason

SUPPRESSED = {
    EndReason.HARD_BOUNCE: SuppressionReason.HARD_BOUNCE,
    EndReason.COMPLAINT: SuppressionReason.COMPLAINT,
}


def end(
    *, session: Session, now: datetime, subscriber_id: int, email_key: str, reason: EndReason, channel: Channel
) -> None:
    """No mail says so: it wouldn't arrive, or wouldn't be welcome. `reason`: one of SUPPRESSED."""
    addresses.suppress(session=session, now=now, email_key=email_key, reason=SUPPRESSED[reason])
    unsubscribe.end_all(session=session, now=now, subscriber_id=subscriber_id, reason=reason, channel=channel)
