"""Keyed hashes of an address: what a table can recognise and nobody can read back. Their key is not in the database."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import links, themes, throttle
from service.subscribers import addresses, erasures, leavings


def of(*, session: Session, email_key: str) -> set[str]:
    """Whatever a table may know this address by, whichever key was in use then."""
    tries = session.scalars(select(throttle.Attempt.kind).distinct()).all()
    alone = under(purposes=(addresses.PURPOSE, erasures.PURPOSE, *tries), value=email_key)
    slugs = [theme.slug for theme in themes.every(session=session)]
    return alone.union(*(leavings.marks(email_key=email_key, slug=slug) for slug in slugs))


def under(*, purposes: tuple[str, ...], value: str) -> set[str]:
    return {hashed for purpose in purposes for hashed in links.keyed_hashes(purpose, value)}
