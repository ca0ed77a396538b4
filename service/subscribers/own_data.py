"""A fresh link to a reader's own data, mailed to their own address.

The link below each newsletter never expires and goes along when the mail is forwarded. So it opens themes and
language, and what concerns the person (reading, exporting, erasing, another address) asks for this one.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import jobs, throttle
from service.subscribers.models import Letter, LetterKind, Subscriber

LIFE = timedelta(hours=1)
# Nothing for longer than a day: whoever has a newsletter that was passed on could keep its reader from their own data.
CAPS = ((timedelta(minutes=10), 1), (timedelta(hours=24), 3))
ASKED = "data_letter"


def ask(*, session: Session, now: datetime, subscriber_id: int) -> None:
    """Mail the link, within the caps. Whoever asks can't tell whether they were reached."""
    reader = hold(session=session, subscriber_id=subscriber_id)
    if reader is None or throttle.reached(session=session, kind=ASKED, who=reader.email_key, now=now, caps=CAPS):
        return
    throttle.note(session=session, kind=ASKED, who=reader.email_key, now=now)
    post(session=session, now=now, reader=reader, kind=LetterKind.DATA, email=reader.email)


def find(*, session: Session, now: datetime, letter_id: int) -> Letter | None:
    """The letter whose link this is, while the link works: as often as its reader likes within the hour."""
    letter = session.get(Letter, letter_id, populate_existing=True)
    return letter if letter is not None and open_at(letter, now) else None


def open_at(letter: Letter, now: datetime) -> bool:
    """`used_at` of a DATA letter: the address it went to isn't the reader's any more."""
    return letter.kind is LetterKind.DATA and letter.used_at is None and now <= letter.asked_at + LIFE


def hold(*, session: Session, subscriber_id: int) -> Subscriber | None:
    """The reader's row, held until commit: two presses go one after the other.

    Not a full `FOR UPDATE`: who leaves at this moment needs the row too, for the evidence.
    """
    query = select(Subscriber).where(Subscriber.id == subscriber_id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def post(*, session: Session, now: datetime, reader: Subscriber, kind: LetterKind, email: str) -> Letter:
    """Have a letter about this reader mailed to `email`."""
    letter = Letter(subscriber_id=reader.id, kind=kind, language=reader.language, email=email, asked_at=now, due_at=now)
    session.add(letter)
    session.flush()
    jobs.enqueue(session, jobs.SEND_LETTER, letter.id)
    return letter
