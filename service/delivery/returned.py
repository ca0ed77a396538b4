"""A mail that came back: whom it is about, and what follows (requirements 1.6, 1.7, 1.10; decision 0016).

What it says is believed only of the one whose signed address it came to or names. Nothing is ever answered
(RFC 3834 §2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog
from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from service import db, errors, links, settings
from service.delivery import endings, report_counts, reports, return_faults, soft_bounces
from service.delivery.models import Delivery, Outcome, Report, ReportKind
from service.delivery.reports import Found, Sort
from service.issues.models import Issue
from service.subscribers import addresses, own_data, unsubscribe
from service.subscribers.models import (
    Channel,
    Consent,
    ConsentEvent,
    EndReason,
    Letter,
    LetterKind,
    Subscriber,
    Subscription,
)

BOUNCE, UNSUBSCRIBE = "b", "u"  # what a return address begins with (links.return_path)
LONGEST_STATUS = 20
LARGEST = 1024 * 1024  # octets that a door takes of one mail
KINDS = {Sort(str(kind)): kind for kind in ReportKind}

log = structlog.get_logger()


class Ignored(StrEnum):
    """Why a mail changes nothing that says something; the rest of those has a Sort of its own."""

    UNSIGNED = "unsigned"  # no return address in it: of a single mail, or anybody's
    FORGED = "forged"  # one that isn't ours
    GONE = "gone"  # about a reader or an issue that isn't there any more
    OUTDATED = "outdated"  # the reader has another address by now, or showed that mail reaches them
    REPEATED = "repeated"  # we had this one, or one like it: nobody leaves twice


@dataclass(frozen=True)
class About:
    """The mail that came back. `sent_at`: about when it went out."""

    reader: Subscriber
    issue_id: int
    sent_at: datetime


def take(*, session: Session, now: datetime, raw: bytes) -> Sort | Ignored:
    """Do what follows from it. Gives its sort, or why nothing did. The same mail again changes nothing."""
    found = reports.parse(raw, returns=settings.current().return_address)
    answer = _take(session, now, found)
    if answer not in KINDS:
        report_counts.add(session=session, now=now, sort=answer)
    log.info("report_taken", sort=str(found.sort), answer=str(answer), status=found.status)
    return answer


def _take(session: Session, now: datetime, found: Found) -> Sort | Ignored:
    kind = KINDS.get(found.sort)
    if kind is None and found.sort is not Sort.UNSUBSCRIBE:
        return found.sort
    signed = _signed(found)
    if isinstance(signed, Ignored):
        return signed
    if kind is None:
        return _leave(session, now, signed)
    about = _about(session, signed)
    if about is None:
        return Ignored.GONE
    if _outdated(session, about, kind):
        return Ignored.OUTDATED
    if not _note(session, now, about, kind, found.status):
        return Ignored.REPEATED
    _follow(session, now, about, kind, found.status)
    return found.sort


def _signed(found: Found) -> tuple[str, int, int] | Ignored:
    """The first address that we signed, for this purpose: a bounce that quotes our headers names the one to leave by,
    too, which everybody has whom the newsletter was passed on to. A complaint may have nothing else of ours.
    """
    read = []
    for address in found.addresses:
        try:
            read.append(links.read_return(address))
        except errors.LinkRefused:
            continue
    wanted = UNSUBSCRIBE if found.sort is Sort.UNSUBSCRIBE else BOUNCE
    read.sort(key=lambda each: each[0] != wanted)  # stable: the most trustworthy stays first
    if not read or (found.sort is not Sort.COMPLAINT and read[0][0] != wanted):
        return Ignored.FORGED if found.addresses else Ignored.UNSIGNED
    return read[0]


def _leave(session: Session, now: datetime, signed: tuple[str, int, int]) -> Sort | Ignored:
    """A mail to the address in List-Unsubscribe means that list (requirements 1.1)."""
    _, subscriber_id, theme_id = signed
    if own_data.hold(session=session, subscriber_id=subscriber_id) is None:
        return Ignored.GONE
    left = unsubscribe.leave(
        session=session, now=now, subscriber_id=subscriber_id, theme_id=theme_id, channel=Channel.REPORT
    )
    return Sort.UNSUBSCRIBE if left else Ignored.REPEATED


def _about(session: Session, signed: tuple[str, int, int]) -> About | None:
    purpose, first, second = signed
    issue_id, subscriber_id = (first, second) if purpose == BOUNCE else (_newest(session, first, second), first)
    reader = own_data.hold(session=session, subscriber_id=subscriber_id)
    issue = session.get(Issue, issue_id) if issue_id else None
    if reader is None or issue is None:
        return None
    query = select(Delivery.at).where(Delivery.issue_id == issue_id, Delivery.subscriber_id == subscriber_id)
    # A worker may not have recorded it yet: some bounces come within the second.
    sent_at = session.scalar(query) or issue.cut_at or issue.send_at
    return About(reader, issue.id, sent_at)


def _newest(session: Session, subscriber_id: int, theme_id: int) -> int | None:
    """A complaint that holds nothing of ours but the address to leave by is about the last issue it can be about."""
    query = (
        select(Issue.id)
        .join(Delivery, (Delivery.issue_id == Issue.id) & (Delivery.subscriber_id == subscriber_id))
        .where(Issue.theme_id == theme_id, Delivery.outcome.in_((Outcome.ACCEPTED, Outcome.UNCERTAIN)))
        .order_by(Issue.cut_at.desc())
        .limit(1)
    )
    return session.scalar(query)


def _outdated(session: Session, about: About, kind: ReportKind) -> bool:
    """It tells of another address than the reader has now, or of one that has answered us since: a press of the
    button that we mailed to it. A complaint is about our mails, and stands as long as the address is the same.
    """
    if kind is ReportKind.COMPLAINT:
        return _moved(session, about)
    pressed: ColumnElement[bool] = exists().where(
        Letter.subscriber_id == about.reader.id,
        Letter.kind == LetterKind.ADDRESS_NEW,
        Letter.used_at > about.sent_at,
    )
    confirmed: ColumnElement[bool] = exists().where(
        Consent.subscriber_id == about.reader.id,
        Consent.event == ConsentEvent.CONFIRMED,
        Consent.channel == Channel.MAIL,
        Consent.at > about.sent_at,
    )
    return bool(session.scalar(select(pressed | confirmed)))


def _moved(session: Session, about: About) -> bool:
    """The first letter to an old address since then says where that mail went. Not one about another reader, whose
    themes this one took over: then a theme that this one had already has no evidence of a change.
    """
    held_on: ColumnElement[bool] = exists().where(
        Subscription.subscriber_id == Letter.subscriber_id,
        Subscription.confirmed_at < Letter.asked_at,
        or_(Subscription.ended_at.is_(None), Subscription.ended_at > Letter.asked_at),
        ~exists().where(
            Consent.subscriber_id == Letter.subscriber_id,
            Consent.theme_id == Subscription.theme_id,
            Consent.event == ConsentEvent.CHANGED,
            Consent.at == Letter.asked_at,
        ),
    )
    query = select(Letter.email).where(
        Letter.subscriber_id == about.reader.id,
        Letter.kind == LetterKind.ADDRESS_TOLD,
        Letter.asked_at > about.sent_at,
        ~held_on,
    )
    old = session.scalar(query.order_by(Letter.id).limit(1))
    return old is not None and addresses.key(old) != about.reader.email_key


def _note(session: Session, now: datetime, about: About, kind: ReportKind, status: str) -> bool:
    """False: it is there already."""
    row = db.insert(session, Report).values(
        issue_id=about.issue_id, subscriber_id=about.reader.id, kind=kind, status=status[:LONGEST_STATUS], at=now
    )
    return session.execute(row.on_conflict_do_nothing().returning(Report.issue_id)).first() is not None


def _follow(session: Session, now: datetime, about: About, kind: ReportKind, status: str) -> None:
    reader = about.reader
    if kind is ReportKind.FAULT:
        return_faults.weigh(session=session, issue_id=about.issue_id, status=status)
        return
    if kind is ReportKind.SOFT and not soft_bounces.enough(session=session, now=now, subscriber_id=reader.id):
        return
    endings.end(
        session=session,
        now=now,
        subscriber_id=reader.id,
        email_key=reader.email_key,
        reason=EndReason.COMPLAINT if kind is ReportKind.COMPLAINT else EndReason.HARD_BOUNCE,
        channel=Channel.REPORT,
    )
