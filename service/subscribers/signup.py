"""From ticked boxes to a confirmation mail.

Whoever asks gets the same answer, whether the address is new, pending, subscribed, suppressed or
over its cap (requirements 4.6): what differs goes by mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import errors, i18n, jobs, settings, themes, throttle
from service.subscribers import addresses, consent
from service.subscribers.models import Channel, Confirmation, ConsentEvent, State, Subscriber, Subscription

# requirements 4.4: mails to one address, however many forms are sent.
CAPS = ((timedelta(minutes=10), 1), (timedelta(hours=24), 3), (timedelta(days=30), 5))
HOUR = timedelta(hours=1)
MAILED, TRIED = "signup_mail", "signup_network"

log = structlog.get_logger()


def sign_up(*, session: Session, now: datetime, email: str, slugs: Sequence[str], language: str, network: str) -> None:
    """Queue one confirmation mail for all ticked themes. Raises Refused for what the visitor can mend."""
    address = addresses.parse(email, smtputf8=settings.current().smtputf8)
    if not slugs:
        raise errors.Refused("themes", "Tick at least one theme.")
    if language not in i18n.LANGUAGES:
        raise errors.Refused("language", "Choose Dutch or English.")
    chosen = themes.chosen(session=session, slugs=slugs)
    subscriber = _found_or_made(session=session, address=address, language=language, now=now)
    allowed = _within_caps(session=session, now=now, address=address, network=network)
    throttle.note(session=session, kind=TRIED, who=network, now=now)
    if not allowed or addresses.blocked(session=session, email_key=address.key):
        return
    throttle.note(session=session, kind=MAILED, who=address.key, now=now)
    wanted = [theme.id for theme in chosen if _ask(session=session, now=now, subscriber=subscriber, theme=theme)]
    for theme_id in wanted:
        consent.record(
            session=session,
            now=now,
            subscriber_id=subscriber.id,
            theme_id=theme_id,
            event=ConsentEvent.REQUESTED,
            channel=Channel.WEB_FORM,
            wording=consent.wording(consent.FORM, language),
        )
    confirmation = Confirmation(
        subscriber_id=subscriber.id, language=language, theme_ids=wanted, requested_at=now, due_at=now
    )
    session.add(confirmation)
    session.flush()
    jobs.enqueue(session, jobs.SEND_CONFIRMATION, confirmation.id)


def _found_or_made(*, session: Session, address: addresses.Address, language: str, now: datetime) -> Subscriber:
    """The subscriber's row, held until commit: sign-ups for one address go one after the other."""
    query = select(Subscriber).where(Subscriber.email_key == address.key).with_for_update()
    found = session.scalar(query)
    if found is None:
        made = Subscriber(email=address.email, email_key=address.key, language=language, created_at=now)
        try:
            with session.begin_nested():
                session.add(made)
        except IntegrityError:  # another sign-up for this address was a moment earlier
            found = session.scalars(query).one()
        else:
            found = made
    return found


def _within_caps(*, session: Session, now: datetime, address: addresses.Address, network: str) -> bool:
    caps = settings.current()
    if throttle.count(session=session, kind=TRIED, who=network, since=now - HOUR) >= caps.signups_per_network_hour:
        log.warning("signup_cap_network")
        return False
    if throttle.count_all(session=session, kind=MAILED, since=now - HOUR) >= caps.signups_per_hour:
        log.error("signup_ceiling_reached", per_hour=caps.signups_per_hour)
        return False
    return all(
        throttle.count(session=session, kind=MAILED, who=address.key, since=now - span) < most for span, most in CAPS
    )


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
