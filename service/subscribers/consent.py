"""Evidence of consent: which wording, which theme, when, through what (GDPR art. 7(1)).

Wordings are versioned files in `wordings/`. A text that was shown is never edited: a new one gets a new number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from sqlalchemy.orm import Session

from service.subscribers.models import Channel, Consent, ConsentEvent

FORM = "form-1"
ELSEWHERE = "elsewhere-1"  # the form stood on a page that isn't ours, so we can't know its words
CONFIRM = "confirm-2"
PREFERENCES = "preferences-1"
IMPORT = "import-2"  # nor those of an older list
ADDRESS = "address-2"
EARLIER = ("confirm-1", "import-1", "address-1")


@dataclass(frozen=True)
class Wording:
    """`name` as it stands in the evidence: "form-1.nl". `hash` is the text's SHA-256."""

    name: str
    text: str
    hash: str


NONE = Wording(name="", text="", hash="")  # leaving asks for no wording


@lru_cache(maxsize=32)
def wording(name: str, language: str) -> Wording:
    text = (Path(__file__).parent / "wordings" / f"{name}.{language}.txt").read_text(encoding="utf-8").strip()
    return Wording(name=f"{name}.{language}", text=text, hash=hashlib.sha256(text.encode()).hexdigest())


def was_read(name: str) -> bool:
    """False for a text of ours that stands where we can't know the words: it says why."""
    return name.partition("-")[0] not in ("elsewhere", "import")


def record(
    *,
    session: Session,
    now: datetime,
    subscriber_id: int,
    theme_id: int,
    event: ConsentEvent,
    channel: Channel,
    wording: Wording,
    source: str = "",
) -> None:
    session.add(
        Consent(
            subscriber_id=subscriber_id,
            theme_id=theme_id,
            event=event,
            channel=channel,
            at=now,
            wording=wording.name,
            wording_hash=wording.hash,
            source=source,
        )
    )
