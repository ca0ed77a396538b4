"""The press of the button behind the mailed link: double opt-in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, ScalarSelect, and_, delete, exists, func, or_, select, true, update
from sqlalchemy.orm import Session

from service import themes
from service.subscribers import addresses, consent, own_data
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    ConsentEvent,
    EndReason,
    Letter,
    State,
    Subscriber,
    Subscription,
)

LIFE = timedelta(hours=72)  # requirements 3.2: unconfirmed requests vanish
KEEP_CONFIRMED = timedelta(days=30)  # so long a second press is answered by "confirmed already"


class Answer(StrEnum):
    CONFIRMED = "confirmed"
    ALREADY = "already"
    EXPIRED = "expired"


def find(*, session: Session, confirmation_id: int) -> Confirmation | None:
    return session.get(Confirmation, confirmation_id)


def themes_of(*, session: Session, confirmation: Confirmation) -> Sequence[themes.Theme]:
    query = select(themes.Theme).where(themes.Theme.id.in_(confirmation.theme_ids)).order_by(themes.Theme.name_nl)
    return session.scalars(query).all()


def themes_held(*, session: Session, subscriber_id: int) -> Sequence[themes.Theme]:
    """What a reader gets now."""
    query = (
        select(themes.Theme)
        .join(Subscription, Subscription.theme_id == themes.Theme.id)
        .where(Subscription.subscriber_id == subscriber_id, Subscription.state == State.ACTIVE)
    )
    return session.scalars(query.order_by(themes.Theme.name_nl)).all()


def open_at(confirmation: Confirmation | None, now: datetime) -> bool:
    return confirmation is not None and (
        confirmation.confirmed_at is not None or now <= confirmation.requested_at + LIFE
    )


def confirm(*, session: Session, now: datetime, confirmation_id: int, shown_in: str = "") -> Answer:
    """Pressing again changes nothing, also when the reader has left in between.

    `shown_in` is the language of the page with the button, when that isn't the one asked for at sign-up:
    the evidence names the wording that was read.
    """
    known = find(session=session, confirmation_id=confirmation_id)
    if known is None:
        return Answer.EXPIRED
    # The reader's row before all that is theirs, as everywhere: two changes at once must not wait for each other.
    own_data.hold(session=session, subscriber_id=known.subscriber_id)
    query = select(Confirmation).where(Confirmation.id == confirmation_id).with_for_update()
    asked = session.scalar(query.execution_options(populate_existing=True))
    if asked is None or not open_at(asked, now):
        return Answer.EXPIRED
    if asked.confirmed_at is not None:
        return Answer.ALREADY
    asked.confirmed_at = now
    activated = [
        activate(
            session=session,
            now=now,
            subscriber_id=asked.subscriber_id,
            theme_id=theme_id,
            event=ConsentEvent.CONFIRMED,
            channel=Channel.MAIL,
            wording=consent.wording(consent.CONFIRM, shown_in or asked.language),
            pending_only=True,
        )
        for theme_id in sorted(asked.theme_ids)
    ]
    if not any(activated):
        return Answer.ALREADY
    asked.subscriber.language = asked.language
    addresses.lift(session=session, email_key=asked.subscriber.email_key)
    return Answer.CONFIRMED


def activate(
    *,
    session: Session,
    now: datetime,
    subscriber_id: int,
    theme_id: int,
    event: ConsentEvent,
    channel: Channel,
    wording: consent.Wording,
    pending_only: bool = False,
    source: str = "",
    given_at: datetime | None = None,
) -> bool:
    """Into an active subscription, with its evidence. False when nothing changed. (The import does it in bulk.)

    `pending_only`: a subscription that ended since it was asked for stays ended.
    `given_at`: when consent was given, if that was before now (import).
    """
    moment = themes.moment_of_consent(session=session, theme_id=theme_id, now=now)
    known = _held(session=session, subscriber_id=subscriber_id, theme_id=theme_id)
    if known is None and not pending_only:
        known = Subscription(theme_id=theme_id, subscriber_id=subscriber_id, state=State.PENDING)
        known.requested_at = given_at or now
        session.add(known)
    if known is None or known.state is State.ACTIVE or (pending_only and known.state is not State.PENDING):
        return False
    known.state, known.confirmed_at, known.ended_at, known.end_reason = State.ACTIVE, moment, None, None
    consent.record(
        session=session,
        now=given_at or now,
        subscriber_id=subscriber_id,
        theme_id=theme_id,
        event=event,
        channel=channel,
        wording=wording,
        source=source,
    )
    return True


def _held(*, session: Session, subscriber_id: int, theme_id: int) -> Subscription | None:
    query = select(Subscription).where(Subscription.theme_id == theme_id, Subscription.subscriber_id == subscriber_id)
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def expire(*, session: Session, now: datetime) -> int:
    """Let unconfirmed requests vanish: who never confirmed anything leaves no trace. Gives how many went,
    a thousand at most; the next tick goes on.
    """
    over = or_(
        and_(Confirmation.confirmed_at.is_(None), Confirmation.requested_at < now - LIFE),
        Confirmation.requested_at < now - KEEP_CONFIRMED,
    )
    query = select(Confirmation.id, Confirmation.subscriber_id).where(over).order_by(Confirmation.id).limit(1000)
    gone = {row.id: row.subscriber_id for row in session.execute(query)}
    if not gone:
        return 0
    held = select(Subscriber.id).where(Subscriber.id.in_(set(gone.values()))).order_by(Subscriber.id)
    session.execute(held.with_for_update(key_share=True))
    session.execute(delete(Confirmation).where(Confirmation.id.in_(gone)))
    _forget(session=session, now=now, subscriber_ids=set(gone.values()), asked_before=now - LIFE)
    return len(gone)


def withdraw(*, session: Session, now: datetime, subscriber_id: int, confirmed_too: bool = False) -> None:
    """All that this one asked for and didn't confirm vanishes, however fresh; and who is only that, wholly.

    `confirmed_too`: no mail to confirm opens anything any more, for it lies in a mailbox that isn't theirs now.
    """
    theirs = delete(Confirmation).where(Confirmation.subscriber_id == subscriber_id)
    session.execute(theirs if confirmed_too else theirs.where(Confirmation.confirmed_at.is_(None)))
    _forget(session=session, now=now, subscriber_ids={subscriber_id}, asked_before=None)


def _forget(*, session: Session, now: datetime, subscriber_ids: set[int], asked_before: datetime | None) -> None:
    """What these asked for and didn't confirm, and those of them of whom nothing else is kept."""
    stale = and_(
        Subscription.subscriber_id.in_(subscriber_ids),
        Subscription.state == State.PENDING,
        true() if asked_before is None else Subscription.requested_at < asked_before,
    )
    session.execute(delete(Consent).where(Consent.subscriber_id.in_(subscriber_ids), _in_vain(stale)))
    session.execute(
        update(Subscription)
        .where(stale, Subscription.confirmed_at.is_not(None))
        # Since when it is over, and why, stays: a stranger who fills in the form keeps nobody longer.
        .values(
            state=State.ENDED,
            end_reason=func.coalesce(Subscription.end_reason, EndReason.EXPIRED),
            ended_at=func.coalesce(Subscription.ended_at, now),
            requested_at=func.coalesce(_asked_first(), Subscription.confirmed_at),
        )
    )
    session.execute(delete(Subscription).where(stale))
    lonely = and_(
        Subscriber.id.in_(subscriber_ids),
        ~exists().where(Subscription.subscriber_id == Subscriber.id),
        ~exists().where(Confirmation.subscriber_id == Subscriber.id),
        ~exists().where(Consent.subscriber_id == Subscriber.id),
        ~exists().where(Letter.subscriber_id == Subscriber.id),
    )
    session.execute(delete(Subscriber).where(lonely))


def _asked_first() -> ScalarSelect[datetime]:
    """When the subscription was asked for that the reader did confirm; the form in vain wrote over it."""
    asked = (ConsentEvent.REQUESTED, ConsentEvent.CHANGED, ConsentEvent.IMPORTED)
    query = select(func.max(Consent.at)).where(
        Consent.subscriber_id == Subscription.subscriber_id,
        Consent.theme_id == Subscription.theme_id,
        Consent.event.in_(asked),
        Consent.at <= Subscription.confirmed_at,
    )
    return query.correlate(Subscription).scalar_subquery()


def _in_vain(stale: ColumnElement[bool]) -> ColumnElement[bool]:
    """Evidence that was never followed by a press: all of it, or what was asked since the theme was left."""
    asked_since = and_(Consent.event == ConsentEvent.REQUESTED, Consent.at >= Subscription.ended_at)
    return exists().where(
        Subscription.subscriber_id == Consent.subscriber_id,
        Subscription.theme_id == Consent.theme_id,
        or_(Subscription.confirmed_at.is_(None), asked_since),
        stale,
    )
