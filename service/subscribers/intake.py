"""Forms that came in by the web door, and wait for a worker to take them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import errors, jobs
from service.subscribers import addresses, confirmation, signup
from service.subscribers.models import SignupRequest

log = structlog.get_logger()


def ask(
    *,
    session: Session,
    now: datetime,
    email: str,
    slugs: Sequence[str],
    language: str,
    network: str,
    elsewhere: bool = False,
    unproven: bool = False,
) -> None:
    """Keep what a form said, for a worker to take. Raises Refused for what the visitor can mend.

    The same work for whatever address: not even the time it takes tells who is subscribed.
    """
    address, _ = signup.checked(session=session, email=email, slugs=slugs, language=language)
    asked = SignupRequest(
        email=address.email,
        slugs=list(slugs),
        language=language,
        network=network,
        elsewhere=elsewhere,
        unproven=unproven,
        at=now,
    )
    session.add(asked)
    session.flush()
    jobs.enqueue(session, jobs.TAKE_SIGNUP, asked.id)


def waiting(*, session: Session, now: datetime) -> list[int]:
    """Requests that should have been taken: their bell wasn't heard."""
    query = select(SignupRequest.id).where(SignupRequest.at <= now).order_by(SignupRequest.id).limit(500)
    return list(session.scalars(query))


def take(*, session: Session, now: datetime, request_id: int) -> None:
    """Do what the form asked and forget the form. Harmless when another worker was first."""
    query = select(SignupRequest).where(SignupRequest.id == request_id).with_for_update(skip_locked=True)
    asked = session.scalar(query)
    if asked is None:
        return
    session.delete(asked)
    if asked.at < now - confirmation.LIFE:
        return
    try:
        signup.sign_up(
            session=session,
            now=asked.at,
            email=asked.email,
            slugs=asked.slugs,
            language=asked.language,
            network=asked.network,
            elsewhere=asked.elsewhere,
            unproven=asked.unproven,
        )
    except errors.Refused as refused:  # a theme was retired in between
        log.info("signup_refused", field=refused.field)


def forget(*, session: Session, email: str) -> None:
    """Forms for this address that no worker took yet. Before the reader's row, if you hold both: who takes a form
    holds it and asks for that row next.
    """
    domain = email.rpartition("@")[2]
    asked = select(SignupRequest.id, SignupRequest.email)
    found = session.execute(asked.where(SignupRequest.email.endswith(f"@{domain}", autoescape=True)))
    # Compared here: SQLite's lower() knows ASCII only.
    theirs = [row.id for row in found if addresses.key(row.email) == addresses.key(email)]
    session.execute(delete(SignupRequest).where(SignupRequest.id.in_(theirs)))
