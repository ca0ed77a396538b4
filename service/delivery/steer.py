"""The operator's hand on the relay's limits: what was typed, at either door."""

from __future__ import annotations

import re
from datetime import datetime

from sqlalchemy.orm import Session

from service import errors
from service.delivery import breaker, limits
from service.delivery.limits import Limits

SETTING = ("", "default")  # back to what the setting says
MOST_CONNECTIONS = 1000
# Two decimals at most: "1.000" is a thousand to one reader and one to another.
RATE = re.compile(r"[0-9]{1,7}([.,][0-9]{1,2})?")


def change(*, session: Session, now: datetime, connections: str | None = None, rate: str | None = None) -> Limits:
    """None leaves a limit as it is. Raises Refused, and then neither is changed."""
    row = breaker.relay(session=session, now=now)
    return limits.change(
        session=session,
        now=now,
        connections=row.connections if connections is None else _connections(connections.strip()),
        rate=row.rate if rate is None else _rate(rate.strip()),
    )


def _connections(typed: str) -> int | None:
    if typed in SETTING:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", typed) or not 1 <= int(typed) <= MOST_CONNECTIONS:
        raise errors.Refused("connections", "Give a number from 1 to %(most)s.", most=MOST_CONNECTIONS)
    return int(typed)


def _rate(typed: str) -> float | None:
    if typed in SETTING:
        return None
    if not RATE.fullmatch(typed):
        raise errors.Refused("rate", "Give a number such as 50 or 0.5, without dots between thousands; 0 is no limit.")
    return float(typed.replace(",", "."))
