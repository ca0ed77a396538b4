"""What comes back of a round, by whatever door, and what follows from it."""

from __future__ import annotations

import contextvars
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
from click.testing import CliRunner
from flask.cli import ScriptInfo
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from service import app as service_app
from service import cli, db, links, settings, urls
from service.delivery import breaker, report_counts, return_faults, returned, rounds
from service.delivery.models import Delivery, Outcome, Report, ReportCount, Trouble
from service.delivery.reports import Sort
from service.delivery.returned import Ignored
from service.issues.models import Issue, IssueState
from service.privacy import erasure
from service.subscribers import address_change, addresses, confirmation, csv_rows, importing, signup
from service.subscribers.models import (
    Confirmation,
    Consent,
    EndReason,
    Letter,
    LetterKind,
    State,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)
from tests import came_back, fakes, make
from tests.integration import operator, races, trips
from tests.make import NOW
from worker import tasks

RETURNS = "bounces@vinkje.example"
DAY = timedelta(days=1)
SECRET = "a secret for reports, of more than 32 characters"
SASKIA = "saskia@gemeente.example"


Rung = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(autouse=True)
def _returns(app: flask.Flask, doorbells: Rung) -> None:
    settings.use(settings.current().model_copy(update={"return_address": RETURNS}))


def ingest(app: flask.Flask, raw: bytes, *files: Path) -> int:
    info = ScriptInfo(create_app=lambda: app, set_debug_flag=False)
    words = ["report", "ingest", *(map(str, files) if files else "-")]
    return contextvars.Context().run(CliRunner().invoke, cli.cli, words, obj=info, input=raw).exit_code


def take(raw: bytes, now: datetime = NOW) -> Sort | Ignored:
    with db.transaction() as session:
        return returned.take(session=session, now=now, raw=raw)


def one(session: Session, email: str = SASKIA) -> Subscriber:
    return session.scalars(select(Subscriber).where(Subscriber.email == email)).one()


def subscriptions(email: str = SASKIA) -> list[tuple[str, str]]:
    with db.transaction() as session:
        query = select(Subscription).where(Subscription.subscriber_id == one(session, email).id)
        return [(row.state, row.end_reason or "") for row in session.scalars(query.order_by(Subscription.theme_id))]


def evidence() -> list[tuple[str, str]]:
    with db.transaction() as session:
        return [(row.event, row.channel) for row in session.scalars(select(Consent).order_by(Consent.id))]


def suppressed() -> list[SuppressionReason]:
    with db.transaction() as session:
        return list(session.scalars(select(Suppression.reason)))


def reported() -> list[tuple[str, str]]:
    with db.transaction() as session:
        return [(row.kind, row.status) for row in session.scalars(select(Report).order_by(Report.at, Report.issue_id))]


def counted() -> dict[str, int]:
    with db.transaction() as session:
        return {row.sort: row.count for row in session.scalars(select(ReportCount))}


def sent_issue(session: Session, *readers: str, at: datetime = NOW, slug: str = "innovatie") -> int:
    """An issue that these had; they begin as readers when they are none."""
    for email in readers:
        if session.scalar(select(Subscriber).where(Subscriber.email == email)) is None:
            make.reader(session, email, slug, at=NOW - 90 * DAY)
    issue = make.approved(session, slug, now=at)
    issue.state, issue.cut_at, issue.audience = IssueState.SENT, at, len(readers)
    for email in readers:
        session.add(
            Delivery(
                issue_id=issue.id,
                subscriber_id=one(session, email).id,
                outcome=Outcome.ACCEPTED,
                at=at,
                first_at=at,
                status="250",
            )
        )
    session.flush()
    return issue.id


@pytest.fixture
def sent(app: flask.Flask) -> str:
    """The return address of the mail that Saskia had."""
    with db.transaction() as session:
        issue_id = sent_issue(session, SASKIA)
        return links.return_path(issue_id, one(session).id)


def test_each_newsletter_has_a_return_address_of_its_own_and_can_be_left_by_mail(
    begin: trips.Begin, relay: fakes.Relay
) -> None:
    begin(3, return_address=RETURNS).send()
    assert sorted(mail.recipient for mail in relay.caught) == trips.everybody(3)
    for mail in relay.caught:
        with db.transaction() as session:
            reader = one(session, mail.recipient)
        kind, _, subscriber_id = links.read_return(mail.sender)
        assert (kind, subscriber_id) == ("b", reader.id)
        assert mail.sender.startswith("bounces+b")
        assert "lezer" not in mail.sender
        assert len(mail.sender.partition("@")[0]) <= 64
        by_link, by_mail = str(mail.message["List-Unsubscribe"]).split(", ")
        assert by_link.startswith("<http://localhost:8000/unsubscribe/")
        found = re.fullmatch(r"<mailto:(.+)\?subject=unsubscribe>", by_mail)
        assert found
        assert links.read_return(found[1])[:2] == ("u", reader.id)
        assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_without_a_return_address_the_newsletter_is_what_it_was(begin: trips.Begin, relay: fakes.Relay) -> None:
    begin(1, return_address="").send()
    (mail,) = relay.caught
    assert mail.sender == "nieuws@vinkje.example"
    assert re.fullmatch(r"<http://localhost:8000/unsubscribe/[^ ,>]+>", mail.message["List-Unsubscribe"])


@pytest.mark.parametrize("door", ["-", "file", "webhook"])
def test_a_mail_that_bounces_is_the_last_one_that_reader_gets(
    app: flask.Flask,
    begin: trips.Begin,
    relay: fakes.Relay,
    client: flask.testing.FlaskClient,
    tmp_path: Path,
    door: str,
    sign: Callable[[bytes], dict[str, str]],
) -> None:
    """What the relay took, another server sends back; by each door the same, and the second time nothing."""
    trip = begin(3, return_address=RETURNS, report_secret=SECRET)
    trip.send()
    mail = relay.to(trips.address(1))[0]
    raw = came_back.bounce(mail.sender)
    for _ in range(2):
        if door == "webhook":
            given = contextvars.Context().run(client.post, "/reports", data=raw, headers=sign(raw))
            assert given.status_code == 200
        else:
            (tmp_path / "mail").write_bytes(raw)
            assert ingest(app, raw, *([tmp_path / "mail"] if door == "file" else [])) == 0
    assert reported() == [("hard", "5.1.1")]
    assert [subscriptions(trips.address(number)) for number in range(3)] == [
        [("active", "")],
        [("ended", "hard_bounce")],
        [("active", "")],
    ]
    assert evidence() == [("bounced", "report")]
    assert suppressed() == [SuppressionReason.HARD_BOUNCE]
    assert counted() == {"repeated": 1}
    assert trip.books().accepted == 3, "the books say what the relay said"
    relay.caught.clear()
    later = NOW + 7 * DAY
    with db.transaction() as session:
        trip.issue_id = rounds.start(session=session, now=later, issue_id=make.approved(session, now=later).id).id
    trip.now = later
    trip.send()
    assert trips.got(relay) == [trips.address(0), trips.address(2)]


@pytest.fixture
def sign() -> Callable[[bytes], dict[str, str]]:
    def made(raw: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        digest = hmac.new(SECRET.encode(), f"{moment}.".encode() + raw, hashlib.sha256).hexdigest()
        return {"Vinkje-Signature": f"t={moment},v1={digest}", "Content-Type": "message/rfc822"}

    return made


def test_every_file_is_taken_and_a_database_that_is_away_is_no_reason_to_lose_one(
    app: flask.Flask, sent: str, tmp_path: Path
) -> None:
    """EX_TEMPFAIL: the mail server keeps it, and comes back with it."""
    for name, raw in (("one", came_back.bounce(sent, "5.2.2")), ("two", came_back.away(sent))):
        (tmp_path / name).write_bytes(raw)
    assert ingest(app, b"", tmp_path / "one", tmp_path / "two") == 0
    assert (reported(), counted()) == ([("soft", "5.2.2")], {"auto_reply": 1})

    chosen = settings.current()
    closed = {"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/nothing"}
    settings.use(chosen.model_copy(update=closed))
    assert ingest(service_app.create_app(), came_back.bounce(sent)) == 75
    empty = {"database_url": urls.sqlite(tmp_path / "empty.db")}
    settings.use(chosen.model_copy(update=empty))
    assert ingest(service_app.create_app(), came_back.bounce(sent)) == 75
    settings.use(chosen)
    assert reported() == [("soft", "5.2.2")]


def test_a_mail_of_many_megabytes_is_heard_to_its_end_and_read_at_its_beginning(app: flask.Flask, sent: str) -> None:
    assert ingest(app, came_back.bounce(sent, headers="X-Long: x\n" * 400_000)) == 0
    assert reported() == [("hard", "5.1.1")]


def test_a_forged_report_is_counted_and_changes_nothing(sent: str) -> None:
    number = int(re.sub(r"\D", "", sent.partition("-")[0]))
    for address in (
        sent.replace(f"+b{number}-", f"+b{number + 1}-"),
        sent[: sent.index("@") - 1]
        + ("0" if sent[sent.index("@") - 1] != "0" else "1")
        + f"@{RETURNS.partition('@')[2]}",
        RETURNS.replace("@", "+b1-1-@"),
    ):
        assert take(came_back.bounce(address)) is Ignored.FORGED
        assert take(came_back.complaint(f"Return-Path: <{address}>\n")) is Ignored.FORGED
    assert take(came_back.bounce(RETURNS, about=SASKIA)) is Ignored.UNSIGNED, "whoever the text says it is about"
    assert take(came_back.complaint(f"To: {SASKIA}\n")) is Ignored.UNSIGNED
    assert subscriptions() == [("active", "")]
    assert (reported(), suppressed(), evidence()) == ([], [], [])
    assert counted() == {"forged": 6, "unsigned": 2}


def test_an_address_in_capitals_is_ours_too(sent: str) -> None:
    assert take(came_back.bounce(sent.upper())) is Sort.HARD


@pytest.mark.parametrize(
    ("raw", "sort"),
    [
        (lambda to: came_back.bounce(to, "4.4.7", action="delayed"), "delayed"),
        (came_back.away, "auto_reply"),
        (lambda to: came_back.complaint(f"Return-Path: <{to}>\n", "not-spam"), "not_spam"),
        (lambda to: b"To: " + to.encode() + b"\r\n\r\nHallo, wie bent u?\r\n", "unknown"),
        (lambda to: b"\xff\x00\r\n" * 100, "unknown"),
        (lambda to: b"", "unknown"),
    ],
)
def test_what_is_no_bounce_and_no_complaint_is_counted_only(
    sent: str, doorbells: Rung, raw: Callable[[str], bytes], sort: str
) -> None:
    """And never answered (RFC 3834 §2): no mail is left behind for a worker."""
    doorbells.clear()
    assert take(raw(sent)) == sort
    assert subscriptions() == [("active", "")]
    assert (reported(), suppressed(), evidence()) == ([], [], [])
    assert counted() == {sort: 1}
    assert doorbells == []


def test_nothing_that_is_logged_names_anybody(sent: str) -> None:
    with capture_logs() as logs:
        take(came_back.bounce(sent, "5.7.1", said=f"<{SASKIA}> not from {sent}"))
        take(came_back.bounce(sent))
        take(came_back.away(sent))
    assert {line["event"] for line in logs} == {"report_taken", "mail_came_back_for_our_fault"}
    assert not re.search(r"saskia|bounces\+|@", str(logs))


def test_a_report_about_a_reader_who_left_suppresses_the_address_and_ends_nothing_twice(sent: str) -> None:
    with db.transaction() as session:
        for row in session.scalars(select(Subscription)):
            row.state, row.end_reason, row.ended_at = State.ENDED, EndReason.UNSUBSCRIBED, NOW
    assert take(came_back.complaint(f"Return-Path: <{sent}>\n")) is Sort.COMPLAINT
    assert subscriptions() == [("ended", "unsubscribed")]
    assert evidence() == []
    assert suppressed() == [SuppressionReason.COMPLAINT]


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        (SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT, SuppressionReason.COMPLAINT),
        (SuppressionReason.COMPLAINT, SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT),
        (SuppressionReason.BLOCKED, SuppressionReason.HARD_BOUNCE, SuppressionReason.BLOCKED),
        (SuppressionReason.HARD_BOUNCE, SuppressionReason.BLOCKED, SuppressionReason.BLOCKED),
    ],
)
def test_two_that_suppress_an_address_at_once_are_both_heard(
    app: flask.Flask, first: SuppressionReason, second: SuppressionReason, stays: SuppressionReason
) -> None:
    """A round that is told so by the relay, and a report."""

    def suppress(session: Session, reason: SuppressionReason) -> None:
        addresses.suppress(session=session, now=NOW, email_key=SASKIA, reason=reason)

    beside = races.Beside(app, lambda session: suppress(session, second))
    with db.transaction() as session:
        suppress(session, first)
        session.flush()
        beside.start()
    assert beside.refusal() is None
    assert suppressed() == [stays]


def test_a_report_about_a_reader_who_was_erased_changes_nothing(sent: str) -> None:
    with db.transaction() as session:
        reader = one(session)
        session.query(Subscription).delete()
        session.delete(reader)
    for raw in (
        came_back.bounce(sent),
        came_back.complaint(f"Return-Path: <{sent}>\n"),
        came_back.bounce(sent, "5.7.1"),
    ):
        assert take(raw) is Ignored.GONE
    assert (reported(), suppressed(), counted()) == ([], [], {"gone": 3})


def test_a_report_about_the_address_a_reader_had_before_changes_nothing(sent: str) -> None:
    with db.transaction() as session:
        address_change.ask(
            session=session, now=NOW + DAY, subscriber_id=one(session).id, email="nieuw@gemeente.example"
        )
        letter_id = session.scalars(select(Letter.id).where(Letter.kind == LetterKind.ADDRESS_NEW)).one()
        make.pressed(session, letter_id, now=NOW + DAY)
    for raw in (came_back.bounce(sent), came_back.complaint(f"Return-Path: <{sent}>\n")):
        assert take(raw, NOW + 2 * DAY) is Ignored.OUTDATED
    assert subscriptions("nieuw@gemeente.example") == [("active", "")]
    assert (reported(), suppressed(), counted()) == ([], [], {"outdated": 2})


def changed(session: Session, reader: Subscriber, email: str, at: datetime) -> address_change.Pressed:
    address_change.ask(session=session, now=at, subscriber_id=reader.id, email=email)
    unused = Letter.kind == LetterKind.ADDRESS_NEW, Letter.used_at.is_(None)
    letter_id = session.scalars(select(Letter.id).where(*unused)).one()
    return make.pressed(session, letter_id, now=at)


@pytest.mark.parametrize("more", [0, 1])
def test_a_complaint_stands_when_another_reader_was_merged_into_the_one_who_complains(sent: str, more: int) -> None:
    """Their address is what it was; with themes of the other one (`more`) as well as without."""
    with db.transaction() as session:
        other = make.reader(session, "saskia@thuis.example", "innovatie", *["democratie"][:more], at=NOW - DAY)
        pressed = changed(session, other, SASKIA, NOW + DAY)
        assert pressed.left_over
        erasure.erase(session=session, now=NOW + DAY, subscriber_id=pressed.left_over)
    assert subscriptions() == [("active", "")] * (1 + more)
    assert take(came_back.complaint(f"Return-Path: <{sent}>\n"), NOW + 2 * DAY) is Sort.COMPLAINT
    assert subscriptions() == [("ended", "complaint")] * (1 + more)


def test_a_complaint_stands_when_only_capitals_changed_or_the_reader_came_back_to_that_address(sent: str) -> None:
    elsewhere = "saskia@thuis.example"
    with db.transaction() as session:
        changed(session, one(session), SASKIA.capitalize(), NOW + DAY)
        changed(session, one(session, SASKIA.capitalize()), elsewhere, NOW + 2 * DAY)
    raw = came_back.complaint(f"Return-Path: <{sent}>\n")
    assert take(raw, NOW + 2 * DAY) is Ignored.OUTDATED
    with db.transaction() as session:
        changed(session, one(session, elsewhere), SASKIA, NOW + 3 * DAY)
    assert take(raw, NOW + 4 * DAY) is Sort.COMPLAINT
    assert subscriptions() == [("ended", "complaint")]


def confirmed(now: datetime, email: str = SASKIA) -> None:
    """A fresh double opt-in."""
    with db.transaction() as session:
        signup.sign_up(session=session, now=now, email=email, slugs=["innovatie"], language="nl", network="10.0.0.0/24")
        make.taken(session)
        asked = session.scalars(select(Confirmation).order_by(Confirmation.id.desc())).first()
        assert asked
        confirmation.confirm(session=session, now=now, confirmation_id=asked.id)


def test_a_bounce_that_is_older_than_a_fresh_confirmation_changes_nothing(sent: str, doorbells: Rung) -> None:
    """The mail with the button came through. A complaint stands all the same."""
    with db.transaction() as session:
        for row in session.scalars(select(Subscription)):
            row.state, row.end_reason, row.ended_at = State.ENDED, EndReason.UNSUBSCRIBED, NOW
    confirmed(NOW + DAY)
    assert take(came_back.bounce(sent), NOW + 2 * DAY) is Ignored.OUTDATED
    assert subscriptions() == [("active", "")]
    assert take(came_back.complaint(f"Return-Path: <{sent}>\n"), NOW + 2 * DAY) is Sort.COMPLAINT
    assert subscriptions() == [("ended", "complaint")]


@pytest.mark.parametrize("named", ["return path", "leaving address"])
def test_a_complaint_ends_everything_and_no_import_brings_them_back_but_a_fresh_sign_up_does(
    app: flask.Flask, doorbells: Rung, named: str
) -> None:
    """Requirements 4.14. Many providers leave out the recipient, and some the return path with it."""
    with db.transaction() as session:
        make.reader(session, SASKIA, "democratie", "innovatie", at=NOW - DAY)
        issue_id, reader_id = sent_issue(session, SASKIA), one(session).id
        theme_id = make.theme(session).id
    leaving = f"List-Unsubscribe: <https://a.example/x>,\n <mailto:{links.unsubscribe_address(reader_id, theme_id)}>\n"
    headers = f"Return-Path: <{links.return_path(issue_id, reader_id)}>\n" if named == "return path" else leaving
    doorbells.clear()
    assert take(came_back.complaint(headers)) is Sort.COMPLAINT
    assert subscriptions() == [("ended", "complaint")] * 2
    assert evidence() == [("complaint", "report")] * 2
    assert suppressed() == [SuppressionReason.COMPLAINT]
    assert reported() == [("complaint", "")]
    assert doorbells == [], "nothing is mailed"

    row = csv_rows.Row(2, addresses.parse(SASKIA), ("innovatie",), "nl", NOW - 2 * DAY, "beurs")
    stranger = csv_rows.Row(
        3, addresses.parse(SASKIA.replace("s", "S", 1)), ("organisatie",), "nl", NOW - 2 * DAY, "beurs"
    )
    with db.transaction() as session:
        make.theme(session, "organisatie")
        taken = importing.take(session=session, now=NOW + DAY, lines=[row, stranger])
    assert (taken.added, taken.refused) == (0, 2)
    assert subscriptions() == [("ended", "complaint")] * 2

    confirmed(NOW + 2 * DAY)
    assert sorted(subscriptions()) == [("active", ""), ("ended", "complaint")]
    assert suppressed() == []
    assert take(came_back.complaint(headers), NOW + 3 * DAY) is Ignored.REPEATED, "that was before"
    assert sorted(subscriptions()) == [("active", ""), ("ended", "complaint")]


def test_a_report_that_quotes_both_our_addresses_is_about_the_mail_that_came_back(app: flask.Flask) -> None:
    """The one to leave by stands in every newsletter; it would be about the theme's last issue."""
    with db.transaction() as session:
        first, _ = sent_issue(session, SASKIA), sent_issue(session, SASKIA, at=NOW + 7 * DAY)
        reader_id, theme_id = one(session).id, make.theme(session).id
    quoted = f"List-Unsubscribe: <mailto:{links.unsubscribe_address(reader_id, theme_id)}>\n"
    quoted += f"Return-Path: <{links.return_path(first, reader_id)}>\n"
    raw = came_back.bounce("postmaster@vinkje.example", about=SASKIA).replace(
        b"I'm sorry", quoted.replace("\n", "\r\n").encode() + b"\r\nI'm sorry"
    )
    assert take(raw) is Sort.HARD
    with db.transaction() as session:
        assert session.scalars(select(Report.issue_id)).all() == [first]


def test_a_bounce_that_names_only_the_address_to_leave_by_changes_nothing(sent: str) -> None:
    """Whoever the newsletter was passed on to has that one."""
    with db.transaction() as session:
        leaving = links.unsubscribe_address(one(session).id, make.theme(session).id)
    for status in ("5.1.1", "5.2.2", "5.7.1"):
        assert take(came_back.bounce(leaving, status)) is Ignored.FORGED
    assert (subscriptions(), reported(), suppressed()) == ([("active", "")], [], [])
    assert take(came_back.complaint(f"List-Unsubscribe: <mailto:{leaving}>\n")) is Sort.COMPLAINT


def test_a_mail_to_the_address_to_leave_by_ends_that_theme_and_no_other(app: flask.Flask, doorbells: Rung) -> None:
    with db.transaction() as session:
        make.reader(session, SASKIA, "democratie", "innovatie", at=NOW - DAY)
        to = links.unsubscribe_address(one(session).id, make.theme(session).id)
        back = links.return_path(sent_issue(session, SASKIA), one(session).id)
    doorbells.clear()
    assert take(came_back.leave(to.replace("+u", "+u1"))) is Ignored.FORGED
    assert take(came_back.leave(back)) is Sort.UNKNOWN, "an answer to the newsletter means nothing"
    assert take(came_back.away(to)) is Sort.AUTO_REPLY
    assert subscriptions() == [("active", "")] * 2
    assert take(came_back.leave(to, by="ander@gemeente.example")) is Sort.UNSUBSCRIBE, "the address says whom"
    assert take(came_back.leave(to)) is Ignored.REPEATED, "nobody leaves twice"
    assert [counted()[sort] for sort in ("unsubscribe", "repeated")] == [1, 1]
    assert subscriptions() == [("active", ""), ("ended", "unsubscribed")]
    assert evidence() == [("withdrawn", "report")]
    assert suppressed() == []
    assert doorbells == [], "no answer"


def four_weeks(session: Session, *, slug: str = "innovatie") -> list[str]:
    """The return addresses of four issues, a week after one another."""
    made = []
    for week in range(4):
        issue_id = sent_issue(session, SASKIA, at=NOW + timedelta(weeks=week), slug=slug)
        made.append(links.return_path(issue_id, one(session).id))
    return made


def weeks_later(number: int, days: int = 1) -> datetime:
    return NOW + timedelta(weeks=number, days=days)


def test_four_issues_in_a_row_that_did_not_arrive_over_three_weeks_make_a_dead_address(app: flask.Flask) -> None:
    with db.transaction() as session:
        sent_issue(session, SASKIA, at=NOW - timedelta(weeks=1))
        back = four_weeks(session)
    for week, address in enumerate(back):
        assert subscriptions() == [("active", "")]
        assert take(came_back.bounce(address, "5.2.2", said="mailbox full"), weeks_later(week)) is Sort.SOFT
    assert subscriptions() == [("ended", "hard_bounce")]
    assert suppressed() == [SuppressionReason.HARD_BOUNCE]
    assert evidence() == [("bounced", "report")]
    assert reported() == [("soft", "5.2.2")] * 4


def test_one_that_arrived_in_between_begins_the_row_anew(app: flask.Flask) -> None:
    with db.transaction() as session:
        back = four_weeks(session)
        more = links.return_path(sent_issue(session, SASKIA, at=weeks_later(4, 0)), one(session).id)
    for week in (0, 1, 3):
        take(came_back.bounce(back[week], "5.2.2"), weeks_later(week))
    assert take(came_back.bounce(more, "5.2.2"), weeks_later(4)) is Sort.SOFT
    assert subscriptions() == [("active", "")]


def test_four_in_one_week_are_not_enough_and_a_late_report_counts_with_its_issue(app: flask.Flask) -> None:
    """Three themes: the later report of an earlier issue comes in between, and what is young says nothing yet."""
    with db.transaction() as session:
        at = [NOW, NOW + DAY, NOW + 2 * DAY]
        slugs = ("innovatie", "democratie", "organisatie")
        early = [
            links.return_path(sent_issue(session, SASKIA, at=moment, slug=slug), one(session).id)
            for moment, slug in zip(at, slugs, strict=True)
        ]
    for address in early:
        take(came_back.bounce(address, "4.4.7"), NOW + 4 * DAY)
    with db.transaction() as session:
        last = links.return_path(sent_issue(session, SASKIA, at=weeks_later(3, 0)), one(session).id)
        sent_issue(session, SASKIA, at=weeks_later(3), slug="democratie")
    assert subscriptions() == [("active", "")], "three themes, of which one is theirs"
    assert take(came_back.bounce(last, "4.4.7"), weeks_later(3, 2)) is Sort.SOFT
    assert subscriptions() == [("ended", "hard_bounce")]


def test_four_in_a_row_within_two_weeks_are_not_enough(app: flask.Flask) -> None:
    with db.transaction() as session:
        back = four_weeks(session)[:3]
        other = sent_issue(session, SASKIA, at=weeks_later(1), slug="democratie")
        back.append(links.return_path(other, one(session).id))
    for address in back:
        assert take(came_back.bounce(address, "5.2.2"), weeks_later(2, 2)) is Sort.SOFT
    assert subscriptions() == [("active", "")]
    assert len(reported()) == 4


def test_a_fresh_confirmation_begins_the_row_anew(app: flask.Flask, doorbells: Rung) -> None:
    with db.transaction() as session:
        back = four_weeks(session)
    for week, address in enumerate(back):
        take(came_back.bounce(address, "5.2.2"), weeks_later(week))
    confirmed(weeks_later(3, 3))
    with db.transaction() as session:
        fifth = links.return_path(sent_issue(session, SASKIA, at=weeks_later(4, 0)), one(session).id)
    assert take(came_back.bounce(fifth, "5.2.2"), weeks_later(4)) is Sort.SOFT
    assert subscriptions() == [("active", "")]


@pytest.mark.parametrize("evidence", ["letter", "consent"])
def test_another_address_begins_the_row_anew(app: flask.Flask, evidence: str) -> None:
    """What came back from the old one doesn't charge it. The letter is forgotten after a month, the evidence isn't."""
    new = "saskia@thuis.example"
    with db.transaction() as session:
        back = four_weeks(session)
    for week, address in enumerate(back[:3]):
        take(came_back.bounce(address, "5.2.2"), weeks_later(week))
    with db.transaction() as session:
        changed(session, one(session), new, weeks_later(2, 3))
        session.query(Letter if evidence == "consent" else Consent).delete()
    assert take(came_back.bounce(back[3], "5.2.2"), weeks_later(3)) is Sort.SOFT
    assert subscriptions(new) == [("active", "")]
    assert suppressed() == []


@pytest.mark.parametrize(
    ("outcome", "status", "tried", "state"),
    [
        (Outcome.REJECTED, "552 5.2.2", timedelta(0), "ended"),
        (Outcome.GIVEN_UP, "452 4.2.2", 2 * DAY, "ended"),
        (Outcome.GIVEN_UP, "452 4.2.2", DAY, "active"),  # the round was cancelled
        (Outcome.REJECTED, "550 5.7.1", timedelta(0), "active"),
        (Outcome.ACCEPTED, "250", timedelta(0), "active"),
    ],
)
def test_what_the_relay_refused_for_a_full_mailbox_counts_in_the_row(
    app: flask.Flask, outcome: Outcome, status: str, tried: timedelta, state: str
) -> None:
    with db.transaction() as session:
        back = four_weeks(session)
        for row in session.scalars(select(Delivery).order_by(Delivery.issue_id).limit(3)):
            row.outcome, row.status, row.first_at = outcome, status, row.at - tried
    assert take(came_back.bounce(back[3], "5.2.2"), weeks_later(3)) is Sort.SOFT
    assert [found for found, _ in subscriptions()] == [state]


def going_out(session: Session, readers: int) -> tuple[int, list[str]]:
    emails = [trips.address(number) for number in range(readers)]
    issue_id = sent_issue(session, *emails)
    session.get_one(Issue, issue_id).state = IssueState.SENDING
    numbers = session.scalars(select(Subscriber.id).order_by(Subscriber.id))
    return issue_id, [links.return_path(issue_id, number) for number in numbers]


@pytest.mark.parametrize(("readers", "enough"), [(12, 5), (140, 7)])
def test_mails_that_come_back_because_of_us_stop_the_round_and_charge_nobody(
    app: flask.Flask, readers: int, enough: int
) -> None:
    with db.transaction() as session:
        issue_id, back = going_out(session, readers)

    def state() -> tuple[str, str]:
        with db.transaction() as session:
            issue = session.get_one(Issue, issue_id)
            return issue.state, issue.note

    def come(addresses: Sequence[str]) -> None:
        for address in addresses:
            assert take(came_back.bounce(address, "5.7.26", said="unauthenticated")) is Sort.FAULT

    come(back[: enough - 1])
    assert take(came_back.bounce(back[0], "5.7.26")) is Ignored.REPEATED
    assert state() == ("sending", "")
    come(back[enough - 1 : enough])
    assert state() == ("paused", return_faults.NOTE)
    with db.transaction() as session:
        assert session.scalar(select(func.count()).where(Subscription.state == State.ACTIVE)) == readers
        assert session.scalar(select(func.count()).select_from(Suppression)) == 0
        rounds.resume(session=session, now=NOW, issue_id=issue_id)
        session.get_one(Issue, issue_id).state = IssueState.SENDING  # nothing was left to send here
    come(back[enough : enough + 1])
    assert state() == ("sending", ""), "a person said so"


def test_a_round_of_many_stops_at_twenty_and_one_of_very_many_at_a_thousandth() -> None:
    """Twenty forged ones, by as many sign-ups of a stranger's own, stop no round of a million."""
    audiences = (1, 100, 200, 400, 20_000, 100_000, 1_000_000)
    assert [return_faults.enough(audience) for audience in audiences] == [5, 5, 10, 20, 20, 100, 1000]


def test_the_operator_sees_what_came_in_by_sort_and_day(app: flask.Flask, sent: str) -> None:
    now = datetime.now(UTC)
    take(came_back.bounce(sent, "5.2.2"), now - DAY)
    for raw in (came_back.away(sent), came_back.away(sent), came_back.bounce(RETURNS)):
        take(raw, now)
    take(came_back.away(sent), now - 31 * DAY)
    with db.transaction() as session:
        lines = report_counts.listing(session=session, now=now)
    assert [(line.day, line.sort, line.count) for line in lines] == [
        (now.date(), "auto_reply", 2),
        (now.date(), "unsigned", 1),
        ((now - DAY).date(), "soft", 1),
    ]
    found = operator.done(app, "report", "list")
    assert re.search(r"\d{4}-\d\d-\d\d +2  auto_reply   an automatic answer", found)
    plain = json.loads(operator.done(app, "report", "list", "--json"))
    assert plain["totals"] == {"auto_reply": 2, "unsigned": 1, "soft": 1}
    assert plain["days"][2] == {"day": str((now - DAY).date()), "sort": "soft", "count": 1}
    assert plain["mailbox_read"] is None


def test_single_mails_and_the_probe_have_the_return_address_itself(
    app: flask.Flask, relay: fakes.Relay, doorbells: Rung
) -> None:
    """What comes back of them names nobody we could act on."""
    settings.use(settings.current().model_copy(update={"smtp_url": relay.url}))
    named: list[str] = []
    relay.answer_mail = named.append
    with db.transaction() as session:
        make.theme(session)
        signup.sign_up(
            session=session, now=datetime.now(UTC), email=SASKIA, slugs=["innovatie"], language="nl", network=""
        )
        make.taken(session)
        asked = session.scalars(select(Confirmation.id)).one()
    tasks.send_confirmation(asked)
    with db.transaction() as session:
        breaker.trip(session=session, now=datetime.now(UTC) - DAY, trouble=Trouble.DOWN)
    tasks.probe_relay()
    tasks.hang_up()
    assert named == [RETURNS, RETURNS]
    assert [mail.recipient for mail in relay.caught] == [SASKIA]
