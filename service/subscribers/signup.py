"""From ticked boxes to a confirmation mail.

Whoever asks gets the same answer, whether the address is new, pending, subscribed, suppressed or
over its cap (requirements 4.6): what differs goes by mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors, i18n, jobs, settings, themes, throttle
from service.subscribers import addresses, confirmation, consent
from service.subscribers.models import (
    Channel,
    Confirmation,
    ConsentEvent,
    State,
    Subscriber,
    Subscription,
)

# requirements 4.4: mails to one address, however many forms are sent.
CAPS = ((timedelta(minutes=10), 1), (timedelta(hours=24), 3), (timedelta(days=30), 5))
HOUR = timedelta(hours=1)
MAILED, TRIED = "signup_mail", "signup_network"
TIGHTER = 3  # the part of a network's cap for forms without our mark or proof: one in three

log = structlog.get_logger()


class Read(NamedTuple):
    channel: Channel
    wording: consent.Wording


def sign_up(
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
    """Queue one confirmation mail for all ticked themes, within the caps. Raises Refused."""
    address, chosen = checked(session=session, email=email, slugs=slugs, language=language)
    # Counted for a blocked address too: how many more forms a network may send must not tell who is blocked.
    if not _heard(session=session, now=now, network=network, tight=elsewhere or unproven):
        return
    key = address.key
    if addresses.blocked(session=session, email_key=key) or mailed_enough(session=session, now=now, email_key=key):
        return
    subscriber = _found_or_made(session=session, address=address, language=language, now=now)
    # Both again, now that we hold the row.
    if addresses.blocked(session=session, email_key=key):
        confirmation.withdraw(session=session, now=now, subscriber_id=subscriber.id)  # nothing but the mark is kept
        return
    if mailed_enough(session=session, now=now, email_key=key):
        return
    read = Read(Channel.WEB_FORM, consent.wording(consent.ELSEWHERE if elsewhere else consent.FORM, language))
    _mail(session, now, subscriber, chosen, language, read)


def ask_back(
    *, session: Session, now: datetime, reader: Subscriber, chosen: Sequence[themes.Theme], language: str, shown_in: str
) -> None:
    """Who left everything comes back by the button in a mail, as anybody; within the caps, and nobody can tell.

    Only with the reader's row held. `shown_in`: the language of the preference page, whose words were read.
    """
    key = reader.email_key
    if mailed_enough(session=session, now=now, email_key=key) or full(session=session, now=now):
        return
    read = Read(Channel.PREFERENCES, consent.wording(consent.PREFERENCES, shown_in))
    _mail(session, now, reader, chosen, language, read)


def _mail(
    session: Session, now: datetime, subscriber: Subscriber, chosen: Sequence[themes.Theme], language: str, read: Read
) -> None:
    """The one mail that answers the form, with the evidence of what was asked for."""
    throttle.note(session=session, kind=MAILED, who=subscriber.email_key, now=now)
    # In order of theme, as everywhere: who leaves everything at this moment must not wait for us, and we for them.
    ordered = sorted(chosen, key=lambda theme: theme.id)
    wanted = [theme.id for theme in ordered if _ask(session=session, now=now, subscriber=subscriber, theme=theme)]
    for theme_id in wanted:
        consent.record(
            session=session,
            now=now,
            subscriber_id=subscriber.id,
            theme_id=theme_id,
            event=ConsentEvent.REQUESTED,
            channel=read.channel,
            wording=read.wording,
        )
    confirmed_by = Confirmation(
        subscriber_id=subscriber.id, language=language, theme_ids=wanted, requested_at=now, due_at=now
    )
    session.add(confirmed_by)
    session.flush()
    jobs.enqueue(session, jobs.SEND_CONFIRMATION, confirmed_by.id)


def spare(*, session: Session, now: datetime, email_key: str) -> None:
    """Let the next form for this address not be too soon after the last. The caps of a day and longer hold."""
    shortest = min(span for span, _ in CAPS)
    throttle.forget(session=session, kind=MAILED, who=email_key, since=now - shortest)


def mailed_enough(*, session: Session, now: datetime, email_key: str) -> bool:
    """Whether an address that is nobody's yet had as many mails as one may get unasked."""
    return throttle.reached(session=session, kind=MAILED, who=email_key, now=now, caps=CAPS)


def was_too_much(*, session: Session, at: datetime, email_key: str) -> bool:
    """Whether a mail that was noted at `at` went over a cap or the ceiling: then it stays here."""
    if throttle.was_reached(session=session, kind=MAILED, who=email_key, at=at, caps=CAPS):
        return True
    mails = throttle.count_all(session=session, kind=MAILED, since=at - HOUR, until=at)
    return mails > settings.current().signups_per_hour


def checked(
    *, session: Session, email: str, slugs: Sequence[str], language: str
) -> tuple[addresses.Address, Sequence[themes.Theme]]:
    address = addresses.parse(email, smtputf8=settings.current().smtputf8)
    if not slugs:
        raise errors.Refused("themes", "Tick at least one theme.")
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    return address, themes.chosen(session=session, slugs=slugs)


def _found_or_made(*, session: Session, address: addresses.Address, language: str, now: datetime) -> Subscriber:
    """The subscriber's row, held until commit: sign-ups for one address go one after the other."""
    query = select(Subscriber).where(Subscriber.email_key == address.key).with_for_update(key_share=True)
    found = session.scalar(query)
    if found is None:
        # Another may be a moment earlier. A statement that fails then would put the address in PostgreSQL's log.
        made = db.insert(session, Subscriber).values(
            email=address.email, email_key=address.key, language=language, created_at=now
        )
        session.execute(made.on_conflict_do_nothing())
        found = session.scalars(query).one()
    return found


def full(*, session: Session, now: datetime) -> bool:
    """Whether the form caused as many mails in the past hour as it may, to all addresses together."""
    return throttle.count_all(session=session, kind=MAILED, since=now - HOUR) >= settings.current().signups_per_hour


def _heard(*, session: Session, now: datetime, network: str, tight: bool) -> bool:
    """Whether this network, and all of them together, asked no more than the caps allow. Over it nothing is kept."""
    caps = settings.current()
    most = caps.signups_per_network_hour
    if tight:  # such a form can't show that a person took time for it, or a browser trouble
        most = max(1, most // TIGHTER)
    if throttle.count(session=session, kind=TRIED, who=network, since=now - HOUR) >= most:
        log.warning("signup_cap_network")
        return False
    if full(session=session, now=now):
        log.error("signup_ceiling_reached", per_hour=caps.signups_per_hour)
        return False
    throttle.note(session=session, kind=TRIED, who=network, now=now)
    return True


def _ask(*, session: Session, now: datetime, subscriber: Subscriber, theme: themes.Theme) -> bool:
    """Make the subscription pending; False when the reader has the theme already."""
    known = session.get(Subscription, (theme.id, subscriber.id))
    if known is None:
        session.add(Subscription(theme_id=theme.id, subscriber_id=subscriber.id, state=State.PENDING, requested_at=now))
    elif known.state is State.ACTIVE:
        return False
    else:
        known.state, known.requested_at = State.PENDING, now
    return True
