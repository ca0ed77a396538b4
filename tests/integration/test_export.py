"""Everything about one reader, and nothing about another."""

from __future__ import annotations

import json
from datetime import timedelta

import flask
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors, throttle
from service.delivery.models import Delivery, Outcome, Report, ReportKind
from service.privacy import export
from service.subscribers import (
    address_change,
    addresses,
    confirmation,
    consent,
    erasures,
    intake,
    own_data,
    signup,
    unsubscribe,
)
from service.subscribers.models import Channel, Confirmation, Letter, SuppressionReason
from tests import make
from tests.integration.operator import refused, vinkje
from tests.make import NOW

SASKIA = "Saskia.de.Vries@gemeente.example"

pytestmark = pytest.mark.usefixtures("doorbells")


def joined(session: Session, email: str) -> int:
    """By form and button, for two themes, of which one was left again."""
    for slug in ("innovatie", "zorg"):
        make.theme(session, slug)
    signup.sign_up(
        session=session, now=NOW, email=email, slugs=["innovatie", "zorg"], language="nl", network="10.1.2.0/24"
    )
    asked = session.scalars(select(Confirmation).order_by(Confirmation.id.desc())).first()
    assert asked is not None
    confirmation.confirm(session=session, now=NOW, confirmation_id=asked.id, shown_in="en")
    zorg = make.theme(session, "zorg").id
    later = NOW + timedelta(hours=1)
    who = asked.subscriber_id
    unsubscribe.leave(session=session, now=later, subscriber_id=who, theme_id=zorg, channel=Channel.ONE_CLICK)
    session.flush()
    return who


def mailed(session: Session, number: int) -> None:
    issue = make.approved(session)
    session.add(
        Delivery(
            issue_id=issue.id, subscriber_id=number, outcome=Outcome.ACCEPTED, at=NOW, first_at=NOW, status="250 2.0.0"
        )
    )
    session.add(Report(issue_id=issue.id, subscriber_id=number, kind=ReportKind.SOFT, status="4.2.2", at=NOW))
    session.flush()


def test_it_is_complete_and_a_machine_can_read_it(session: Session) -> None:
    number = joined(session, SASKIA)
    mailed(session, number)
    own_data.ask(session=session, now=NOW, subscriber_id=number)
    addresses.suppress(session=session, now=NOW, email_key=SASKIA.lower(), reason=SuppressionReason.COMPLAINT)
    session.flush()
    data = json.loads(json.dumps(export.of(session=session, subscriber_id=number)))

    assert (data["format"], data["address"], data["language"]) == (1, SASKIA, "nl")
    assert data["created_at"] == "2026-11-24T09:00:00+00:00"
    assert [(each["theme"], each["state"], each["end_reason"]) for each in data["subscriptions"]] == [
        ("innovatie", "active", None),
        ("zorg", "ended", "unsubscribed"),
    ]
    assert [(each["theme"], each["event"], each["channel"], each["wording"]) for each in data["consents"]] == [
        ("innovatie", "requested", "web_form", "form-1.nl"),
        ("zorg", "requested", "web_form", "form-1.nl"),
        ("innovatie", "confirmed", "mail", f"{consent.CONFIRM}.en"),
        ("zorg", "confirmed", "mail", f"{consent.CONFIRM}.en"),
        ("zorg", "withdrawn", "one_click", ""),
    ]
    assert data["consents"][2]["text"] == consent.wording(consent.CONFIRM, "en").text
    assert data["consents"][4]["text"] == ""
    (asked,) = data["confirmations"]
    assert (asked["themes"], asked["confirmed_at"]) == (["innovatie", "zorg"], "2026-11-24T09:00:00+00:00")
    assert [(each["kind"], each["address"]) for each in data["letters"]] == [("data", SASKIA)]
    (delivery,) = data["deliveries"]
    assert (delivery["theme"], delivery["week"], delivery["outcome"]) == ("innovatie", "2026-W48", "accepted")
    assert [(each["kind"], each["week"]) for each in data["reports"]] == [("soft", "2026-W48")]
    assert [each["reason"] for each in data["marks"]["suppressions"]] == ["complaint"]
    assert {each["kind"] for each in data["marks"]["tries"]} == {"signup_mail", "data_letter"}


def test_nothing_of_another_is_in_it(session: Session) -> None:
    other = joined(session, "bo.de.boer@gemeente.example")
    mailed(session, other)
    number = make.reader(session, SASKIA, "innovatie").id
    for email in (SASKIA.upper(), "bo.de.boer@gemeente.example"):
        intake.ask(session=session, now=NOW, email=email, slugs=["zorg"], language="nl", network="10.9.9.0/24")
    data = export.of(session=session, subscriber_id=number)
    assert "bo.de.boer" not in json.dumps(data).lower()
    assert [form["themes"] for form in data["forms"]] == [["zorg"]]
    assert [data[part] for part in ("consents", "confirmations", "letters", "deliveries", "reports")] == [[]] * 5


def test_an_editor_with_the_number_of_a_reader_is_another(session: Session) -> None:
    number = make.reader(session, SASKIA).id
    throttle.note(session=session, kind="invites", who=str(number), now=NOW)
    session.flush()
    assert export.of(session=session, subscriber_id=number)["marks"]["tries"] == []


@pytest.mark.parametrize("reason", SuppressionReason)
def test_who_reads_nothing_and_may_not_be_mailed_is_told_so(app: flask.Flask, reason: SuppressionReason) -> None:
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=SASKIA.lower(), reason=reason)
        erasures.note(session=session, now=NOW, email_key="bo@gemeente.example")
    told = vinkje(app, "privacy", "export", SASKIA)
    assert told.exit_code == 0
    data = json.loads(told.stdout)
    assert (data["format"], data["address"]) == (1, SASKIA)
    assert data["marks"]["suppressions"] == [{"reason": str(reason), "at": "2026-11-24T09:00:00+00:00"}]
    assert (data["marks"]["erasures"], data["forms"], data["letters"]) == ([], [], [])
    assert told.stderr == f"No reader has this address. It isn't mailed since 2026-11-24: {reason}.\n"


def test_what_else_is_held_of_an_address_that_is_no_readers(app: flask.Flask) -> None:
    """Another reader typed it, as their own new one; and it waits in a form."""
    with db.transaction() as session:
        make.theme(session)
        number = make.reader(session, "bo@gemeente.example").id
        address_change.ask(session=session, now=NOW, subscriber_id=number, email=SASKIA)
        intake.ask(session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="10.9.9.0/24")
        erasures.note(session=session, now=NOW, email_key=SASKIA.lower())
    told = vinkje(app, "privacy", "export", SASKIA.upper())
    data = json.loads(told.stdout)
    assert [each["kind"] for each in data["letters"]] == ["address_new"]
    assert [each["themes"] for each in data["forms"]] == [["innovatie"]]
    assert [each["kind"] for each in data["marks"]["tries"]] == ["signup_mail"]
    assert len(data["marks"]["erasures"]) == 1
    assert "bo@" not in told.stdout
    assert told.stderr == "No reader has this address.\n"


def test_of_an_address_that_nobody_knows_nothing_is_held(app: flask.Flask) -> None:
    assert refused(app, "privacy", "export", SASKIA) == "vinkje: Nothing is held about this address."


# Where a table's rows about a reader stand in the export; those of None are about nobody, or said elsewhere.
TOLD = {
    "subscribers": "address",
    "subscriptions": "subscriptions",
    "consents": "consents",
    "confirmations": "confirmations",
    "letters": "letters",
    "deliveries": "deliveries",
    "reports": "reports",
    "signup_requests": "forms",
    "attempts": "marks",
    "suppressions": "marks",
    "erasures": "marks",
}
NOT_OF_READERS = {
    "alembic_version", "batches", "consent_counts", "delivery_counts", "editions", "editor_sessions", "editors",
    "heartbeats", "issues", "items", "notices", "placements", "relays", "report_counts", "senders", "themes",
}  # fmt: skip


def test_every_table_that_knows_a_reader_is_told(session: Session) -> None:
    """Who adds a table says here whether it is about readers."""
    tables = set(db.Base.metadata.tables) - NOT_OF_READERS
    assert tables == set(TOLD)
    data = export.of(session=session, subscriber_id=make.reader(session).id)
    assert set(TOLD.values()) <= set(data)
    numbered = {name for name, table in db.Base.metadata.tables.items() if "subscriber_id" in table.columns}
    assert numbered <= set(TOLD)


def test_who_is_gone_has_nothing_to_export(session: Session) -> None:
    with pytest.raises(errors.NotFound):
        export.of(session=session, subscriber_id=4711)
    assert session.scalars(select(Letter)).all() == []
