"""Subscribers, what they ticked, and the evidence for it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, Connection, ForeignKey, Index, String, event, false, text
from sqlalchemy.orm import Mapped, Mapper, ORMExecuteState, Session, mapped_column, relationship

from service.db import Base
from service.outbox import Outgoing

EVIDENCE = "consent is evidence: add a row, change none"


class State(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    ENDED = "ended"


class EndReason(StrEnum):
    UNSUBSCRIBED = "unsubscribed"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    ERASED = "erased"
    EXPIRED = "expired"


class ConsentEvent(StrEnum):
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    CHANGED = "changed"
    WITHDRAWN = "withdrawn"
    COMPLAINT = "complaint"
    BOUNCED = "bounced"
    IMPORTED = "imported"


class Channel(StrEnum):
    WEB_FORM = "web_form"
    MAIL = "mail"
    PREFERENCES = "preferences"
    ONE_CLICK = "one_click"
    UNSUBSCRIBE_PAGE = "unsubscribe_page"
    RELAY = "relay"
    REPORT = "report"
    IMPORT = "import"
    LEDGER = "ledger"  # put back after a restore; how it came about isn't in there (service/privacy/ledger.py)


class SuppressionReason(StrEnum):
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    BLOCKED = "blocked"


class LetterKind(StrEnum):
    DATA = "data"  # the fresh link that reading, exporting, erasing and changing the address ask for
    ADDRESS_NEW = "address_new"  # to the new address: is it yours?
    ADDRESS_TOLD = "address_told"  # to the old one: it was changed
    THEMES_TOLD = "themes_told"  # to the reader: the link in a newsletter was used for more than leaving


class Subscriber(Base):
    """`email` is as typed, with its domain in A-labels; `email_key` is the form that is compared. `moved`: how often
    it became another address, so that links in mails to an older one are known.

    Ids are never used again: a link in an old mail must not open another's preferences.
    """

    __tablename__ = "subscribers"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(String(254), unique=True)
    language: Mapped[str] = mapped_column(String(2))
    created_at: Mapped[datetime]
    moved: Mapped[int] = mapped_column(default=0, server_default=text("0"))


class SignupRequest(Base):
    """What a form said, until a worker takes it a moment later. `network` is a range of
    addresses, not a person's. `elsewhere`: the form stood on a page that isn't ours. `unproven`: we asked for
    a proof of work, and it had none.
    """

    __tablename__ = "signup_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    slugs: Mapped[list[str]] = mapped_column(JSON)
    language: Mapped[str] = mapped_column(String(2))
    network: Mapped[str] = mapped_column(String(50))
    elsewhere: Mapped[bool]
    unproven: Mapped[bool] = mapped_column(default=False, server_default=false())
    at: Mapped[datetime] = mapped_column(index=True)


class Subscription(Base):
    """The key leads with the theme: an audience is a range of subscribers within one theme."""

    __tablename__ = "subscriptions"
    __table_args__ = (Index(None, "subscriber_id"),)

    theme_id: Mapped[int] = mapped_column(ForeignKey("themes.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscribers.id"), primary_key=True)
    state: Mapped[State]
    end_reason: Mapped[EndReason | None]
    requested_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Consent(Base):
    """Evidence (GDPR art. 7(1)); append-only. `wording` names the versioned text that was shown."""

    __tablename__ = "consents"

    id: Mapped[int] = mapped_column(primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscribers.id"), index=True)
    theme_id: Mapped[int] = mapped_column(ForeignKey("themes.id"))
    event: Mapped[ConsentEvent]
    channel: Mapped[Channel]
    at: Mapped[datetime]
    wording: Mapped[str] = mapped_column(String(40))
    wording_hash: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(200), default="")


class Confirmation(Outgoing, Base):
    """One mail for all ticked themes. Without themes it's the mail that says "you have these already"."""

    __tablename__ = "confirmations"
    __table_args__ = ({"sqlite_autoincrement": True},)

    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscribers.id"), index=True)
    language: Mapped[str] = mapped_column(String(2))
    theme_ids: Mapped[list[int]] = mapped_column(JSON)
    requested_at: Mapped[datetime] = mapped_column(index=True)
    confirmed_at: Mapped[datetime | None]

    subscriber: Mapped[Subscriber] = relationship()

    @property
    def made_at(self) -> datetime:
        return self.requested_at


class Letter(Outgoing, Base):
    """A mail to one reader about their own data. `email` is whom it goes to, which an ADDRESS_* letter needs:
    it isn't the subscriber's, or not any more. `used_at`: its button was pressed.
    """

    __tablename__ = "letters"
    __table_args__ = ({"sqlite_autoincrement": True},)

    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscribers.id"), index=True)
    kind: Mapped[LetterKind]
    language: Mapped[str] = mapped_column(String(2))
    email: Mapped[str] = mapped_column(String(254))
    asked_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]

    subscriber: Mapped[Subscriber] = relationship()

    @property
    def made_at(self) -> datetime:
        return self.asked_at


class ConsentCount(Base):
    """How many events there were in an ISO week ("2026-W48") of which the evidence is gone: it names nobody."""

    __tablename__ = "consent_counts"

    theme_id: Mapped[int] = mapped_column(ForeignKey("themes.id"), primary_key=True)
    week: Mapped[str] = mapped_column(String(8), primary_key=True)
    event: Mapped[ConsentEvent] = mapped_column(primary_key=True)
    count: Mapped[int]


class Erasure(Base):
    """An address whose data went, as a keyed hash: a restored backup is brought back in line with it."""

    __tablename__ = "erasures"

    address_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)


class Suppression(Base):
    """An address we may not mail, as a keyed hash: the key is not in the database."""

    __tablename__ = "suppressions"

    address_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[SuppressionReason]
    at: Mapped[datetime]


@event.listens_for(Consent, "before_update")
@event.listens_for(Consent, "before_delete")
def _append_only(mapper: Mapper[Consent], connection: Connection, target: Consent) -> None:
    raise RuntimeError(EVIDENCE)


@event.listens_for(Session, "do_orm_execute")
def _append_only_in_bulk(state: ORMExecuteState) -> None:
    """Rows go only as a whole, when a request vanishes or a reader is erased: by a bulk DELETE."""
    if state.is_update and state.bind_mapper is not None and state.bind_mapper.class_ is Consent:
        raise RuntimeError(EVIDENCE)
