"""A relay in trouble: every round waits with the reason, nobody is charged, and it goes on by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from service import db, jobs
from service.delivery import breaker, rounds
from service.delivery.models import Relay, Trouble
from service.issues.models import Issue, IssueState
from tests import fakes, make
from tests.integration.trips import Begin
from tests.make import NOW
from worker import steps

Doorbells = list[tuple[str, tuple[int, ...]]]
SECOND = timedelta(seconds=1)


def going(session: Session, *slugs: str) -> list[Issue]:
    """Rounds that are under way, each with one reader."""
    found = []
    for slug in slugs:
        make.reader(session, f"{slug}@gemeente.example", slug, at=NOW - timedelta(days=1))
        made = make.approved(session, slug)
        found.append(rounds.start(session=session, now=NOW, issue_id=made.id))
    return found


def trip(session: Session, trouble: Trouble = Trouble.DOWN, now: datetime = NOW, status: str = "") -> Relay:
    breaker.trip(session=session, now=now, trouble=trouble, status=status, text="no")
    session.expire_all()  # each worker has a unit of work of its own
    return breaker.look(session=session)


def still(session: Session, now: datetime, trouble: Trouble = Trouble.DOWN) -> Relay:
    breaker.still(session=session, now=now, trouble=trouble, status="421", text="not yet")
    return breaker.look(session=session)


def seen(session: Session, issues: list[Issue]) -> list[tuple[IssueState, str]]:
    session.expire_all()
    return [(issue.state, issue.note) for issue in issues]


def batches_rung(doorbells: Doorbells) -> int:
    return sum(name == jobs.SEND_BATCH for name, _ in doorbells)


# --- Trip and heal


def test_every_round_under_way_waits_with_the_reason(session: Session) -> None:
    issues = going(session, "zorg", "innovatie")
    held = make.approved(session, "wonen")
    row = trip(session, Trouble.LOGIN, status="535 5.7.8")

    assert seen(session, [*issues, held]) == [
        (IssueState.PAUSED, "relay_login"),
        (IssueState.PAUSED, "relay_login"),
        (IssueState.APPROVED, ""),
    ]
    assert (row.trouble, row.status, row.text, row.since) == (Trouble.LOGIN, "535 5.7.8", "no", NOW)


def test_the_first_word_counts_and_later_rounds_wait_for_the_same(session: Session) -> None:
    issues = going(session, "zorg")
    trip(session, Trouble.DOWN)
    issues += going(session, "innovatie")
    row = trip(session, Trouble.REFUSES, now=NOW + SECOND)

    assert row.trouble is Trouble.DOWN
    assert (row.since, row.probe_at) == (NOW, NOW + breaker.FIRST_PAUSE)
    assert seen(session, issues) == [(IssueState.PAUSED, "relay_down")] * 2


def test_what_the_relay_paused_goes_on_and_what_an_editor_paused_does_not(doorbells: Doorbells, begin: Begin) -> None:
    first = begin(1)
    with db.transaction() as session:
        [mine, theirs] = going(session, "zorg", "wonen")
        ids = [mine.id, theirs.id]
        rounds.pause(session=session, now=NOW, issue_id=theirs.id)
        trip(session)
    doorbells.clear()
    with db.transaction() as session:
        assert sorted(breaker.heal(session=session, now=NOW + SECOND)) == sorted([first.issue_id, ids[0]])
    with db.transaction() as session:
        issues = [session.get_one(Issue, number) for number in (first.issue_id, *ids)]
        assert seen(session, issues) == [
            (IssueState.SENDING, ""),
            (IssueState.SENDING, ""),
            (IssueState.PAUSED, ""),
        ]
        row = breaker.look(session=session)
        assert (row.trouble, row.status, row.text, row.probe_at) == (None, "", "", None)
    assert batches_rung(doorbells) == 2


def test_a_round_that_an_editor_pauses_while_it_waits_stays_paused(session: Session) -> None:
    issues = going(session, "zorg", "innovatie")
    trip(session)
    rounds.pause(session=session, now=NOW, issue_id=issues[0].id)
    assert breaker.heal(session=session, now=NOW + SECOND) == [issues[1].id]
    assert seen(session, issues) == [(IssueState.PAUSED, ""), (IssueState.SENDING, "")]


def test_an_editor_who_resumes_one_tries_all_now(session: Session) -> None:
    issues = going(session, "zorg", "innovatie")
    trip(session, Trouble.SLOW_DOWN)
    rounds.resume(session=session, now=NOW + SECOND, issue_id=issues[0].id)
    assert seen(session, issues) == [(IssueState.SENDING, "")] * 2
    assert not breaker.due(session=session, now=NOW + timedelta(hours=1))


def test_an_editor_who_resumes_their_own_pause_leaves_the_trouble_alone(session: Session) -> None:
    issues = going(session, "zorg", "innovatie")
    rounds.pause(session=session, now=NOW, issue_id=issues[0].id)
    row = trip(session)
    rounds.resume(session=session, now=NOW, issue_id=issues[0].id)
    assert seen(session, issues) == [(IssueState.SENDING, ""), (IssueState.PAUSED, "relay_down")]
    assert row.trouble is Trouble.DOWN


def test_a_cancelled_round_does_not_come_back(session: Session) -> None:
    issues = going(session, "zorg")
    trip(session)
    rounds.cancel(session=session, now=NOW, issue_id=issues[0].id)
    assert breaker.heal(session=session, now=NOW + SECOND) == []
    assert issues[0].state is IssueState.CANCELLED


# --- Pauses that grow


def test_it_is_tried_again_after_pauses_that_grow_to_five_minutes(session: Session) -> None:
    row, now = trip(session), NOW
    pauses = []
    for _ in range(10):
        assert row.probe_at is not None
        pauses.append((row.probe_at - now).total_seconds())
        assert not breaker.due(session=session, now=row.probe_at - SECOND / 1000)
        assert breaker.due(session=session, now=row.probe_at)
        now = row.probe_at
        row = still(session, now)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]


def test_trouble_that_comes_back_before_a_mail_was_taken_meets_a_longer_pause(session: Session) -> None:
    now, pauses = NOW, []
    for _ in range(8):
        row = trip(session, Trouble.REFUSES, now)
        assert row.probe_at is not None
        pauses.append((row.probe_at - now).total_seconds())
        now = row.probe_at
        breaker.heal(session=session, now=now)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]


def test_trouble_that_comes_back_after_a_day_is_no_trouble_to_us(session: Session) -> None:
    now = NOW
    trip(session, Trouble.DOWN)
    for _ in range(24 * 12):
        now += breaker.LONGEST_PAUSE
        still(session, now)
    breaker.heal(session=session, now=now)
    row = trip(session, Trouble.REFUSES, now)
    assert row.probe_at == now + breaker.LONGEST_PAUSE


def test_once_a_mail_was_taken_it_starts_anew(session: Session) -> None:
    for number in range(3):
        trip(session, Trouble.REFUSES, NOW + number * SECOND)
        breaker.heal(session=session, now=NOW + number * SECOND)
    breaker.accepted(session=session, now=NOW + 5 * SECOND)
    row = trip(session, Trouble.REFUSES, NOW + 6 * SECOND)
    assert row.probe_at == NOW + 6 * SECOND + breaker.FIRST_PAUSE


def test_a_relay_that_had_too_much_of_us_is_left_alone_for_ten_minutes(session: Session) -> None:
    row = trip(session, Trouble.SLOW_DOWN, status="421 4.7.28")
    assert row.probe_at == row.slowed_until == NOW + timedelta(minutes=10)


def test_a_probe_in_vain_tells_the_newest_reason(session: Session) -> None:
    issues = going(session, "zorg", "innovatie")
    trip(session, Trouble.DOWN)
    rounds.pause(session=session, now=NOW, issue_id=issues[1].id)
    row = still(session, NOW + SECOND, Trouble.LOGIN)
    assert (row.trouble, row.status, row.text, row.since) == (Trouble.LOGIN, "421", "not yet", NOW)
    assert seen(session, issues) == [(IssueState.PAUSED, "relay_login"), (IssueState.PAUSED, "")]


def test_a_probe_that_is_late_does_not_bring_trouble_back(session: Session) -> None:
    issues = going(session, "zorg")
    trip(session)
    breaker.heal(session=session, now=NOW)
    row = still(session, NOW + SECOND)
    assert (row.trouble, row.probe_at) == (None, None)
    assert seen(session, issues) == [(IssueState.SENDING, "")]


def test_it_knows_whether_the_relay_took_anything_lately(session: Session) -> None:
    assert not breaker.takes(session=session, now=NOW)
    breaker.accepted(session=session, now=NOW)
    assert breaker.takes(session=session, now=NOW + breaker.RECENT - SECOND)
    assert not breaker.takes(session=session, now=NOW + breaker.RECENT)


# --- The tick's probe, at a real relay


@pytest.fixture
def stand() -> Iterator[contextlib.ExitStack]:
    """For relays that must outlive a round's connections."""
    with contextlib.ExitStack() as opened:
        yield opened


def url(server: fakes.Relay, password: str) -> str:
    return f"smtp://vinkje:{password}@127.0.0.1:{server.port}?starttls=opportunistic"


def test_a_relay_that_is_down_and_comes_back(stand: contextlib.ExitStack, begin: Begin, doorbells: Doorbells) -> None:
    with fakes.Relay() as first:
        port = first.port
    gone = f"smtp://127.0.0.1:{port}"
    round_ = begin(2, smtp_url=gone)
    round_.connect(gone)
    assert round_.send().waiting == 2
    assert round_.issue().note == "relay_down"

    round_.probe(later=4 * SECOND)  # too early
    assert _row().probes == 0
    round_.probe(later=2 * SECOND)
    assert (_row().probes, round_.issue().state) == (1, IssueState.PAUSED)
    doorbells.clear()
    back = stand.enter_context(fakes.Relay(port=port))
    round_.probe(later=11 * SECOND)
    assert (round_.issue().state, round_.issue().note) == (IssueState.SENDING, "")
    assert batches_rung(doorbells) == 1
    assert (back.connections, back.caught) == (1, [])  # a probe is no mail
    assert round_.send().accepted == 2


def test_a_relay_that_refuses_to_log_us_in(stand: contextlib.ExitStack, begin: Begin) -> None:
    guarded = stand.enter_context(fakes.Relay(login=("vinkje", "geheim")))
    wrong = url(guarded, "fout")
    round_ = begin(2, smtp_url=wrong)
    round_.connect(wrong)
    assert round_.send().waiting == 2
    assert (round_.issue().note, _row().status[:3]) == ("relay_login", "535")

    round_.probe(later=6 * SECOND)
    assert (round_.issue().note, _row().probes) == ("relay_login", 1)
    round_.connect(url(guarded, "geheim"))
    round_.probe(later=11 * SECOND)
    assert round_.issue().state is IssueState.SENDING
    assert round_.send().accepted == 2


def test_a_relay_that_refuses_our_sender(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_mail = lambda who: "550 5.1.8 who are you"
    round_ = begin(2)
    assert round_.send().waiting == 2
    assert (round_.issue().note, _row().status) == ("relay_refuses", "550 5.1.8")

    round_.probe(later=6 * SECOND)
    row = _row()
    assert (row.trouble, row.probes, row.text) == (Trouble.REFUSES, 1, "5.1.8 who are you")
    relay.answer_mail = lambda who: "451 4.3.0 later"
    round_.probe(later=11 * SECOND)
    assert (round_.issue().note, _row().status) == ("relay_down", "451 4.3.0")
    relay.answer_mail = lambda who: None
    round_.probe(later=21 * SECOND)
    assert round_.issue().state is IssueState.SENDING
    assert round_.send().accepted == 2


def test_a_relay_that_has_no_room_is_not_asked_again_and_again(begin: Begin, relay: fakes.Relay) -> None:
    asked: list[str] = []
    relay.answer_mail = lambda who: asked.append(who) or "452 4.3.1 no room"  # type: ignore[func-returns-value]
    round_ = begin(200, connections=4)
    assert round_.send().waiting == 200
    assert (round_.issue().note, _row().status) == ("relay_down", "452 4.3.1")
    assert len(asked) < 30

    round_.probe(later=6 * SECOND)
    assert round_.issue().note == "relay_down"
    relay.answer_mail = lambda who: None
    round_.probe(later=11 * SECOND)
    assert round_.send().accepted == 200


def test_a_relay_that_refuses_every_mail_is_tried_with_longer_and_longer_pauses(
    begin: Begin, relay: fakes.Relay
) -> None:
    relay.answer_rcpt = lambda to: "550 5.7.1 we don't like your domain"
    round_ = begin(3)
    pauses = []
    for _ in range(3):
        assert round_.send().waiting == 3
        row = _row()
        assert row.probe_at is not None
        pauses.append(round((row.probe_at - round_.now).total_seconds()))
        round_.probe(later=row.probe_at - round_.now)
        assert round_.issue().state is IssueState.SENDING  # a probe can't tell
    assert pauses == [5, 10, 20]

    relay.answer_rcpt = lambda to: None
    assert round_.send().accepted == 3


def test_the_tick_rings_for_a_probe_when_it_is_time(begin: Begin, relay: fakes.Relay, doorbells: Doorbells) -> None:
    begin(1)
    with db.transaction() as session:
        steps.probe(session, NOW)
        trip(session)
        steps.probe(session, NOW + breaker.FIRST_PAUSE - SECOND)
    assert (jobs.PROBE_RELAY, ()) not in doorbells
    with db.transaction() as session:
        steps.probe(session, NOW + breaker.FIRST_PAUSE)
    assert doorbells.count((jobs.PROBE_RELAY, ())) == 1


def test_without_trouble_a_probe_asks_nothing_of_the_relay(begin: Begin, relay: fakes.Relay) -> None:
    begin(1).probe(later=timedelta(hours=1))
    assert relay.connections == 0


def _row() -> Relay:
    with db.transaction() as session:
        found = breaker.look(session=session)
        session.expunge_all()
    return found
