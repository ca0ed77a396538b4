"""Where an address stands, in whatever spelling."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.privacy import marks, places
from service.privacy.spellings import Spelled
from service.subscribers.addresses import Address
from service.subscribers.models import Subscriber


@dataclass(frozen=True)
class Found:
    """How often, by place. `marks` are keyed hashes: they say that we know the address, and nobody can read it back."""

    places: Counter[str]
    marks: Counter[str]
    skipped: list[str]


def spelled(*, session: Session, address: Address) -> Spelled:
    """With the capitals that a reader typed it in, which base64 hides from who searches in small letters."""
    typed = session.scalars(select(Subscriber.email).where(Subscriber.email_key == address.key))
    return Spelled(address.email, *typed)


def everywhere(*, session: Session, address: Address, spelled: Spelled) -> Found:
    """Raises Conflict when a place can't be looked into. It takes a while: every row is looked at."""
    skipped = places.open_files(session)
    stands = places.in_tables(session=session, spelled=spelled)
    stands += places.in_redis(spelled=spelled)
    stands += places.in_files(spelled=spelled, skip=skipped)
    hashes = marks.of(session=session, email_key=address.key)
    marked = places.marked(session=session, hashes=hashes) + places.marked_files(hashes=hashes, skip=skipped)
    return Found(stands, marked, [path.name for path in skipped])
