"""Where an address stands, in whatever spelling."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.privacy import marks, places
from service.privacy.spellings import Spelled
from service.subscribers.addresses import Address


@dataclass(frozen=True)
class Found:
    """How often, by place. `marks` are keyed hashes: they say that we know the address, and nobody can read it back."""

    places: Counter[str]
    marks: Counter[str]
    skipped: list[str]


def everywhere(*, session: Session, address: Address) -> Found:
    """Raises Conflict when a place can't be looked into. It takes a while: every row is looked at."""
    spelled, skipped = Spelled(address.email), places.open_files(session)
    stands = places.in_tables(session=session, spelled=spelled)
    stands += places.in_redis(spelled=spelled)
    stands += places.in_files(spelled=spelled, skip=skipped)
    hashes = marks.of(session=session, email_key=address.key)
    return Found(stands, places.marked(session=session, hashes=hashes), [path.name for path in skipped])
