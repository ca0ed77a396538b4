"""Addresses whose data went, known by a keyed hash: neither a restored backup nor an old file brings them back."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import db, links
from service.subscribers.models import Erasure

PURPOSE = "erasure"


def note(*, session: Session, now: datetime, email_key: str) -> None:
    """Also for the address that a reader left for another: a backup has it still. The newest counts."""
    newest, *older = links.keyed_hashes(PURPOSE, email_key)
    session.execute(delete(Erasure).where(Erasure.address_hash.in_(older)))
    put(session=session, at=now, address_hash=newest)


def put(*, session: Session, at: datetime, address_hash: str) -> None:
    new = db.insert(session, Erasure).values(address_hash=address_hash, at=at)
    later = new.on_conflict_do_update(
        index_elements=[Erasure.address_hash], set_={"at": new.excluded.at}, where=Erasure.at < new.excluded.at
    )
    session.execute(later)


def known(*, session: Session, email_keys: Collection[str]) -> dict[str, datetime]:
    """When the data of these addresses last went, of those that ever did."""
    by_hash = {hashed: key for key in email_keys for hashed in links.keyed_hashes(PURPOSE, key)}
    query = select(Erasure.address_hash, Erasure.at).where(db.one_of(session, Erasure.address_hash, by_hash))
    found: dict[str, datetime] = {}
    for hashed, at in session.execute(query):
        key = by_hash[hashed]
        found[key] = max(at, found.get(key, at))
    return found
