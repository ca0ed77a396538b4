"""Readers who gave consent elsewhere, taken in with their evidence. Safe to run twice.

In bulk, unlike `confirmation.activate`: a hundred thousand rows take about a minute. The rules are the
same, and one more: who left, bounced or complained is not brought back by a file (requirements 4.14).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from sqlalchemy import and_, select, tuple_
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from service import db, themes
from service.subscribers import addresses, consent, erasures
from service.subscribers.csv_rows import Refusal, Row
from service.subscribers.models import Channel, ConsentEvent, State, Subscriber, Subscription

MOST_PAIRS = 5_000  # PostgreSQL takes 65,535 parameters in a statement
Pair = tuple[int, int]  # theme, subscriber

SUPPRESSED = "This address may not be mailed: mail to it came back, or its owner reported or blocked us."
NOT_OFFERED = "There is no open theme %(slugs)s."
ERASED = "The data of this address were erased after this consent; only its owner can sign up again."
LEFT = "Left %(slugs)s earlier; only the reader can undo that, through the form."


@dataclass
class Taken:
    """Lines; each is counted once. `partly`: some of its themes were taken; it's among the refusals too."""

    added: int = 0
    already: int = 0
    partly: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)


def take(*, session: Session, now: datetime, lines: Sequence[Row | Refusal]) -> Taken:
    """Meant for a thousand lines at a time. The caller's transaction holds off cuts of the themes in it."""
    offered = {theme.slug: theme.id for theme in themes.open_themes(session=session)}
    reasons = {line.line: line.reason for line in lines if isinstance(line, Refusal)}
    rows = [row for row in lines if isinstance(row, Row)]
    reasons |= _refuse(session=session, rows=rows, offered=offered)
    fit = [row for row in rows if row.line not in reasons]
    ids = _subscribers(session=session, now=now, rows=fit)
    pairs = {row.line: {slug: (offered[slug], ids[row.address.key]) for slug in row.slugs} for row in fit}
    first: dict[Pair, Row] = {}
    for row in fit:
        for pair in pairs[row.line].values():
            first.setdefault(pair, row)
    new = _activate(session=session, now=now, wanted=first)
    out = _not_active(session=session, pairs=first.keys() - new)
    taken = Taken()
    for row in fit:
        left = [slug for slug, pair in pairs[row.line].items() if pair in out]
        fresh = any(pair in new and first[pair] is row for pair in pairs[row.line].values())
        if left:
            reasons[row.line] = LEFT % {"slugs": ", ".join(left)}
        taken.added += fresh and not left
        taken.partly += fresh and bool(left)
        taken.already += not fresh and not left
    taken.refusals = [Refusal(line, reasons[line]) for line in sorted(reasons)]
    taken.refused = len(reasons) - taken.partly
    return taken


def _refuse(*, session: Session, rows: Sequence[Row], offered: Mapping[str, int]) -> dict[int, str]:
    keys = {row.address.key for row in rows}
    barred = addresses.suppressed(session=session, email_keys=keys)
    erased = erasures.known(session=session, email_keys=keys)
    reasons = {}
    for row in rows:
        unknown = [slug for slug in row.slugs if slug not in offered]
        if unknown:
            reasons[row.line] = NOT_OFFERED % {"slugs": ", ".join(unknown)}
        elif row.address.key in barred:
            reasons[row.line] = SUPPRESSED
        elif row.address.key in erased and row.consented_at <= erased[row.address.key]:
            reasons[row.line] = ERASED
    return reasons


def _subscribers(*, session: Session, now: datetime, rows: Iterable[Row]) -> dict[str, int]:
    """The id behind each address, held until commit."""
    by_key: dict[str, Row] = {}
    for row in rows:
        by_key.setdefault(row.address.key, row)
    query = select(Subscriber.email_key, Subscriber.id).where(Subscriber.email_key.in_(by_key))
    # Not `FOR UPDATE`: a reader who leaves at this moment needs the row too, for the evidence.
    query = query.order_by(Subscriber.id).with_for_update(key_share=True)
    found = {row.email_key: row.id for row in session.execute(query)}
    new = [
        {"email": row.address.email, "email_key": key, "language": row.language, "created_at": now}
        for key, row in by_key.items()
        if key not in found
    ]
    if new:
        session.execute(db.insert(session, Subscriber).on_conflict_do_nothing(), new)
        found = {row.email_key: row.id for row in session.execute(query)}
    return found


def _activate(*, session: Session, now: datetime, wanted: Mapping[Pair, Row]) -> set[Pair]:
    """Make new and pending ones active, with evidence; gives which. One that was active before is left alone."""
    if not wanted:
        return set()
    moments = {
        theme_id: themes.moment_of_consent(session=session, theme_id=theme_id, now=now)
        for theme_id in sorted({theme_id for theme_id, _ in wanted})
    }
    # In order of theme, as everywhere: two changes at once must not wait for each other.
    values = [
        {
            "theme_id": theme_id,
            "subscriber_id": subscriber_id,
            "state": State.ACTIVE,
            "requested_at": wanted[theme_id, subscriber_id].consented_at,
            "confirmed_at": moments[theme_id],
        }
        for theme_id, subscriber_id in sorted(wanted)
    ]
    new = {(row.theme_id, row.subscriber_id) for row in session.execute(_upsert(session), values)}
    for theme_id, subscriber_id in sorted(new):
        row = wanted[theme_id, subscriber_id]
        consent.record(
            session=session,
            now=row.consented_at,
            subscriber_id=subscriber_id,
            theme_id=theme_id,
            event=ConsentEvent.IMPORTED,
            channel=Channel.IMPORT,
            wording=consent.wording(consent.IMPORT, row.language),
            source=row.source,
        )
    session.flush()
    return new


def _upsert(session: Session) -> ReturningInsert[int, int]:
    insert = db.insert(session, Subscription)
    return insert.on_conflict_do_update(
        index_elements=[Subscription.theme_id, Subscription.subscriber_id],
        set_={"state": State.ACTIVE, "confirmed_at": insert.excluded.confirmed_at},
        where=and_(Subscription.state == State.PENDING, Subscription.confirmed_at.is_(None)),
    ).returning(Subscription.theme_id, Subscription.subscriber_id)


def _not_active(*, session: Session, pairs: Iterable[Pair]) -> set[Pair]:
    found: set[Pair] = set()
    wanted = iter(pairs)
    while some := list(islice(wanted, MOST_PAIRS)):
        query = select(Subscription.theme_id, Subscription.subscriber_id).where(
            tuple_(Subscription.theme_id, Subscription.subscriber_id).in_(some), Subscription.state != State.ACTIVE
        )
        found |= {(theme_id, subscriber_id) for theme_id, subscriber_id in session.execute(query)}
    return found
