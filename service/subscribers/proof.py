"""A small calculation that a visitor's browser does before it sends a form (requirements 4.10): hardly felt by who
sends one, and costly for who sends thousands. ALTCHA's protocol, version 1, on our own server (decision 0019).

Nothing is kept of a challenge until it's answered: our signature says that it's ours, its salt until when it counts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from service import links, throttle

ALGORITHM = "SHA-256"
MOST = 50_000  # numbers to try; half of them on the average
LIFE = timedelta(minutes=10)  # shorter than throttle.KEEP_ONCE
# Closed with an &: without it, digits of the number can be read as part of the hour (CVE-2025-68113).
SALT = re.compile(r"[0-9a-f]{24}\?expires=([0-9]{10})&", re.ASCII)
LONGEST = 800  # characters; ours take about 400


def challenge(*, now: datetime) -> dict[str, str | int]:
    """Which number, from 0 to `maxnumber`, gives this hash behind this salt?"""
    salt = f"{secrets.token_hex(12)}?expires={int((now + LIFE).timestamp())}&"
    asked = _hash(salt, secrets.randbelow(MOST + 1))
    return {"algorithm": ALGORITHM, "challenge": asked, "maxnumber": MOST, "salt": salt, "signature": _sign(asked)}


def spend(*, session: Session, now: datetime, solution: str) -> bool:
    """Whether it answers a challenge of ours that isn't too old. It counts once: the second time it's none."""
    asked = _answered(solution, now)
    return asked is not None and throttle.first(session=session, who=asked, now=now)


def _answered(solution: str, now: datetime) -> str | None:
    """The challenge that `solution` answers. Whoever sends it may have written anything."""
    try:
        said = json.loads(base64.b64decode(solution[:LONGEST], validate=True))
        asked, salt, number = str(said["challenge"]), str(said["salt"]), int(said["number"])
        right = hmac.compare_digest(_sign(asked).encode(), str(said["signature"]).encode())
        until = SALT.fullmatch(salt)
        if not right or until is None or datetime.fromtimestamp(int(until[1]), UTC) < now:
            return None
        return asked if hmac.compare_digest(_hash(salt, number).encode(), asked.encode()) else None
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def _hash(salt: str, number: int) -> str:
    return hashlib.sha256(f"{salt}{number}".encode()).hexdigest()


def _sign(asked: str) -> str:
    return links.keyed_hash("challenge", asked)
