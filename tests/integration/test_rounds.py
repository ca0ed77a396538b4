"""Starting, pausing, resuming and cancelling a round, and the tick that looks after all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import flask
import pytest
import time_machine
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors, heartbeat, jobs
from service.delivery import batches, books, rounds
from service.delivery.models import Batch
from service.issues import rota
from service.issues.models import Issue, IssueState, find
from service.newsroom.models import Item, ItemState
from service.subscribers.models import Confirmation
from tests import make
from tests.make import NOW
from worker import steps, tasks

Bells = list[tuple[str, tuple[int, ...]]]
BEFORE = NOW - timedelta(days=1)
LEASE = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def bells(doorbells: Bells) -> Bells:
    return doorbells


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """What the jobs take for now; it stands still at NOW until it is moved."""
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def approved(session: Session, readers: int = 2) -> Issue:
    for number in range(readers):
        make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=BEFORE)
    return make.approved(session)


def item_states(session: Session) -> set[ItemState]:
    return set(session.scalars(select(Item.state)))


def test_a_round_without_readers_is_sent_at_once(session: Session) -> None:
    issue = rounds.start(session=session, now=NOW, issue_id=approved(session, readers=0).id)

    assert (issue.state, issue.audience, issue.finished_at) == (IssueState.SENT, 0, NOW)
    assert books.of(session=session, issue_id=issue.id).balance


def test_a_round_starts_once(session: Session) -> None:
    issue = approved(session)
    rounds.start(session=session, now=NOW, issue_id=issue.id)

    with pytest.raises(errors.Conflict):
        rounds.start(session=session, now=NOW, issue_id=issue.id)
    assert len(session.scalars(select(Batch)).all()) == 1


def test_a_held_issue_goes_out_on_an_editors_word(session: Session, bells: Bells) -> None:
    issue = approved(session)
    late = NOW + timedelta(hours=7)
    assert rota.hold_missed(session=session, now=late) == 1
    assert rota.due_to_start(session=session, now=late) == []

    rounds.send_now(session=session, now=late, issue_id=issue.id)
    session.flush()
    assert rota.due_to_start(session=session, now=late) == [issue.id]
    session.commit()
    assert (jobs.START_ROUND, (issue.id,)) in bells


def test_pause_and_resume(session: Session, bells: Bells) -> None:
    issue = rounds.start(session=session, now=NOW, issue_id=approved(session).id)
    rounds.pause(session=session, now=NOW, issue_id=issue.id)
    with pytest.raises(errors.Conflict):
        rounds.pause(session=session, now=NOW, issue_id=issue.id)
    session.commit()
    bells.clear()

    rounds.resume(session=session, now=NOW, issue_id=issue.id)
    session.commit()
    assert issue.state is IssueState.SENDING
    assert [name for name, _ in bells] == [jobs.SEND_BATCH]
    with pytest.raises(errors.Conflict):
        rounds.resume(session=session, now=NOW, issue_id=issue.id)


def test_a_round_whose_last_batch_was_done_while_it_was_paused_ends_at_resume(session: Session) -> None:
    issue = rounds.start(session=session, now=NOW, issue_id=approved(session).id)
    rounds.pause(session=session, now=NOW, issue_id=issue.id)
    session.execute(Batch.__table__.update().values(state="done", left_count=2))  # type: ignore[attr-defined]

    assert rounds.finish(session=session, now=NOW, issue_id=issue.id).state is IssueState.PAUSED
    assert rounds.resume(session=session, now=NOW, issue_id=issue.id).state is IssueState.SENT


def test_a_cancelled_plan_gives_its_items_back(session: Session) -> None:
    issue = approved(session)
    assert item_states(session) == {ItemState.PLACED}

    rounds.cancel(session=session, now=NOW, issue_id=issue.id)
    assert (issue.state, issue.placements) == (IssueState.CANCELLED, [])
    assert item_states(session) == {ItemState.PUBLISHED}


def test_a_cancelled_round_keeps_its_items_when_a_mail_may_have_gone_out(session: Session) -> None:
    issue = rounds.start(session=session, now=NOW, issue_id=approved(session).id)
    batch_id = session.scalars(select(Batch.id)).one()
    batches.claim(session=session, now=NOW, batch_id=batch_id, lease=LEASE)

    rounds.cancel(session=session, now=NOW, issue_id=issue.id)
    assert item_states(session) == {ItemState.PLACED}
    found = books.of(session=session, issue_id=issue.id)
    assert (found.waiting, found.balance) == (2, True)


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_who_cancels_while_a_batch_is_claimed_frees_no_item_that_goes_out(app: flask.Flask) -> None:
    """On SQLite writers go one after the other."""
    with db.transaction() as session:
        issue_id = rounds.start(session=session, now=NOW, issue_id=approved(session).id).id
        batch_id = session.scalars(select(Batch.id)).one()
    begun = threading.Event()

    def cancel() -> None:
        with app.app_context(), db.transaction() as session:
            begun.set()
            rounds.cancel(session=session, now=NOW, issue_id=issue_id)

    canceller = threading.Thread(target=cancel)
    with db.transaction() as session:
        claimed = batches.claim(session=session, now=NOW, batch_id=batch_id, lease=LEASE)
        canceller.start()
        assert begun.wait(20)
        canceller.join(0.5)
        assert canceller.is_alive()  # it waits for what we hold
    canceller.join(20)

    assert claimed is not None
    with db.transaction() as session:
        assert find(session=session, issue_id=issue_id).state is IssueState.CANCELLED
        assert item_states(session) == {ItemState.PLACED}


def test_a_round_that_is_cancelled_before_any_mail_gives_its_items_back(session: Session) -> None:
    issue = rounds.start(session=session, now=NOW, issue_id=approved(session).id)

    rounds.cancel(session=session, now=NOW, issue_id=issue.id)
    assert item_states(session) == {ItemState.PUBLISHED}


@pytest.mark.parametrize("act", [rounds.pause, rounds.resume, rounds.cancel, rounds.send_now])
def test_what_was_sent_cannot_be_called_back(session: Session, act: object) -> None:
    issue = rounds.start(session=session, now=NOW, issue_id=approved(session, readers=0).id)
    assert callable(act)
    with pytest.raises(errors.Conflict):
        act(session=session, now=NOW, issue_id=issue.id)


def commit_issue(readers: int = 2) -> int:
    with db.transaction() as session:
        return approved(session, readers).id


def state(issue_id: int) -> IssueState:
    with db.transaction() as session:
        return find(session=session, issue_id=issue_id).state


def test_the_tick_starts_a_round_at_its_hour_and_an_old_bell_starts_nothing(
    app: flask.Flask, clock: time_machine.Traveller, bells: Bells
) -> None:
    issue_id = commit_issue()
    bells.clear()
    clock.move_to(NOW - timedelta(seconds=1))
    tasks.tick()
    tasks.start_round(issue_id)
    assert (jobs.START_ROUND, (issue_id,)) not in bells
    assert state(issue_id) is IssueState.APPROVED

    clock.move_to(NOW)
    tasks.tick()
    assert (jobs.START_ROUND, (issue_id,)) in bells
    tasks.start_round(issue_id)
    tasks.start_round(issue_id)
    assert state(issue_id) is IssueState.SENDING


def test_after_a_day_off_the_tick_holds_what_it_missed(
    app: flask.Flask, clock: time_machine.Traveller, bells: Bells
) -> None:
    issue_id = commit_issue()
    bells.clear()
    clock.move_to(NOW + timedelta(days=1))
    tasks.tick()
    tasks.start_round(issue_id)

    assert state(issue_id) is IssueState.APPROVED
    assert bells == []
    with db.transaction() as session:
        assert find(session=session, issue_id=issue_id).held_since == NOW + timedelta(days=1)


def test_after_an_hour_off_the_tick_catches_up(app: flask.Flask, clock: time_machine.Traveller, bells: Bells) -> None:
    issue_id = commit_issue()
    clock.move_to(NOW + timedelta(hours=5, minutes=59))
    tasks.tick()
    assert (jobs.START_ROUND, (issue_id,)) in bells
    tasks.start_round(issue_id)
    assert state(issue_id) is IssueState.SENDING


def test_after_a_day_off_the_tick_finds_batches_and_mails_that_nobody_rings_for(
    app: flask.Flask, clock: time_machine.Traveller, bells: Bells
) -> None:
    issue_id = commit_issue()
    tasks.start_round(issue_id)
    with db.transaction() as session:
        batch_id = session.scalars(select(Batch.id)).one()
        reader = make.reader(session, "nieuw@gemeente.example", at=NOW)
        asked = Confirmation(
            subscriber_id=reader.id,
            language="nl",
            theme_ids=[make.theme(session).id],
            requested_at=NOW,
            due_at=NOW,
        )
        session.add(asked)
        session.flush()
        asked_id = asked.id
    bells.clear()  # as when Redis was emptied

    clock.move_to(NOW + timedelta(days=1))
    tasks.tick()
    assert set(bells) == {(jobs.SEND_BATCH, (batch_id,)), (jobs.SEND_CONFIRMATION, (asked_id,))}
    bells.clear()
    tasks.tick()
    assert (jobs.SEND_BATCH, (batch_id,)) not in bells  # it was nudged just now


def test_the_tick_ends_a_round_whose_worker_died_at_the_very_end(
    app: flask.Flask, clock: time_machine.Traveller
) -> None:
    issue_id = commit_issue()
    tasks.start_round(issue_id)
    with db.transaction() as session:
        session.execute(Batch.__table__.update().values(state="done", left_count=2))  # type: ignore[attr-defined]
    tasks.tick()

    assert state(issue_id) is IssueState.SENT


def test_two_beats_at_once_do_no_harm(app: flask.Flask, clock: time_machine.Traveller, bells: Bells) -> None:
    issue_id = commit_issue(readers=3)
    failed: list[BaseException] = []

    def beat() -> None:
        try:
            with app.app_context():
                for _ in range(5):
                    tasks.tick()
                    tasks.start_round(issue_id)
        except BaseException as fault:  # a thread's fault is nobody's otherwise
            failed.append(fault)

    beats = [threading.Thread(target=beat) for _ in range(2)]
    for one in beats:
        one.start()
    for one in beats:
        one.join()

    assert not failed
    with db.transaction() as session:
        found = books.of(session=session, issue_id=issue_id)
        assert (found.audience, found.waiting, found.balance) == (3, 3, True)
        assert len(session.scalars(select(Batch)).all()) == 1
        assert heartbeat.last(session=session) == NOW


def test_a_step_that_fails_does_not_stop_the_clock(
    app: flask.Flask, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(session: Session, now: datetime) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(steps, "STEPS", (broken, *steps.STEPS))
    tasks.tick()
    with db.transaction() as session:
        assert heartbeat.last(session=session) == datetime.now(UTC)
