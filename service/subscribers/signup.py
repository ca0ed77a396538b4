"""From ticked boxes to a confirmation mail.

Whoever asks gets the same answer, whether the address is new, pending, subscribed, suppressed or
over its cap (requirements 4.6): what differs goes by mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import db, errors, i18n, jobs, settings, themes, throttle
from service.subscribers import addresses, confirmation, consent
from service.subscribers.models import (
    Channel,
    Confirmation,
    ConsentEvent,
    SignupRequest,
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
    address, _ = _checked(session=session, email=email, slugs=slugs, language=language)
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
        sign_up(
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
    address, chosen = _checked(session=session, email=email, slugs=slugs, language=language)
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
    throttle.note(session=session, kind=MAILED, who=key, now=now)
    wanted = [theme.id for theme in chosen if _ask(session=session, now=now, subscriber=subscriber, theme=theme)]
    for theme_id in wanted:
        consent.record(
            session=session,
            now=now,
            subscriber_id=subscriber.id,
            theme_id=theme_id,
            event=ConsentEvent.REQUESTED,
            channel=Channel.WEB_FORM,
            wording=consent.wording(consent.ELSEWHERE if elsewhere else consent.FORM, language),
        )
    _post(session=session, now=now, subscriber=subscriber, language=language, theme_ids=wanted)


def _post(*, session: Session, now: datetime, subscriber: Subscriber, language: str, theme_ids: list[int]) -> None:
    """The one mail that answers the form."""
    confirmed_by = Confirmation(
        subscriber_id=subscriber.id, language=language, theme_ids=theme_ids, requested_at=now, due_at=now
    )
    session.add(confirmed_by)
    session.flush()
    jobs.enqueue(session, jobs.SEND_CONFIRMATION, confirmed_by.id)


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


def _checked(
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
