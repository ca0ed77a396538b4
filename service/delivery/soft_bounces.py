"""Mails that don't arrive for a reason that may pass: a mailbox that is full, a server that is away.

A row of them makes a dead address of it: four issues or more, over three weeks or more (requirements 1.10). A report
asks at once whether its row is long enough. Of what the relay refuses itself no report tells: the night asks for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from service.delivery import outcomes
from service.delivery.models import Delivery, Outcome, Report, ReportKind
from service.delivery.outcomes import Phase, Verdict
from service.issues.models import Issue
from service.subscribers import address_change
from service.subscribers.models import Channel, Consent, ConsentEvent, Letter, LetterKind

ISSUES, DAYS = 4, 21
# So long other mail servers try before they tell (RFC 5321 §4.5.4.1). No news that is younger isn't good news.
STILL_TRIED = timedelta(days=5)
# With eight themes that take turns, four issues of one theme lie 24 weeks apart.
LOOK_BACK = timedelta(weeks=26)
# A relay whose disk is full, or that takes no more of us today, refuses many. Of an issue of which it refused more
# than this share, and more than so few, that says nothing about a reader.
SHARE, FEW = 0.25, 2
REFUSALS = (Outcome.REJECTED, Outcome.GIVEN_UP)
# Roughly those that `_refused` counts, for a query: not what the relay minded of us (RFC 3463 §3.6-3.8).
COUNTS = and_(
    Delivery.outcome.in_(REFUSALS),
    or_(
        Delivery.status.like("4%"),
        and_(Delivery.status.like("% 5.%"), *(Delivery.status.not_like(f"% 5.{subject}.%") for subject in (5, 6, 7))),
    ),
)


class Failed(NamedTuple):
    """An issue that didn't arrive. `reported`: another mail server says so; else our relay refused it."""

    issue_id: int
    cut_at: datetime
    reported: bool


def enough(*, session: Session, now: datetime, subscriber_id: int, telling: Collection[int] | None = None) -> bool:
    """Is the row long enough? `telling`: of which issues a refusal says something, when that is known already."""
    row = _row(session, now, subscriber_id)
    if not _long(row):
        return False
    if telling is None:
        telling = tell(session=session, issue_ids=[one.issue_id for one in row])
    return _long([one for one in row if one.reported or one.issue_id in telling])


def tell(*, session: Session, issue_ids: Collection[int]) -> set[int]:
    """Those of which the relay refused so few that it says something about them. Reads all their deliveries."""
    refused = func.count().filter(Delivery.outcome.in_(REFUSALS))
    # Of those that it answered: a round that goes out still, or was cancelled, has many readers and few answers.
    answered = func.count().filter(Delivery.outcome.in_((*REFUSALS, Outcome.ACCEPTED)))
    query = select(Delivery.issue_id, refused, answered).where(Delivery.issue_id.in_(issue_ids))
    return {
        issue_id
        for issue_id, count, of in session.execute(query.group_by(Delivery.issue_id))
        if count <= max(FEW, round(of * SHARE))
    }


def _long(row: list[Failed]) -> bool:
    return len(row) >= ISSUES and (row[0].cut_at.date() - row[-1].cut_at.date()).days >= DAYS


def _row(session: Session, now: datetime, subscriber_id: int) -> list[Failed]:
    """From the newest to the last one that arrived: accepted, and nothing came back."""
    since = max([now - LOOK_BACK, *_answered(session, subscriber_id)])
    kinds = defaultdict(set)
    for issue_id, kind in session.execute(
        select(Report.issue_id, Report.kind).where(Report.subscriber_id == subscriber_id)
    ):
        kinds[issue_id].add(kind)
    query = (
        select(Issue.id, Issue.cut_at, Delivery)
        .outerjoin(Delivery, and_(Delivery.issue_id == Issue.id, Delivery.subscriber_id == subscriber_id))
        .where(Issue.cut_at > since)
        .order_by(Issue.cut_at.desc())
    )
    row: list[Failed] = []
    for issue_id, known, sent in session.execute(query):
        cut_at = known or now  # it has one: the query asked for it
        reported = ReportKind.SOFT in kinds[issue_id]
        if reported or (sent and _refused(sent)):
            row.append(Failed(issue_id, cut_at, reported))
        elif sent and sent.outcome is Outcome.ACCEPTED and not kinds[issue_id] and cut_at < now - STILL_TRIED:
            break
    return row


def _refused(sent: Delivery) -> bool:
    """By the relay itself, for a reason that is the mailbox's: at once, or in all the time that it was tried."""
    if sent.outcome is Outcome.GIVEN_UP:
        return sent.status.startswith("4") and sent.at - sent.first_at >= outcomes.GIVE_UP
    enhanced = sent.status.rpartition(" ")[2]
    if sent.outcome is not Outcome.REJECTED or not enhanced.startswith("5.") or enhanced == outcomes.NO_SMTPUTF8:
        return False
    return outcomes.classify(550, enhanced, Phase.RCPT) is Verdict.REFUSED


def _answered(session: Session, subscriber_id: int) -> list[datetime]:
    """A press of the button that we mailed begins a new row, and so does another address: what came back before is
    about the old one. Its letter is forgotten sooner than its evidence, which a reader of nothing doesn't have.
    """
    confirmed = and_(Consent.event == ConsentEvent.CONFIRMED, Consent.channel == Channel.MAIL)
    changed = and_(Consent.event == ConsentEvent.CHANGED, Consent.source == address_change.SOURCE)
    pressed = Letter.subscriber_id == subscriber_id, Letter.kind == LetterKind.ADDRESS_NEW
    found = (
        session.scalar(
            select(func.max(Consent.at)).where(Consent.subscriber_id == subscriber_id, or_(confirmed, changed))
        ),
        session.scalar(select(func.max(Letter.used_at)).where(*pressed)),
    )
    return [at for at in found if at is not None]
