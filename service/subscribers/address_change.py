"""Another address for the same reader: asked for behind the fresh link, made so by a button mailed to the new one.

Whoever asks gets the same answer, whether the new address is nobody's, another reader's, blocked or over its cap
(requirements 4.6).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from service import db, errors, settings, throttle
from service.subscribers import addresses, confirmation, consent, erasures, intake, own_data, signup, unsubscribe
from service.subscribers.models import (
    Channel,
    ConsentEvent,
    Letter,
    LetterKind,
    State,
    Subscriber,
    Subscription,
)

LIFE = confirmation.LIFE
CAPS = ((timedelta(hours=24), 5),)  # strangers that one reader can have mailed; each also has the cap of a sign-up
ASKED = "address_letter"
SOURCE = "address change"


class Answer(StrEnum):
    CHANGED = "changed"
    ALREADY = "already"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Pressed:
    """`left_over`: the id of a reader of whom another has taken over everything. Erase what is left of them."""

    answer: Answer
    left_over: int | None = None


def ask(*, session: Session, now: datetime, subscriber_id: int, email: str) -> addresses.Address:
    """Mail the new address a button, within the caps. What was asked before counts no more: a slip of the pen
    must not give a stranger this reader's newsletter. Raises Refused for what the reader can mend.
    """
    reader = own_data.hold(session=session, subscriber_id=subscriber_id)
    if reader is None:
        raise errors.NotFound("We have no data about you any more. You can sign up again.")
    address = addresses.parse(email, smtputf8=settings.current().smtputf8)
    if address.email == reader.email:
        raise errors.Refused("email", "This is the address we have already. Fill in your new one.")
    session.execute(delete(Letter).where(_open_for(reader)))
    if throttle.reached(session=session, kind=ASKED, who=reader.email_key, now=now, caps=CAPS):
        return address
    # Counted for whatever address: how often one may still ask must not tell what others did with theirs.
    throttle.note(session=session, kind=ASKED, who=reader.email_key, now=now)
    # The same work for whatever address, as at the door. Whether it may be mailed is for the worker (letters.py).
    throttle.note(session=session, kind=signup.MAILED, who=address.key, now=now)
    own_data.post(session=session, now=now, reader=reader, kind=LetterKind.ADDRESS_NEW, email=address.email)
    return address


def find(*, session: Session, now: datetime, letter_id: int) -> Letter | None:
    """The letter whose link this is, while the link works; also when its button was pressed already."""
    letter = session.get(Letter, letter_id, populate_existing=True)
    if letter is None or letter.kind is not LetterKind.ADDRESS_NEW:
        return None
    if letter.used_at is None and (now > letter.asked_at + LIFE or _blocked(session, letter)):
        return None
    return letter


def change(*, session: Session, now: datetime, letter_id: int, shown_in: str, shown: Collection[int]) -> Pressed:
    """The press of the button: who pressed it reads the new mailbox. `shown_in` is the language of its page, `shown`
    the themes on it: nobody agrees to one that they didn't see. Raises Conflict when there is such a one by now.

    When the address is another reader's by now, that one gets the themes and this one ends: a person showed to
    have both mailboxes.
    """
    known = find(session=session, now=now, letter_id=letter_id)
    reader = _hold(session=session, letter=known) if known else None
    letter = find(session=session, now=now, letter_id=letter_id)  # again, now that we hold the reader's row
    if reader is None or letter is None:
        return Pressed(Answer.EXPIRED)
    if letter.used_at is not None:
        return Pressed(Answer.ALREADY)
    agreed = {theme.id for theme in confirmation.themes_held(session=session, subscriber_id=reader.id)}
    if not agreed <= set(shown):
        raise errors.Conflict("Your themes have changed meanwhile. Look once more.")
    letter.used_at = now
    session.execute(delete(Letter).where(_open_for(reader), Letter.id != letter.id))
    to_data = update(Letter).where(Letter.subscriber_id == reader.id, Letter.kind == LetterKind.DATA)
    session.execute(to_data.where(Letter.used_at.is_(None)).values(used_at=now))
    confirmation.withdraw(session=session, now=now, subscriber_id=reader.id, confirmed_too=True)
    if agreed:  # without a theme there were no words either, and nothing is undone
        addresses.lift(session=session, email_key=addresses.key(letter.email))
    wording = consent.wording(consent.ADDRESS, shown_in)
    heir = _holder(session=session, letter=letter)
    if heir is None and _take(session=session, now=now, reader=reader, letter=letter, wording=wording):
        return Pressed(Answer.CHANGED)
    heir = heir or _holder(session=session, letter=letter)  # a sign-up for this address was a moment earlier
    assert heir is not None
    _hand_over(session=session, now=now, reader=reader, heir=heir, wording=wording)
    letter.subscriber_id = heir.id
    return Pressed(Answer.CHANGED, left_over=reader.id)


def _hold(*, session: Session, letter: Letter) -> Subscriber | None:
    """As `hold`, and before it what a form asked for the old address."""
    before = session.get(Subscriber, letter.subscriber_id)
    if before is not None and letter.used_at is None:
        intake.forget(session=session, email=before.email)
    return hold(session=session, letter=letter)


def hold(*, session: Session, letter: Letter) -> Subscriber | None:
    """The reader's row, and with it that of who has the new address: in order of number, for two may swap theirs."""
    both = or_(Subscriber.id == letter.subscriber_id, Subscriber.email_key == addresses.key(letter.email))
    query = select(Subscriber).where(both).order_by(Subscriber.id).with_for_update(key_share=True)
    held = session.scalars(query.execution_options(populate_existing=True)).all()
    return next((one for one in held if one.id == letter.subscriber_id), None)


def _take(*, session: Session, now: datetime, reader: Subscriber, letter: Letter, wording: consent.Wording) -> bool:
    """The reader's own row gets the address; False when another reader has it. The row comes last, so that
    nobody who has a subscription of ours waits for it.
    """
    old, key = reader.email, addresses.key(letter.email)
    theme_ids = _active(session=session, reader=reader)
    if key != reader.email_key and not _claim(session=session, now=now, email_key=key):
        return False
    for theme_id in theme_ids:
        consent.record(
            session=session,
            now=now,
            subscriber_id=reader.id,
            theme_id=theme_id,
            event=ConsentEvent.CHANGED,
            channel=Channel.PREFERENCES,
            wording=wording,
            source=SOURCE,
        )
    session.flush()
    reader.email, reader.email_key = letter.email, key
    reader.moved += addresses.key(old) != reader.email_key
    _tell(session=session, now=now, owner=reader, reader=reader, old=old)
    if addresses.key(old) != reader.email_key:  # an old backup has it still
        erasures.note(session=session, now=now, email_key=addresses.key(old))
    return True


def _claim(*, session: Session, now: datetime, email_key: str) -> bool:
    """Whether this address is nobody's, and then only ours until commit: who inserts it waits for the row that was
    here, also when that is gone again. An update that fails would put the address in PostgreSQL's log.
    """
    row = db.insert(session, Subscriber).values(email=email_key, email_key=email_key, language="nl", created_at=now)
    claimed = session.scalar(row.on_conflict_do_nothing().returning(Subscriber.id))
    session.execute(delete(Subscriber).where(Subscriber.id == claimed))
    return claimed is not None


def _hand_over(
    *, session: Session, now: datetime, reader: Subscriber, heir: Subscriber, wording: consent.Wording
) -> None:
    for theme_id in _active(session=session, reader=reader):
        confirmation.activate(
            session=session,
            now=now,
            subscriber_id=heir.id,
            theme_id=theme_id,
            event=ConsentEvent.CHANGED,
            channel=Channel.PREFERENCES,
            wording=wording,
            source=SOURCE,
        )
    unsubscribe.leave_all(session=session, now=now, subscriber_id=reader.id, channel=Channel.PREFERENCES)
    _tell(session=session, now=now, owner=heir, reader=reader, old=reader.email)


def _tell(*, session: Session, now: datetime, owner: Subscriber, reader: Subscriber, old: str) -> None:
    """A letter to the old address, in the language that was read there."""
    told = own_data.post(session=session, now=now, reader=owner, kind=LetterKind.ADDRESS_TOLD, email=old)
    told.language = reader.language


def _active(*, session: Session, reader: Subscriber) -> list[int]:
    """In order of theme, as everywhere, and held: two changes at once must not wait for each other."""
    query = select(Subscription).where(Subscription.subscriber_id == reader.id, Subscription.state == State.ACTIVE)
    held = query.order_by(Subscription.theme_id).with_for_update().execution_options(populate_existing=True)
    return [subscription.theme_id for subscription in session.scalars(held)]


def _holder(*, session: Session, letter: Letter) -> Subscriber | None:
    """Another reader who has the new address."""
    query = select(Subscriber).where(
        Subscriber.email_key == addresses.key(letter.email), Subscriber.id != letter.subscriber_id
    )
    return session.scalar(query.with_for_update(key_share=True).execution_options(populate_existing=True))


def owner(*, session: Session, letter: Letter) -> Subscriber | None:
    """Who has the address that this letter went to."""
    return session.scalar(select(Subscriber).where(Subscriber.email_key == addresses.key(letter.email)))


def _open_for(reader: Subscriber) -> ColumnElement[bool]:
    return and_(Letter.subscriber_id == reader.id, Letter.kind == LetterKind.ADDRESS_NEW, Letter.used_at.is_(None))


def _blocked(session: Session, letter: Letter) -> bool:
    return addresses.blocked(session=session, email_key=addresses.key(letter.email))
