"""How a round goes, as its watchers are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from service import errors, i18n, settings
from service.delivery import batches, breaker, limits, progress, recording, rounds, steer
from service.delivery.models import Batch, BatchState, Outcome, Trouble
from service.delivery.outcomes import Result
from service.issues.models import Issue, IssueState
from tests import make
from tests.make import NOW

LEASE = timedelta(seconds=60)
SOON = NOW + timedelta(seconds=10)


@pytest.fixture(autouse=True)
def _bells(doorbells: object) -> object:
    return doorbells


def going_out(session: Session, readers: int = 30, batch: int = 10) -> Issue:
    before = settings.current()
    settings.use(before.model_copy(update={"batch_size": batch}))
    for number in range(readers):
        make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=NOW - timedelta(days=1))
    issue = rounds.start(session=session, now=NOW, issue_id=make.approved(session).id)
    settings.use(before)
    return issue


def batch_ids(session: Session) -> list[int]:
    return list(session.scalars(select(Batch.id).order_by(Batch.id)))


def recorded(session: Session, batch_id: int, count: int, state: BatchState = BatchState.SENDING) -> None:
    session.execute(update(Batch).where(Batch.id == batch_id).values(recorded=count, state=state))


def sends(session: Session, name: str, issue_id: int | None, rate: float, ago: int = 0) -> None:
    seen = SOON - timedelta(seconds=ago)
    limits.report(session=session, now=seen, name=name, issue_id=issue_id, connections=5, rate=rate)


def look(session: Session, issue: Issue, *, counted: bool = True) -> progress.Progress:
    return progress.of(session=session, now=SOON, issue_id=issue.id, counted=counted)


def test_before_the_start_there_is_nothing_to_see(session: Session) -> None:
    found = look(session, make.approved(session))
    assert (found.state, found.audience, found.done, found.over) == (IssueState.APPROVED, 0, 0, False)
    assert (found.rate, found.seconds_left, found.workers, found.connections) == (0, None, 0, 0)
    with pytest.raises(errors.NotFound):
        progress.of(session=session, now=SOON, issue_id=4711)


def test_the_bar_counts_who_had_their_turn(session: Session) -> None:
    issue = going_out(session)
    first, second, third = batch_ids(session)
    recorded(session, first, 8, BatchState.DONE)  # two had left
    recorded(session, second, 4)
    recorded(session, third, 13)  # some were deferred and tried again
    found = look(session, issue)
    assert (found.done, found.audience) == (24, 30)


def test_the_books_are_counted_or_left_out(session: Session) -> None:
    issue = going_out(session, readers=3)
    claimed = batches.claim(session=session, now=NOW, batch_id=batch_ids(session)[0], lease=LEASE)
    assert claimed is not None
    readers = batches.read(session=session, now=NOW, claimed=claimed)
    results = [Result(reader, Outcome.ACCEPTED, NOW, "250 2.0.0") for reader in readers[:2]]
    recording.record(session=session, now=NOW, claimed=claimed, results=results, lease=LEASE)
    found = look(session, issue).books
    assert found is not None
    assert (found.accepted, found.waiting, found.balance) == (2, 1, True)
    assert look(session, issue, counted=False).books is None


def test_a_look_without_the_books_asks_little_of_the_database(session: Session) -> None:
    """Whatever the number of readers: no delivery is read."""
    issue = going_out(session)
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(given[2])

    event.listen(session.get_bind(), "before_cursor_execute", note)
    look(session, issue, counted=False)
    event.remove(session.get_bind(), "before_cursor_execute", note)
    assert 0 < len(asked) <= 5
    assert not [statement for statement in asked if "deliveries" in statement]


def test_rate_and_time_left_are_of_the_workers_that_send_this_issue(session: Session) -> None:
    issue = going_out(session)
    sends(session, "one", issue.id, 2.5)
    sends(session, "two", issue.id, 1.5, ago=3)
    sends(session, "died", issue.id, 100.0, ago=6)
    sends(session, "elsewhere", issue.id + 1, 100.0)
    sends(session, "idle", None, 0.0)
    recorded(session, batch_ids(session)[0], 3)
    found = look(session, issue)
    assert (found.rate, found.workers, found.connections) == (4.0, 2, 10)
    assert found.seconds_left == 7  # 27 at 4 a second
    assert (found.relay.workers, found.relay.connections, found.relay.rate) == (4, 20, 104.0)


@pytest.mark.parametrize(("measured", "told"), [(59.0, 59.0), (63.0, 60.0), (66.0, 60.0), (90.0, 90.0)])
def test_a_pace_is_above_the_limit_only_when_that_was_seen(session: Session, measured: float, told: float) -> None:
    """Of 63 nobody can say that it wasn't 60; 90 was seen, while the limit is being lowered."""
    issue = going_out(session)
    limits.change(session=session, now=NOW, connections=None, rate=60.0)
    for name in ("one", "two"):
        sends(session, name, issue.id, measured / 2)
    assert (look(session, issue).rate, look(session, issue).relay.rate) == (told, told)


def test_time_left_is_unknown_when_nothing_moves(session: Session) -> None:
    issue = going_out(session)
    assert look(session, issue).seconds_left is None  # nobody sends
    sends(session, "one", issue.id, 0.0)
    assert look(session, issue).seconds_left is None
    sends(session, "one", issue.id, 3.0)
    assert look(session, issue).seconds_left == 10
    rounds.pause(session=session, now=NOW, issue_id=issue.id)
    session.flush()
    assert look(session, issue).seconds_left is None
    rounds.resume(session=session, now=NOW, issue_id=issue.id)
    for batch_id in batch_ids(session):
        recorded(session, batch_id, 10)
    assert look(session, issue).seconds_left is None  # who is deferred comes later


@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_round_that_waits_for_the_relay_says_why_and_until_when(session: Session, trouble: Trouble) -> None:
    issue = going_out(session)
    breaker.trip(session=session, now=NOW, trouble=trouble, status="421 4.7.28", text="4.7.28 slow down")
    found = look(session, issue)
    assert (found.state, found.waits_for, found.relay.trouble) == (IssueState.PAUSED, trouble, trouble)
    assert (found.relay.heard, found.relay.since) == ("421 4.7.28 slow down", NOW)
    pause = breaker.SLOW_DOWN if trouble is Trouble.SLOW_DOWN else breaker.FIRST_PAUSE
    assert found.next_try == NOW + pause
    for language in i18n.LANGUAGES:
        why = i18n.gettext(language, progress.WHY[trouble])
        then = i18n.gettext(language, progress.AND_THEN[trouble], hour="10:32")
        assert why.endswith(".")
        assert "10:32" in then
        assert (why == progress.WHY[trouble]) == (language == "en")

    breaker.heal(session=session, now=SOON)
    found = look(session, issue)
    assert (found.state, found.waits_for, found.next_try) == (IssueState.SENDING, None, None)


def test_a_round_that_an_editor_paused_waits_for_nobody_else(session: Session) -> None:
    issue = going_out(session)
    rounds.pause(session=session, now=NOW, issue_id=issue.id)
    breaker.trip(session=session, now=NOW, trouble=Trouble.DOWN)
    found = look(session, issue)
    assert (found.waits_for, found.next_try) == (None, None)
    assert found.relay.trouble is Trouble.DOWN


def test_what_an_operator_typed_becomes_a_limit(session: Session) -> None:
    chosen = settings.current()
    assert steer.change(session=session, now=NOW, connections=" 12 ", rate="2,5") == limits.Limits(12, 2.5)
    assert steer.change(session=session, now=NOW, rate="") == limits.Limits(12, chosen.relay_rate)
    found = progress.relay(session=session, now=NOW)
    assert (found.own_connections, found.own_rate, found.limits.connections) == (12, None, 12)
    with pytest.raises(errors.Refused) as refused:
        steer.change(session=session, now=NOW, connections="5", rate="1.000")
    assert refused.value.field == "rate"
    assert progress.relay(session=session, now=NOW).limits.connections == 12


def test_a_relay_that_had_too_much_gets_its_connections_back_one_by_one(session: Session) -> None:
    steer.change(session=session, now=NOW, connections="3")
    breaker.trip(session=session, now=NOW, trouble=Trouble.SLOW_DOWN)
    again = NOW + breaker.SLOW_DOWN
    breaker.heal(session=session, now=again)
    for later, allowed in ((0, 1), (1, 2), (2, 3), (9, 3)):
        now = again + later * limits.ONE_MORE
        found = progress.relay(session=session, now=now)
        share = limits.report(session=session, now=now, name="one", issue_id=None, connections=0, rate=0.0)
        assert (found.allowed, found.limits.connections) == (allowed, 3)
        assert found.allowed == share.connections  # what the only worker is told
