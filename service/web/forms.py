"""What keeps machines out of the sign-up form without cookie or script (requirements 4.10)."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from service import links

TRAP = "website"


def started(now: datetime) -> str:
    """When the form was shown, signed, for a hidden field."""
    return _sign(str(int(now.timestamp() * 1000)))


def age(mark: str, now: datetime) -> timedelta | None:
    """How long ago the form was shown. None when it doesn't say, or not in our hand:
    a form on another site can't know.
    """
    milliseconds = mark.partition(".")[0]
    if not hmac.compare_digest(_sign(milliseconds).encode(), mark.encode()):
        return None
    return timedelta(milliseconds=1000 * now.timestamp() - int(milliseconds))


def _sign(milliseconds: str) -> str:
    return f"{milliseconds}.{links.keyed_hash('form', milliseconds)}"
