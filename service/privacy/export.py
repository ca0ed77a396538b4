"""Everything that is kept about one reader, in a form that a machine can take over (GDPR art. 15 and 20)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from service import errors, settings
from service.delivery.models import Delivery, Report
from service.issues.models import Issue
from service.privacy import marks
from service.subscribers import addresses, consent
from service.subscribers.addresses import Address
from service.subscribers.models import (
    Confirmation,
    Consent,
    Erasure,
    Letter,
    LetterKind,
    SignupRequest,
    Subscriber,
    Subscription,
    Suppression,
)
from service.themes import Theme
from service.throttle import Attempt

FORMAT = 1  # a new number when what stands under a name changes
LETTERS = select(
    Letter.kind, Letter.email.label("address"), Letter.language,
    Letter.asked_at, Letter.mailed_at, Letter.failed_at, Letter.used_at,
).order_by(Letter.id)  # fmt: skip


def of(*, session: Session, subscriber_id: int) -> dict[str, Any]:
    """Raises NotFound. Times are UTC, in ISO 8601; nothing in it is about anybody else."""
    reader = session.get(Subscriber, subscriber_id)
    if reader is None:
        raise errors.NotFound("We have no data about you any more. You can sign up again.")
    return {
        "format": FORMAT,
        "kept_by": settings.current().organisation,
        "address": reader.email,
        "language": reader.language,
        "created_at": _moment(reader.created_at),
        "subscriptions": _subscriptions(session, subscriber_id),
        "consents": _consents(session, subscriber_id),
        "forms": _forms(session, reader.email_key),
        "confirmations": _confirmations(session, subscriber_id),
        "letters": _letters(session, subscriber_id),
        "deliveries": _deliveries(session, subscriber_id),
        "reports": _reports(session, subscriber_id),
        "marks": _marks(session, reader.email_key),
    }


def of_address(*, session: Session, address: Address) -> dict[str, Any]:
    """Of an address that no reader has: what waits, and what is known by a mark. Raises NotFound when nothing is."""
    forms, known_by = _forms(session, address.key), _marks(session, address.key)
    letters = [row for row in _rows(session, LETTERS) if addresses.key(row["address"]) == address.key]
    if not any((forms, letters, *known_by.values())):
        raise errors.NotFound("Nothing is held about this address.")
    return {
        "format": FORMAT,
        "kept_by": settings.current().organisation,
        "address": address.email,
        "forms": forms,
        "letters": letters,
        "marks": known_by,
    }


def _subscriptions(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    query = (
        select(
            Theme.slug.label("theme"), Theme.name_nl, Theme.name_en, Subscription.state, Subscription.end_reason,
            Subscription.requested_at, Subscription.confirmed_at, Subscription.ended_at,
        )
        .join(Theme, Theme.id == Subscription.theme_id)
        .where(Subscription.subscriber_id == subscriber_id)
        .order_by(Theme.slug)
    )  # fmt: skip
    return _rows(session, query)


def _consents(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    """`text` is what the reader read; empty for leaving, which asks for no words."""
    query = (
        select(
            Theme.slug.label("theme"), Consent.event, Consent.channel, Consent.at, Consent.source,
            Consent.wording, Consent.wording_hash,
        )
        .join(Theme, Theme.id == Consent.theme_id)
        .where(Consent.subscriber_id == subscriber_id)
        .order_by(Consent.id)
    )  # fmt: skip
    return [{**row, "text": _text(row["wording"])} for row in _rows(session, query)]


def _text(wording: str) -> str:
    name, _, language = wording.rpartition(".")
    return consent.wording(name, language).text if name else ""


def _forms(session: Session, email_key: str) -> list[dict[str, Any]]:
    """Sent in a moment ago, and not taken up yet."""
    query = select(
        SignupRequest.email.label("address"), SignupRequest.slugs.label("themes"), SignupRequest.language,
        SignupRequest.network, SignupRequest.elsewhere, SignupRequest.at,
    ).order_by(SignupRequest.id)  # fmt: skip
    return [row for row in _rows(session, query) if addresses.key(row["address"]) == email_key]


def _confirmations(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    query = (
        select(
            Confirmation.requested_at, Confirmation.language, Confirmation.theme_ids,
            Confirmation.mailed_at, Confirmation.failed_at, Confirmation.confirmed_at,
        )
        .where(Confirmation.subscriber_id == subscriber_id)
        .order_by(Confirmation.id)
    )  # fmt: skip
    slugs = {row.id: row.slug for row in session.execute(select(Theme.id, Theme.slug))}
    found = []
    for row in _rows(session, query):
        asked = sorted(slugs[theme_id] for theme_id in row.pop("theme_ids") if theme_id in slugs)
        found.append({**row, "themes": asked})
    return found


def _letters(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    found = _rows(session, LETTERS.where(Letter.subscriber_id == subscriber_id))
    for row in found:
        if row["kind"] == LetterKind.ADDRESS_NEW:  # whether that one may be mailed is about another (requirements 4.6)
            row["mailed_at"] = row["failed_at"] = None
    return found


def _deliveries(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    query = (
        select(
            Theme.slug.label("theme"), Issue.week, Delivery.outcome, Delivery.status, Delivery.at,
            Delivery.attempts, Delivery.first_at, Delivery.retry_at, Delivery.uncertain_at,
        )
        .join(Issue, Issue.id == Delivery.issue_id)
        .join(Theme, Theme.id == Issue.theme_id)
        .where(Delivery.subscriber_id == subscriber_id)
        .order_by(Delivery.first_at, Issue.id)
    )  # fmt: skip
    return _rows(session, query)


def _reports(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    query = (
        select(Theme.slug.label("theme"), Issue.week, Report.kind, Report.status, Report.at)
        .join(Issue, Issue.id == Report.issue_id)
        .join(Theme, Theme.id == Issue.theme_id)
        .where(Report.subscriber_id == subscriber_id)
        .order_by(Report.at, Issue.id)
    )
    return _rows(session, query)


def _marks(session: Session, email_key: str) -> dict[str, list[dict[str, Any]]]:
    """What is kept under a keyed hash: it can't be read back, and yet it's about this reader."""
    known_by = marks.of(session=session, email_key=email_key)
    suppressed = select(Suppression.reason, Suppression.at).where(Suppression.address_hash.in_(known_by))
    erased = select(Erasure.at).where(Erasure.address_hash.in_(known_by))
    tries = select(Attempt.kind, Attempt.at).where(Attempt.who.in_(known_by)).order_by(Attempt.id)
    return {
        "suppressions": _rows(session, suppressed),
        "erasures": _rows(session, erased),
        "tries": _rows(session, tries),
    }


def _rows(session: Session, query: Select[*tuple[Any, ...]]) -> list[dict[str, Any]]:
    found: Sequence[Row[*tuple[Any, ...]]] = session.execute(query).all()
    return [{name: _plain(value) for name, value in row._mapping.items()} for row in found]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _moment(value)
    return str(value) if isinstance(value, str) else value


def _moment(value: datetime) -> str:
    return value.isoformat()
