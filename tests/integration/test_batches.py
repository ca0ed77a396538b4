"""Cutting, claiming, reading and recording: nobody twice, nobody missed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

import flask
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from service import db, errors, settings, themes
from service.delivery import batches, books, nudges, outcomes, recording, rounds
from service.delivery.models import Batch, BatchState, Delivery, Outcome
from service.delivery.outcomes import Reader, Result, Verdict
from service.issues.models import Issue, IssueState
from service.subscribers import address_change, addresses, unsubscribe
from service.subscribers.models import Channel, Letter, State, Subscriber, Subscription, SuppressionReason
from tests import make
from tests.make import NOW

pytestmark = pytest.mark.usefixtures("doorbells")
LEASE = timedelta(seconds=60)
SOON = NOW + timedelta(seconds=1)
LATER = NOW + timedelta(minutes=10)


def started(session: Session, readers: int, *, size: int = 4) -> Issue:
    """A round of `readers` that was cut NOW."""
    settings.use(settings.current().model_copy(update={"batch_size": size}))
    before = NOW - timedelta(days=1)
    for number in range(readers):
        make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=before)
    return rounds.start(session=session, now=NOW, issue_id=make.approved(session).id)


def ids(session: Session) -> list[int]:
    return list(session.scalars(select(Batch.id).order_by(Batch.first_id)))


def claim(session: Session, batch_id: int, now: datetime = SOON) -> batches.Claimed:
    claimed = batches.claim(session=session, now=now, batch_id=batch_id, lease=LEASE)
    assert claimed is not None
    return claimed


def result(reader: Reader, verdict: Verdict = Verdict.ACCEPTED, now: datetime = SOON) -> Result:
    return outcomes.result(reader=reader, verdict=verdict, status="", now=now)


def record(session: Session, claimed: batches.Claimed, *results: Result, now: datetime = SOON) -> IssueState:
    return recording.record(session=session, now=now, claimed=claimed, results=results, lease=LEASE)


def balanced(session: Session, issue: Issue) -> books.Books:
    session.expire_all()
    found = books.of(session=session, issue_id=issue.id)
    assert found.balance, found
    return found


def test_an_audience_is_cut_into_ranges_without_gap_or_overlap(session: Session) -> None:
    issue = started(session, 10, size=4)

    cut = session.scalars(select(Batch).order_by(Batch.first_id)).all()
    assert [batch.size for batch in cut] == [4, 4, 2]
    assert all(one.last_id < next_one.first_id for one, next_one in pairwise(cut))
    assert issue.audience == 10
    assert balanced(session, issue).waiting == 10


def test_the_audience_is_who_was_active_before_the_cut(session: Session) -> None:
    before = NOW - timedelta(days=1)
    make.reader(session, "vroeg@gemeente.example", "innovatie", at=before)
    make.reader(session, "ander-thema@gemeente.example", "democratie", at=before)
    for name, state in (("wacht", State.PENDING), ("weg", State.ENDED)):
        reader = make.reader(session, f"{name}@gemeente.example", "innovatie", at=before)
        session.execute(update(Subscription).where(Subscription.subscriber_id == reader.id).values(state=state))
    issue = rounds.start(session=session, now=NOW, issue_id=make.approved(session).id)
    late = themes.moment_of_consent(session=session, theme_id=issue.theme_id, now=NOW)
    make.reader(session, "net-te-laat@gemeente.example", "innovatie", at=late)

    (batch_id,) = ids(session)
    read = batches.read(session=session, now=SOON, claimed=claim(session, batch_id))
    assert [reader.email for reader in read] == ["vroeg@gemeente.example"]
    assert issue.audience == 1


def test_a_batch_is_claimed_once_until_its_lease_is_over(session: Session) -> None:
    started(session, 1)
    (batch_id,) = ids(session)
    first = claim(session, batch_id)

    assert batches.claim(session=session, now=SOON, batch_id=batch_id, lease=LEASE) is None
    second = claim(session, batch_id, now=SOON + LEASE)
    assert second.fence == first.fence + 1


@pytest.mark.parametrize("state", [IssueState.PAUSED, IssueState.CANCELLED])
def test_nothing_is_claimed_of_an_issue_that_does_not_go_out(session: Session, state: IssueState) -> None:
    issue = started(session, 1)
    issue.move(state)
    session.flush()

    (batch_id,) = ids(session)
    assert batches.claim(session=session, now=SOON, batch_id=batch_id, lease=LEASE) is None


def test_who_lost_the_lease_records_nothing(session: Session) -> None:
    issue = started(session, 2)
    (batch_id,) = ids(session)
    slow = claim(session, batch_id)
    readers = batches.read(session=session, now=SOON, claimed=slow)
    claim(session, batch_id, now=SOON + LEASE)

    with pytest.raises(errors.FenceLost):
        record(session, slow, *map(result, readers))
    for let_go in (
        lambda: batches.settle(session=session, claimed=slow, read_at=SOON),
        lambda: batches.release(session=session, now=SOON, claimed=slow, due_at=SOON),
    ):
        with pytest.raises(errors.FenceLost):
            let_go()
    assert session.scalar(select(func.count()).select_from(Delivery)) == 0
    assert balanced(session, issue).waiting == 2


def test_recording_prolongs_the_lease(session: Session) -> None:
    started(session, 1)
    (batch_id,) = ids(session)
    claimed = claim(session, batch_id)
    record(session, claimed, now=SOON + LEASE / 2)

    assert batches.claim(session=session, now=SOON + LEASE, batch_id=batch_id, lease=LEASE) is None


def test_who_has_the_mail_or_left_or_is_suppressed_is_not_read(session: Session) -> None:
    issue = started(session, 5, size=5)
    (batch_id,) = ids(session)
    claimed = claim(session, batch_id)
    has, left, suppressed, *rest = batches.read(session=session, now=SOON, claimed=claimed)
    record(session, claimed, result(has))
    unsubscribe.leave(
        session=session,
        now=SOON,
        subscriber_id=left.subscriber_id,
        theme_id=issue.theme_id,
        channel=Channel.ONE_CLICK,
    )
    addresses.suppress(session=session, now=SOON, email_key=suppressed.email_key, reason=SuppressionReason.COMPLAINT)

    assert batches.read(session=session, now=SOON, claimed=claimed) == rest
    record(session, claimed, *map(result, rest))
    assert batches.settle(session=session, claimed=claimed, read_at=SOON)
    assert rounds.finish(session=session, now=SOON, issue_id=issue.id).state is IssueState.SENT
    found = balanced(session, issue)
    assert (found.accepted, found.left, found.waiting) == (3, 2, 0)


def test_who_left_and_came_back_after_the_cut_is_not_read(session: Session) -> None:
    issue = started(session, 1)
    (batch_id,) = ids(session)
    again = themes.moment_of_consent(session=session, theme_id=issue.theme_id, now=NOW)
    session.execute(update(Subscription).values(confirmed_at=again))

    claimed = claim(session, batch_id)
    assert batches.read(session=session, now=SOON, claimed=claimed) == []
    assert batches.settle(session=session, claimed=claimed, read_at=SOON)
    assert balanced(session, issue).left == 1


def test_the_deferred_are_read_again_when_their_time_has_come(session: Session) -> None:
    issue = started(session, 3)
    (batch_id,) = ids(session)
    claimed = claim(session, batch_id)
    first, *others = batches.read(session=session, now=SOON, claimed=claimed)
    record(session, claimed, result(first, Verdict.LATER), *map(result, others))
    assert not batches.settle(session=session, claimed=claimed, read_at=SOON)
    assert balanced(session, issue).deferred == 1
    assert batches.claim(session=session, now=SOON + timedelta(minutes=4), batch_id=batch_id, lease=LEASE) is None

    claimed = claim(session, batch_id, now=LATER)
    (again,) = batches.read(session=session, now=LATER, claimed=claimed)
    assert (again.subscriber_id, again.attempts, again.first_at) == (first.subscriber_id, 1, SOON)
    record(session, claimed, result(again, now=LATER), now=LATER)
    assert batches.settle(session=session, claimed=claimed, read_at=LATER)
    delivery = session.get(Delivery, (issue.id, first.subscriber_id), populate_existing=True)
    assert delivery is not None
    assert (delivery.outcome, delivery.attempts, delivery.first_at) == (Outcome.ACCEPTED, 2, SOON)
    assert balanced(session, issue).accepted == 3


def test_the_deferred_who_leave_before_their_next_try_have_left(session: Session) -> None:
    issue = started(session, 1)
    (batch_id,) = ids(session)
    claimed = claim(session, batch_id)
    (reader,) = batches.read(session=session, now=SOON, claimed=claimed)
    record(session, claimed, result(reader, Verdict.LATER))
    batches.settle(session=session, claimed=claimed, read_at=SOON)
    unsubscribe.leave_all(
        session=session, now=SOON, subscriber_id=reader.subscriber_id, channel=Channel.UNSUBSCRIBE_PAGE
    )

    claimed = claim(session, batch_id, now=LATER)
    assert batches.read(session=session, now=LATER, claimed=claimed) == []
    assert batches.settle(session=session, claimed=claimed, read_at=LATER)
    found = balanced(session, issue)
    assert (found.left, found.deferred) == (1, 0)


def test_a_final_outcome_stays(session: Session) -> None:
    issue = started(session, 1)
    (batch_id,) = ids(session)
    claimed = claim(session, batch_id)
    (reader,) = batches.read(session=session, now=SOON, claimed=claimed)
    record(session, claimed, result(reader))
    record(session, claimed, result(reader, Verdict.DEAD))

    assert balanced(session, issue).accepted == 1


def test_a_hard_bounce_ends_every_theme_and_suppresses_the_address(session: Session) -> None:
    issue = started(session, 1)
    (batch_id,) = ids(session)
    claimed = claim(session, batch_id)
    (reader,) = batches.read(session=session, now=SOON, claimed=claimed)
    session.add(
        Subscription(
            theme_id=make.theme(session, "democratie").id,
            subscriber_id=reader.subscriber_id,
            state=State.ACTIVE,
            requested_at=NOW,
            confirmed_at=NOW,
        )
    )
    session.flush()
    record(session, claimed, result(reader, Verdict.DEAD))
    session.flush()

    held = session.scalars(select(Subscription).where(Subscription.subscriber_id == reader.subscriber_id)).all()
    assert {subscription.state for subscription in held} == {State.ENDED}
    assert addresses.suppressed(session=session, email_keys=[reader.email_key]) == {reader.email_key}
    assert balanced(session, issue).rejected == 1


def test_a_dead_address_says_nothing_of_the_one_that_took_its_place_meanwhile(session: Session) -> None:
    """The batch was read, its reader, whose old mailbox is being closed, pressed the button in the new one."""
    started(session, 1)
    claimed = claim(session, ids(session)[0])
    (reader,) = batches.read(session=session, now=SOON, claimed=claimed)
    new = "saskia@thuis.example"
    address_change.ask(session=session, now=SOON, subscriber_id=reader.subscriber_id, email=new)
    letter_id = session.scalars(select(Letter.id)).one()
    make.pressed(session, letter_id, now=SOON)

    record(session, claimed, result(reader, Verdict.DEAD))
    session.expire_all()
    assert session.scalars(select(Subscriber.email)).one() == new
    assert session.scalars(select(Subscription.state)).one() is State.ACTIVE
    assert addresses.suppressed(session=session, email_keys=[reader.email_key, new]) == {reader.email_key}


def test_the_sweep_finds_what_waits_and_what_a_dead_worker_held(
    session: Session, doorbells: list[tuple[str, tuple[int, ...]]]
) -> None:
    started(session, 8, size=4)
    held, waiting = ids(session)
    claim(session, held)
    quiet = timedelta(seconds=60)

    assert nudges.sweep(session=session, now=SOON, quiet=quiet) == 0  # both had their bell when the round started
    assert nudges.sweep(session=session, now=NOW + quiet, quiet=quiet) == 1
    assert nudges.sweep(session=session, now=SOON + LEASE, quiet=quiet) == 1
    session.commit()
    assert [args[0] for name, args in doorbells if name == "vinkje.send_batch"] == [held, waiting, waiting, held]


def test_of_many_workers_each_batch_is_claimed_by_one(app: flask.Flask) -> None:
    with db.transaction() as session:
        started(session, 30, size=1)
        wanted = ids(session)
    taken: list[int] = []

    def work(order: Callable[[list[int]], list[int]]) -> None:
        with app.app_context():
            for batch_id in order(wanted):
                with db.transaction() as session:
                    if batches.claim(session=session, now=SOON, batch_id=batch_id, lease=LEASE):
                        taken.append(batch_id)

    orders: list[Callable[[list[int]], list[int]]] = [list, lambda found: found[::-1], sorted, lambda found: found[15:]]
    workers = [threading.Thread(target=work, args=(order,)) for order in orders]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(taken) == wanted
    with db.transaction() as session:
        assert set(session.scalars(select(Batch.fence))) == {1}
        assert set(session.scalars(select(Batch.state))) == {BatchState.SENDING}


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_nobody_waits_for_a_batch_that_a_vanished_machine_holds(app: flask.Flask) -> None:
    with db.transaction() as session:
        started(session, 2)
        (batch_id,) = ids(session)
    with db.db.engine.connect() as vanished:
        vanished.execute(select(Batch.id).where(Batch.id == batch_id).with_for_update())
        with db.transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '2s'"))
            assert batches.claim(session=session, now=SOON, batch_id=batch_id, lease=LEASE) is None
        vanished.rollback()
    with db.transaction() as session:
        assert claim(session, batch_id).fence == 1
