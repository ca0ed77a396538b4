"""A reader goes, with everything that says who they were (GDPR art. 17).

What stays can't be read back: a suppression and the erasure itself, as keyed hashes, and counts. The numbers of
deliveries and reports stay too, and lead to nobody: a round's books must balance (decision 0017).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import db
from service.issues import rota
from service.privacy import caught
from service.subscribers import addresses, erasures, intake, signup
from service.subscribers.models import (
    Confirmation,
    Consent,
    ConsentCount,
    Erasure,
    Letter,
    Subscriber,
    Subscription,
)

FOLLOWED = timedelta(hours=1)

log = structlog.get_logger()


def erase(*, session: Session, now: datetime, subscriber_id: int, by_owner: bool = False) -> None:
    """Harmless to repeat. Whoever works on this reader is waited for: the reader's row is theirs first.

    `by_owner`: the press came out of the mailbox itself. They may want to come back at once.
    """
    asked = session.get(Subscriber, subscriber_id)
    if asked is None:
        return
    intake.forget(session=session, email=asked.email)
    erase_held(session=session, now=now, subscriber_id=subscriber_id)
    # After it: who moves to this address holds that row before they touch their letter.
    _forget_letters(session, asked.email)
    if by_owner:
        signup.spare(session=session, now=now, email_key=asked.email_key)


def erase_held(*, session: Session, now: datetime, subscriber_id: int) -> None:
    """The row alone and what hangs on it, for who holds it already: a form asks for it while a worker has that form,
    and another reader's letter to this address tells it of the change.
    """
    held = select(Subscriber).where(Subscriber.id == subscriber_id).with_for_update(key_share=True)
    reader = session.scalar(held.execution_options(populate_existing=True))
    if reader is None:
        return
    # Then what they ticked: who leaves, or bounces in a round, holds that, and needs the reader's row for the evidence.
    ticked = select(Subscription.theme_id).where(Subscription.subscriber_id == subscriber_id)
    session.execute(ticked.order_by(Subscription.theme_id).with_for_update())
    query = select(Letter.email).where(Letter.subscriber_id == subscriber_id)
    known_by = {reader.email, *session.scalars(query)}
    fold_consents(session=session, subscriber_ids=[subscriber_id])
    for model in (Subscription, Confirmation, Letter):
        session.execute(delete(model).where(model.subscriber_id == subscriber_id))
    session.execute(delete(Subscriber).where(Subscriber.id == subscriber_id))
    erasures.note(session=session, now=now, email_key=reader.email_key)
    db.scrub(session)
    caught.forget(emails=_theirs(session, known_by))
    log.info("reader_erased")


def erase_address(*, session: Session, now: datetime, address: addresses.Address) -> None:
    """The same for who may be no subscriber: a form that nobody took yet, a mail that was caught."""
    subscriber_id = session.scalar(select(Subscriber.id).where(Subscriber.email_key == address.key))
    if subscriber_id is not None:
        erase(session=session, now=now, subscriber_id=subscriber_id)
        return
    intake.forget(session=session, email=address.email)
    _forget_letters(session, address.email)
    erasures.note(session=session, now=now, email_key=address.key)
    db.scrub(session)
    caught.forget(emails={address.email})


def follow_up(*, session: Session, now: datetime) -> None:
    """For the tick: what couldn't go at once. A mail was under way, or somebody was reading SQLite's log."""
    since = now - FOLLOWED
    if session.scalar(select(Erasure.address_hash).where(Erasure.at > since).limit(1)) is not None:
        db.scrub(session)
        caught.sweep(session=session, since=since)


def fold_consents(*, session: Session, subscriber_ids: Collection[int]) -> None:
    """Evidence of these readers becomes a count per theme, week and event. Hold their rows before."""
    these = delete(Consent).where(Consent.subscriber_id.in_(subscriber_ids))
    gone = these.returning(Consent.theme_id, Consent.at, Consent.event).execution_options(synchronize_session=False)
    counted = Counter((theme_id, rota.week_of(at), event) for theme_id, at, event in session.execute(gone))
    if not counted:
        return
    new = db.insert(session, ConsentCount)
    new = new.on_conflict_do_update(
        index_elements=[ConsentCount.theme_id, ConsentCount.week, ConsentCount.event],
        set_={"count": ConsentCount.count + new.excluded.count},
    )
    # In one order: two erasures at once must not wait for each other.
    rows = [
        {"theme_id": theme_id, "week": week, "event": event, "count": count}
        for (theme_id, week, event), count in sorted(counted.items())
    ]
    session.execute(new, rows)


def _forget_letters(session: Session, email: str) -> None:
    """Also of another reader, who typed this address or took over from it."""
    domain = email.rpartition("@")[2]
    found = session.execute(select(Letter.id, Letter.email).where(Letter.email.endswith(f"@{domain}", autoescape=True)))
    to_them = [row.id for row in found if addresses.key(row.email) == addresses.key(email)]
    session.execute(delete(Letter).where(Letter.id.in_(to_them)))


def _theirs(session: Session, emails: set[str]) -> set[str]:
    """Without those that are another's: a letter may have gone to an address that was typed wrong."""
    keys = {email: email.lower() for email in emails}
    others = set(session.scalars(select(Subscriber.email_key).where(Subscriber.email_key.in_(keys.values()))))
    return {email for email, key in keys.items() if key not in others}
