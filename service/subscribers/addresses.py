"""E-mail addresses: what we take, how two are compared, and which ones we may not mail."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from email_validator import EmailNotValidError, EmailSyntaxError, validate_email
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import db, errors, links
from service.subscribers.models import Suppression, SuppressionReason

PURPOSE = "suppression"
# A dead address is forgotten after a while, and mailed again when its owner is imported; a "no" isn't.
STRONGER = (SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT, SuppressionReason.BLOCKED)
LONGEST = 254  # RFC 5321 §4.5.3.1.3 less the angle brackets
LONGEST_LOCAL_PART = 64  # RFC 5321 §4.5.3.1.1


@dataclass(frozen=True)
class Address:
    """`email` keeps the local part as typed, with the domain in A-labels (RFC 6531 §3.2);
    `key` is the form that is compared (requirements 4.11: no tricks with dots or plus signs).
    """

    email: str
    key: str


def parse(text: str, *, smtputf8: bool = False) -> Address:
    """Raises Refused on field "email". A local part outside ASCII needs a relay that offers SMTPUTF8."""
    typed = text.strip(" \t\u00a0")
    if not typed:
        raise errors.Refused("email", "Fill in your e-mail address, as in name@example.org.")
    if not typed.isprintable():
        raise errors.Refused("email", "This e-mail address has a character that can’t be in it. Type it again.")
    if len(typed) > LONGEST:
        raise errors.Refused("email", "This e-mail address is too long: 254 characters at most.")
    if "@" in typed and not smtputf8 and not typed.rpartition("@")[0].isascii():
        raise errors.Refused("email", "We can’t mail addresses with special letters before the @. Use another address.")
    try:
        # Reserved names such as .example are let through: a trial run uses them, and they harm nobody.
        found = validate_email(typed, check_deliverability=False, allow_smtputf8=smtputf8, globally_deliverable=False)
    except (EmailSyntaxError, EmailNotValidError):
        raise errors.Refused("email", "This is no e-mail address. Check it: name@example.org.") from None
    domain = found.ascii_domain or ""
    if "." not in domain or domain.rpartition(".")[2].isdigit():
        raise errors.Refused("email", "The part after the @ isn’t complete. Check it: name@example.org.")
    if len(found.local_part.encode()) > LONGEST_LOCAL_PART:
        raise errors.Refused("email", "The part before the @ is too long: 64 characters at most.")
    email = f"{found.local_part}@{domain.lower()}"
    if len(email) > LONGEST:
        raise errors.Refused("email", "This e-mail address is too long: 254 characters at most.")
    return Address(email=email, key=key(email))


def key(email: str) -> str:
    """The form that is compared, of an address that `parse` gave."""
    return email.lower()


def mask(email: str) -> str:
    """As in "s•••@gemeente.example": its owner knows it again, and who has a forwarded mail can't write to it."""
    local_part, _, domain = email.rpartition("@")
    return f"{local_part[:1]}•••@{domain}"


def alike(one: str, other: str) -> bool:
    """Two addresses whose masks are the same: then words tell them apart, for a longer mask tells strangers more."""
    return key(one) != key(other) and mask(key(one)) == mask(key(other))


def suppress(*, session: Session, now: datetime, email_key: str, reason: SuppressionReason) -> None:
    """A stronger reason takes the place of a weaker one, also of two at once; else the first stays, with its date."""
    known = _known(session=session, email_key=email_key)
    hashed = known.address_hash if known else links.keyed_hash(PURPOSE, email_key)
    put(session=session, address_hash=hashed, reason=reason, at=now)
    if known:
        session.expire(known)


def put(*, session: Session, address_hash: str, reason: SuppressionReason, at: datetime) -> None:
    """The same of an address that only its mark is known of."""
    row = db.insert(session, Suppression).values(address_hash=address_hash, reason=reason, at=at)
    new = {"reason": row.excluded.reason, "at": row.excluded.at}
    weaker = Suppression.reason.in_(STRONGER[: STRONGER.index(reason)])
    session.execute(row.on_conflict_do_update(index_elements=[Suppression.address_hash], set_=new, where=weaker))


def suppressed(*, session: Session, email_keys: Collection[str]) -> set[str]:
    """Those of `email_keys` that we may not mail."""
    by_hash = {hashed: key for key in email_keys for hashed in links.keyed_hashes(PURPOSE, key)}
    found = session.scalars(
        select(Suppression.address_hash).where(db.one_of(session, Suppression.address_hash, by_hash))
    )
    return {by_hash[hashed] for hashed in found}


def blocked(*, session: Session, email_key: str) -> bool:
    """The owner said "never mail me again": then not even a confirmation goes out."""
    known = _known(session=session, email_key=email_key)
    return known is not None and known.reason is SuppressionReason.BLOCKED


def unblock(*, session: Session, email_key: str) -> bool:
    """By hand, when the owner asks for it. False when they weren't blocked."""
    known = _known(session=session, email_key=email_key)
    if known is None or known.reason is not SuppressionReason.BLOCKED:
        return False
    hashes = links.keyed_hashes(PURPOSE, email_key)
    session.execute(delete(Suppression).where(Suppression.address_hash.in_(hashes)))
    return True


def lift(*, session: Session, email_key: str) -> None:
    """A fresh double opt-in undoes a bounce or complaint, and only that does (requirements 4.14)."""
    session.execute(
        delete(Suppression).where(
            Suppression.address_hash.in_(links.keyed_hashes(PURPOSE, email_key)),
            Suppression.reason != SuppressionReason.BLOCKED,
        )
    )


def _known(*, session: Session, email_key: str) -> Suppression | None:
    """Also one that was hashed under an older key: a new SECRET_KEY must not set anybody free."""
    hashes = links.keyed_hashes(PURPOSE, email_key)
    return session.scalars(select(Suppression).where(Suppression.address_hash.in_(hashes))).first()
