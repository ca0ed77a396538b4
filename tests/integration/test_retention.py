"""Each line of the table of how long we keep what: younger stays, older goes (requirements 3.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
import time_machine
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import db, heartbeat, i18n, jobs, logs, settings, throttle
from service.delivery import books
from service.delivery.models import Delivery, DeliveryCount, Outcome, Report, ReportCount, ReportKind
from service.issues.models import Issue, IssueState
from service.newsroom import editors, sessions
from service.newsroom.models import Editor, EditorSession, Notice, NoticeKind, Role
from service.privacy import folding, forgetting, ledger, night, retention
from service.subscribers import addresses, confirmation, erasures, intake, signup, unsubscribe
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    ConsentCount,
    ConsentEvent,
    EndReason,
    Erasure,
    Letter,
    LetterKind,
    SignupRequest,
    State,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)
from tests import house, make, processes
from tests.integration import races
from tests.make import NOW
from worker import mailbox, tasks

Bells = list[tuple[str, tuple[int, ...]]]
SECOND = timedelta(seconds=1)
ADDRESS = "saskia@gemeente.example"
PASSWORD = "een vink zit op een tak"
TESTED: set[str] = set()
Test = Callable[..., None]


def tells(key: str) -> Callable[[Test], Test]:
    """Which line a test is of."""
    TESTED.add(key)
    return lambda test: test


@pytest.fixture(autouse=True)
def _bells(doorbells: Bells) -> None:
    """No broker is needed here."""


def line(key: str) -> retention.Line:
    return next(line for line in retention.TABLE if line.key == key)


def keep(key: str) -> timedelta:
    found = line(key).keep
    assert found is not None
    return found


def pass_night(session: Session, now: datetime) -> None:
    """What the job does, in one transaction; and once more, for what was held by something that went this time."""
    session.flush()
    for one in (*retention.TABLE, *retention.TABLE):
        while retention.apply(session=session, now=now, line=one):
            pass
    session.expire_all()


def count(session: Session, model: type[db.Base]) -> int:
    session.flush()
    return session.scalar(select(func.count()).select_from(model)) or 0


def stays_until(session: Session, model: type[db.Base], moment: datetime) -> None:
    """The one row there is lives until `moment`, and not a second longer."""
    for now, left in ((moment, 1), (moment + SECOND, 0)):
        pass_night(session, now)
        assert count(session, model) == left, now


def signed_up(session: Session, *slugs: str, now: datetime = NOW) -> Confirmation:
    for slug in slugs:
        make.theme(session, slug)
    signup.sign_up(session=session, now=now, email=ADDRESS, slugs=slugs, language="nl", network="198.51.100.0/24")
    return session.scalars(select(Confirmation).order_by(Confirmation.id.desc())).all()[0]


def reader(session: Session, *slugs: str) -> Subscriber:
    """Who signed up, and pressed the button."""
    asked = signed_up(session, *slugs)
    confirmation.confirm(session=session, now=NOW, confirmation_id=asked.id)
    return asked.subscriber


def leaves(session: Session, subscriber: Subscriber, slug: str, now: datetime) -> None:
    theme_id = make.theme(session, slug).id
    unsubscribe.leave(
        session=session, now=now, subscriber_id=subscriber.id, theme_id=theme_id, channel=Channel.ONE_CLICK
    )


# --- readers ---


@tells("readers")
def test_who_reads_us_stays_with_all_evidence(session: Session) -> None:
    reader(session, "innovatie")
    pass_night(session, NOW + timedelta(days=10_000))
    assert count(session, Subscriber) == 1
    assert [one.event for one in session.scalars(select(Consent))] == [ConsentEvent.REQUESTED, ConsentEvent.CONFIRMED]


@tells("readers")
def test_who_left_the_last_theme_is_forgotten_after_two_years_but_for_totals(session: Session) -> None:
    saskia = reader(session, "innovatie", "democratie")
    first, last = NOW + timedelta(days=1), NOW + timedelta(days=900)
    leaves(session, saskia, "innovatie", first)
    pass_night(session, first + keep("readers") + SECOND)
    assert count(session, Subscription) == 2  # one theme is read still

    leaves(session, saskia, "democratie", last)
    late = last + keep("readers") - timedelta(days=1)  # a look at one's own data keeps nobody longer
    session.add(Letter(subscriber_id=saskia.id, kind=LetterKind.DATA, language="nl", email=ADDRESS, asked_at=late))
    stays_until(session, Subscriber, last + keep("readers"))
    for model in (Subscription, Consent, Confirmation, Letter):
        assert count(session, model) == 0
    counted = select(ConsentCount.event, func.sum(ConsentCount.count)).group_by(ConsentCount.event)
    assert {row.event: row[1] for row in session.execute(counted)} == {
        ConsentEvent.REQUESTED: 2,
        ConsentEvent.CONFIRMED: 2,
        ConsentEvent.WITHDRAWN: 2,
    }


def test_a_strangers_form_keeps_nobody_longer(session: Session) -> None:
    """Whoever fills in the address of who left doesn't begin the two years anew."""
    saskia = reader(session, "innovatie")
    leaves(session, saskia, "innovatie", NOW)
    signed_up(session, "innovatie", now=NOW + timedelta(days=700))
    pass_night(session, NOW + timedelta(days=704))
    row = session.scalars(select(Subscription)).one()
    assert (row.state, row.end_reason, row.ended_at) == (State.ENDED, EndReason.UNSUBSCRIBED, NOW)
    stays_until(session, Subscriber, NOW + keep("readers"))


def test_who_comes_back_in_time_stays(session: Session) -> None:
    saskia = reader(session, "innovatie")
    leaves(session, saskia, "innovatie", NOW)
    over = NOW + keep("readers") + SECOND
    signed_up(session, "innovatie", now=over - timedelta(hours=1))
    pass_night(session, over)
    assert count(session, Subscriber) == 1


def test_who_signs_up_at_this_very_moment_stays(app: flask.Flask) -> None:
    over = NOW + keep("readers") + timedelta(days=1)
    with db.transaction() as session:
        leaves(session, reader(session, "innovatie"), "innovatie", NOW)
        pass_night(session, NOW + keep("confirmed") + SECOND)
    with db.transaction() as session:
        signed_up(session, "innovatie", now=over)
        beside = races.Beside(app, lambda other: forgetting.readers(session=other, now=over))
        beside.start()
    assert beside.refusal() is None
    with db.transaction() as session:
        assert session.scalars(select(Subscription)).one().state is State.PENDING


def test_nobody_is_left_over_with_nothing(session: Session) -> None:
    """As when the last thing that was known of somebody was a letter."""
    make.reader(session, at=NOW)
    stays_until(session, Subscriber, NOW + confirmation.LIFE)


@tells("forms")
def test_a_form_that_nobody_took_goes(session: Session) -> None:
    make.theme(session)
    intake.ask(session=session, now=NOW, email=ADDRESS, slugs=["innovatie"], language="nl", network="198.51.100.0/24")
    stays_until(session, SignupRequest, NOW + keep("forms"))


@tells("unconfirmed")
def test_a_sign_up_that_nobody_confirms_leaves_no_trace(session: Session) -> None:
    signed_up(session, "innovatie")
    stays_until(session, Confirmation, NOW + keep("unconfirmed"))
    for model in (Subscriber, Subscription, Consent, ConsentCount):
        assert count(session, model) == 0


def test_one_by_who_had_left_leaves_no_trace_in_the_evidence(session: Session) -> None:
    """Twice asked, never confirmed: perhaps it was a stranger."""
    saskia = reader(session, "innovatie")
    leaves(session, saskia, "innovatie", NOW + timedelta(days=1))
    for days in (90, 91):
        signed_up(session, "innovatie", now=NOW + timedelta(days=days))
    assert count(session, Consent) == 5
    pass_night(session, NOW + timedelta(days=95))
    found = session.scalars(select(Consent).order_by(Consent.id))
    assert [one.event for one in found] == [ConsentEvent.REQUESTED, ConsentEvent.CONFIRMED, ConsentEvent.WITHDRAWN]


@tells("confirmed")
def test_that_the_button_was_pressed_is_known_for_thirty_days(session: Session) -> None:
    reader(session, "innovatie")
    stays_until(session, Confirmation, NOW + keep("confirmed"))
    assert count(session, Subscriber) == 1


@tells("attempts")
def test_marks_against_abuse_go(session: Session) -> None:
    throttle.note(session=session, kind=signup.MAILED, who=ADDRESS, now=NOW)
    stays_until(session, throttle.Attempt, NOW + keep("attempts"))


@tells("letters")
@pytest.mark.parametrize("kind", list(LetterKind))
def test_letters_about_own_data_go(session: Session, kind: LetterKind) -> None:
    saskia = reader(session, "innovatie")
    session.add(Letter(subscriber_id=saskia.id, kind=kind, language="nl", email="nieuw@gemeente.example", asked_at=NOW))
    stays_until(session, Letter, NOW + keep("letters"))


# --- addresses we may not mail ---


@tells("dead_addresses")
def test_the_mark_of_a_dead_address_goes(session: Session) -> None:
    addresses.suppress(session=session, now=NOW, email_key=ADDRESS, reason=SuppressionReason.HARD_BOUNCE)
    stays_until(session, Suppression, NOW + keep("dead_addresses"))


@tells("refusals")
@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINT, SuppressionReason.BLOCKED])
def test_a_no_is_kept_until_its_owner_takes_it_back(session: Session, reason: SuppressionReason) -> None:
    addresses.suppress(session=session, now=NOW, email_key=ADDRESS, reason=reason)
    pass_night(session, NOW + timedelta(days=10_000))
    assert addresses.suppressed(session=session, email_keys=[ADDRESS]) == {ADDRESS}

    if reason is SuppressionReason.COMPLAINT:
        reader(session, "innovatie")
    else:
        assert addresses.unblock(session=session, email_key=ADDRESS)
    assert count(session, Suppression) == 0


def test_a_no_of_an_address_that_was_dead_before_is_a_no(session: Session) -> None:
    """And a mailbox that is dead after its owner's "no" is that still."""
    for reason in (SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT, SuppressionReason.HARD_BOUNCE):
        addresses.suppress(session=session, now=NOW, email_key=ADDRESS, reason=reason)
    pass_night(session, NOW + timedelta(days=10_000))
    assert session.scalars(select(Suppression.reason)).all() == [SuppressionReason.COMPLAINT]


@tells("erasures")
def test_the_mark_of_an_erasure_lives_as_long_as_a_backup(session: Session) -> None:
    erasures.note(session=session, now=NOW, email_key=ADDRESS)
    stays_until(session, Erasure, NOW + keep("erasures"))


@tells("leavings")
def test_who_left_is_known_to_the_ledger_as_long_as_a_backup_knows_otherwise(session: Session) -> None:
    saskia = reader(session, "innovatie", "democratie")
    left = NOW + timedelta(days=1)
    leaves(session, saskia, "innovatie", left)
    over = left + keep("leavings")
    assert len(ledger.of(session=session, now=over).left) == 1
    assert ledger.of(session=session, now=over + SECOND).left == {}


@tells("backups")
def test_the_operator_is_told_when_to_throw_backups_away() -> None:
    assert keep("backups") == keep("erasures") == keep("leavings") == timedelta(days=365)
    assert "thrown away after a year at most" in " ".join((house.ROOT / "README.md").read_text().split())


# --- what names nobody ---


@tells("totals")
def test_totals_stay(session: Session) -> None:
    theme_id = make.theme(session).id
    session.add(ConsentCount(theme_id=theme_id, week="2006-W01", event=ConsentEvent.CONFIRMED, count=3))
    session.add(DeliveryCount(issue_id=1, kind="accepted", count=3))
    pass_night(session, NOW + timedelta(days=10_000))
    assert (count(session, ConsentCount), count(session, DeliveryCount)) == (1, 1)


@tells("report_counts")
def test_counts_of_mail_that_changes_nothing_go(session: Session) -> None:
    session.add(ReportCount(day=NOW.date(), sort="unknown", count=2))
    for days, left in ((0, 1), (1, 0)):
        pass_night(session, NOW + keep("report_counts") + timedelta(days=days))
        assert count(session, ReportCount) == left


@tells("logs")
def test_no_address_stands_in_a_log() -> None:
    """Of whatever is written there: tests/unit/test_logs.py."""
    assert logs.redact(f"550 5.1.1 <{ADDRESS}>: unknown") == "550 5.1.1 <[address]>: unknown"
    assert logs.redact("Invalid request from ip=203.0.113.77: x") == "Invalid request from ip=203.0.113.0/24: x"


@pytest.fixture
def box(app: flask.Flask, tmp_path: Path) -> Path:
    """Where a trial caught its mails."""
    settings.use(settings.current().model_copy(update={"data_dir": tmp_path}))
    folder = tmp_path / mailbox.FOLDER
    folder.mkdir()
    return folder


def catch(box: Path, at: datetime, ending: str = ".eml") -> Path:
    path = box / f"{int(at.timestamp()) * 10**9:020d}{ending}"
    path.write_bytes(f"To: {ADDRESS}\r\n\r\nx\r\n".encode())
    return path


@tells("caught")
def test_a_trial_keeps_its_newest_mails_and_not_for_long(box: Path, session: Session) -> None:
    """Also when it is over, and mail goes out. No more than so many: tests/integration/test_mailbox.py."""
    mails = [catch(box, NOW), catch(box, NOW - SECOND, ".half"), catch(box, NOW + timedelta(days=1))]
    (box / "notes.txt").write_text("an operator's own")
    pass_night(session, NOW + keep("caught"))
    assert [path.exists() for path in mails] == [True, False, True]
    pass_night(session, NOW + keep("caught") + SECOND)
    assert [path.exists() for path in mails] == [False, False, True]
    assert (box / "notes.txt").exists()
    assert mailbox.KEEP == 1000
    assert "1.000" in retention.row(line=line("caught"), language="nl").long
    assert line("caught") in retention.shown(trial=True)
    assert line("caught") not in retention.shown(trial=False)


def test_many_caught_mails_go_in_more_steps_than_one(box: Path, session: Session) -> None:
    for number in range(1001):
        catch(box, NOW + number * SECOND)
    over = NOW + keep("caught") + timedelta(days=1)
    steps = [retention.apply(session=session, now=over, line=line("caught")) for _ in range(3)]
    assert steps == [1000, 1, 0]


# --- issues ---


def sent(session: Session, at: datetime) -> Issue:
    issue = make.approved(session)
    issue.state, issue.cut_at, issue.finished_at, issue.audience = IssueState.SENT, at, at, 1
    session.flush()
    return issue


@tells("deliveries")
def test_who_got_an_issue_becomes_a_total(session: Session) -> None:
    issue = sent(session, NOW)
    session.add(Delivery(issue_id=issue.id, subscriber_id=7, outcome=Outcome.ACCEPTED, at=NOW, first_at=NOW))
    stays_until(session, Delivery, NOW + keep("deliveries"))
    assert books.of(session=session, issue_id=issue.id).accepted == 1


@tells("reports")
def test_whose_mail_came_back_becomes_a_total(session: Session) -> None:
    issue = sent(session, NOW)
    for number in (7, 8):
        session.add(Report(issue_id=issue.id, subscriber_id=number, kind=ReportKind.SOFT, at=NOW + timedelta(days=3)))
    pass_night(session, NOW + keep("reports"))
    assert count(session, Report) == 2
    pass_night(session, NOW + keep("reports") + SECOND)
    assert count(session, Report) == 0
    assert session.get_one(DeliveryCount, (issue.id, "soft")).count == 2

    session.add(Report(issue_id=issue.id, subscriber_id=9, kind=ReportKind.SOFT, at=NOW + timedelta(days=300)))
    pass_night(session, NOW + timedelta(days=300))
    assert session.get_one(DeliveryCount, (issue.id, "soft")).count == 3


# --- editors ---


def editor(session: Session) -> Editor:
    """One who may leave: somebody else is admin."""
    return editors.add(session=session, now=NOW, email=ADDRESS, name="Saskia", role=Role.CHIEF, password=PASSWORD)


@tells("editors")
def test_an_editor_who_left_is_forgotten_after_a_year_and_the_work_stays(session: Session) -> None:
    saskia = editor(session)
    item = make.item(session, author_id=saskia.id)
    issue = make.approved(session)
    issue.approved_by_id = saskia.id
    session.add(Notice(kind=NoticeKind.READY, editor_id=saskia.id, issue_id=issue.id, language="nl", created_at=NOW))
    editors.change_role(session=session, editor_id=saskia.id, role=Role.WRITER)
    pass_night(session, NOW + timedelta(days=10_000))
    assert count(session, Editor) == 1

    left = NOW + timedelta(days=10)
    editors.leave(session=session, now=left, editor_id=saskia.id)
    stays_until(session, Editor, left + keep("editors"))
    assert item.author is None
    assert issue.approved_by is None


def test_an_editor_who_left_and_is_invited_again_stays(session: Session) -> None:
    editors.leave(session=session, now=NOW, editor_id=editor(session).id)
    later = NOW + timedelta(days=360)
    editors.invite(session=session, now=later, email=ADDRESS, name="Saskia", role=Role.WRITER, language="nl")
    pass_night(session, NOW + keep("editors") + SECOND)
    assert count(session, Editor) == 1


@tells("invitations")
def test_who_never_came_is_forgotten(session: Session) -> None:
    editors.invite(session=session, now=NOW, email=ADDRESS, name="Saskia", role=Role.WRITER, language="nl")
    stays_until(session, Editor, NOW + keep("invitations"))


def test_who_wrote_here_and_is_to_choose_a_new_password_has_a_year_for_it(session: Session) -> None:
    saskia = editor(session)
    make.item(session, author_id=saskia.id)
    editors.reinvite(session=session, now=NOW, editor_id=saskia.id)
    stays_until(session, Editor, NOW + keep("editors"))


@tells("sessions")
def test_signed_in_browsers_go(session: Session) -> None:
    editor(session)
    sessions.sign_in(session=session, now=NOW, email=ADDRESS, password=PASSWORD, network="198.51.100.0/24")
    stays_until(session, EditorSession, NOW + keep("sessions"))


@tells("notices")
def test_mails_to_editors_go(session: Session) -> None:
    session.add(Notice(kind=NoticeKind.READY, editor_id=editor(session).id, language="nl", created_at=NOW))
    stays_until(session, Notice, NOW + keep("notices"))


def test_every_line_has_a_test_that_moves_the_clock() -> None:
    """A line that is added without one fails here."""
    assert {line.key for line in retention.TABLE} == TESTED
    assert len(retention.TABLE) == len(TESTED)


# What of a person stands in each table, by line; an empty set: nothing does.
OF_TABLES: dict[str, set[str]] = {
    "attempts": {"attempts"},
    "batches": {"deliveries"},
    "confirmations": {"unconfirmed", "confirmed"},
    "consent_counts": {"totals"},
    "consents": {"readers"},
    "deliveries": {"deliveries"},
    "delivery_counts": {"totals"},
    "editions": set(),
    "editor_sessions": {"sessions"},
    "editors": {"editors", "invitations"},
    "erasures": {"erasures"},
    "heartbeats": set(),
    "issues": {"editors"},
    "items": {"editors"},
    "letters": {"letters"},
    "notices": {"notices"},
    "placements": set(),
    "relays": set(),
    "report_counts": {"report_counts"},
    "reports": {"reports"},
    "senders": set(),
    "signup_requests": {"forms"},
    "subscribers": {"readers", "unconfirmed"},
    "subscriptions": {"readers", "unconfirmed"},
    "suppressions": {"dead_addresses", "refusals"},
    "themes": set(),
}
ELSEWHERE = {"backups", "leavings", "logs", "caught"}


def test_no_table_is_left_out(app: flask.Flask) -> None:
    """“This is all of it”, says the page. Who adds a table says here what of a person stands in it."""
    assert db.Base.metadata.tables.keys() == OF_TABLES.keys()
    assert {line.key for line in retention.TABLE} == set().union(*OF_TABLES.values(), ELSEWHERE)


def test_what_has_a_period_is_applied_and_says_it() -> None:
    others = {"backups", "leavings"}  # the operator's; made anew each time it is written (ledger.of)
    for one in retention.TABLE:
        assert (one.keep is None) == ("%(span)s" not in one.long), one.key
        assert (one.apply is not None) == (one.keep is not None and one.key not in others), one.key


# --- SQLite's write-ahead log ---


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """What the jobs take for now."""
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def in_files(app: flask.Flask) -> list[str]:
    """The files of SQLite's database in which the address can be read."""
    files = settings.current().data_dir.glob("vinkje.db*") if db.db.engine.dialect.name == "sqlite" else []
    return [path.name for path in files if ADDRESS.encode() in processes.bytes_of(path)]


def test_what_the_tick_expires_leaves_the_log_too(app: flask.Flask, clock: time_machine.Traveller) -> None:
    with db.transaction() as session:
        signed_up(session, "innovatie")
    clock.move_to(NOW + keep("unconfirmed") + SECOND)
    tasks.tick()
    with db.transaction() as session:
        assert count(session, Subscriber) == 0
    assert in_files(app) == []


def test_what_was_taken_out_by_day_leaves_the_log_at_night(app: flask.Flask, clock: time_machine.Traveller) -> None:
    """As a form of somebody whom we may not mail: it was taken, and nothing came of it."""
    with db.transaction() as session:
        make.theme(session)
        intake.ask(session=session, now=NOW, email=ADDRESS, slugs=["innovatie"], language="nl", network="n")
        addresses.suppress(session=session, now=NOW, email_key=ADDRESS, reason=SuppressionReason.BLOCKED)
        request_id = session.scalars(select(SignupRequest.id)).one()
    tasks.take_signup(request_id)
    with db.transaction() as session:
        assert count(session, SignupRequest) + count(session, Subscriber) == 0
    tasks.apply_retention()
    assert in_files(app) == []


# --- the night ---


def rung(bells: Bells) -> int:
    found = bells.count((jobs.APPLY_RETENTION, ()))
    bells.clear()
    return found


def test_the_tick_rings_once_a_night_after_three(
    app: flask.Flask, clock: time_machine.Traveller, doorbells: Bells
) -> None:
    tasks.tick()
    assert rung(doorbells) == 0  # a new house
    for day, hour, minute, times in (
        (25, 2, 59, 0),
        (25, 3, 0, 1),
        (25, 3, 1, 0),  # it may be under way
        (25, 3, 15, 1),  # nobody heard it
    ):
        clock.move_to(datetime(2026, 11, day, hour, minute, tzinfo=i18n.HERE))
        tasks.tick()
        assert rung(doorbells) == times, (day, hour, minute)
    tasks.apply_retention()
    for day, hour, times in ((25, 23, 0), (26, 2, 0), (29, 12, 1)):  # the machine was off for three nights
        clock.move_to(datetime(2026, 11, day, hour, tzinfo=i18n.HERE))
        tasks.tick()
        assert rung(doorbells) == times, (day, hour)


@pytest.mark.parametrize(
    ("moment", "three"),
    [
        ("2026-11-24T02:00:00+00:00", "2026-11-24T02:00:00+00:00"),
        ("2026-11-24T01:59:59+00:00", "2026-11-23T02:00:00+00:00"),
        ("2026-03-29T01:00:00+00:00", "2026-03-29T01:00:00+00:00"),  # the clock goes from two to three
        ("2026-10-25T01:30:00+00:00", "2026-10-24T01:00:00+00:00"),  # it is half past two for the second time
    ],
)
def test_three_o_clock_is_that_of_amsterdam(moment: str, three: str) -> None:
    assert night.last_three(datetime.fromisoformat(moment)) == datetime.fromisoformat(three)


def test_a_long_night_goes_on_in_another_job(
    app: flask.Flask, clock: time_machine.Traveller, doorbells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RETENTION_STEPS", 2)
    monkeypatch.setattr(forgetting, "STEP", 10)
    with db.transaction() as session:
        for number in range(35):
            erasures.note(session=session, now=NOW, email_key=f"lezer{number}@gemeente.example")
    clock.shift(keep("erasures") + timedelta(days=1))
    for left, again in ((15, 1), (0, 1), (0, 0)):
        tasks.apply_retention()
        with db.transaction() as session:
            assert count(session, Erasure) == left
            assert (heartbeat.last(session=session, name=night.DONE) is None) == bool(again)
        assert rung(doorbells) == again


def test_a_line_that_fails_stops_no_other_and_is_tried_again(
    app: flask.Flask, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> int:
        raise RuntimeError("no")

    with db.transaction() as session:
        erasures.note(session=session, now=NOW, email_key=ADDRESS)
    clock.shift(keep("erasures") + timedelta(days=1))
    table = retention.TABLE
    monkeypatch.setattr(retention, "TABLE", (dataclasses.replace(line("forms"), apply=broken), *table))
    tasks.apply_retention()
    with db.transaction() as session:
        assert count(session, Erasure) == 0
        assert heartbeat.last(session=session, name=night.DONE) is None
    monkeypatch.setattr(retention, "TABLE", table)
    tasks.apply_retention()
    with db.transaction() as session:
        assert heartbeat.last(session=session, name=night.DONE) == datetime.now(UTC)


def test_each_tick_applies_the_short_ones(app: flask.Flask, clock: time_machine.Traveller) -> None:
    with db.transaction() as session:
        signed_up(session, "innovatie")
    clock.shift(confirmation.LIFE + SECOND)
    tasks.tick()
    with db.transaction() as session:
        assert (count(session, Confirmation), count(session, Subscriber)) == (0, 0)
        assert count(session, throttle.Attempt) == 2
    clock.shift(throttle.KEEP)
    tasks.tick()
    with db.transaction() as session:
        assert count(session, throttle.Attempt) == 0


def test_two_nights_at_once_count_everything_once(
    app: flask.Flask, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STEP", 20)
    monkeypatch.setattr(forgetting, "STEP", 10)
    with db.transaction() as session:
        issue_id = sent(session, NOW).id
        for number in range(100):
            session.add(
                Delivery(issue_id=issue_id, subscriber_id=number, outcome=Outcome.ACCEPTED, at=NOW, first_at=NOW)
            )
        for number in range(40):
            one = make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=NOW)
            leaves(session, one, "innovatie", NOW)
    clock.shift(keep("readers") + timedelta(days=1))

    def work() -> None:
        with app.app_context():
            tasks.apply_retention()

    with ThreadPoolExecutor(3) as workers:
        for done in [workers.submit(work) for _ in range(3)]:
            done.result()
    with db.transaction() as session:
        assert (count(session, Delivery), count(session, Subscriber)) == (0, 0)
        assert session.get_one(DeliveryCount, (issue_id, "accepted")).count == 100
        assert session.scalar(select(func.sum(ConsentCount.count))) == 40
