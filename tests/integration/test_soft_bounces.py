"""A relay that refuses a mailbox itself, issue after issue: no report ever tells, so the night counts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import time_machine
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service import db, jobs
from service.delivery import rounds, soft_bounces, unreachable
from service.delivery.models import Delivery, Outcome, Report, ReportKind
from service.issues.models import IssueState
from service.privacy import folding
from service.subscribers import addresses
from service.subscribers.models import Channel, Consent, ConsentEvent, State, Subscriber, Subscription
from tests import fakes, make
from tests.integration.trips import BUSY, FULL, Begin, Round, address, everybody, got
from tests.make import NOW
from worker import tasks

WEEK = timedelta(weeks=1)
AWAY = "450 4.4.1 no answer from that server"


def go_out(trip: Round, week: int) -> None:
    """The issue of that week, to its end: a mailbox that is busy is tried for two days."""
    if week:
        trip.now = NOW + week * WEEK
        with db.transaction() as session:
            issue = make.approved(session, now=trip.now)
            trip.issue_id = rounds.start(session=session, now=trip.now, issue_id=issue.id).id
    trip.send()
    while trip.books().deferred:
        trip.send(later=timedelta(hours=4))


def night(after: datetime) -> None:
    with time_machine.travel(after + timedelta(days=1), tick=False):
        tasks.end_unreachable(0)


def readers() -> list[str]:
    with db.transaction() as session:
        active = select(Subscription.subscriber_id).where(Subscription.state == State.ACTIVE)
        return sorted(session.scalars(select(Subscriber.email).where(Subscriber.id.in_(active))))


def test_whom_the_relay_refuses_at_four_issues_over_three_weeks_is_mailed_no_more(
    begin: Begin, relay: fakes.Relay
) -> None:
    full, away, better, bounced = map(address, range(4))
    trip = begin(20)
    for week in range(4):
        good_week = {better} if week == 2 else set()
        relay.answer_rcpt = {
            to: answer
            for to, answer in ((full, FULL), (away, AWAY), (better, FULL), (bounced, FULL if week else None))
            if answer and to not in good_week
        }.get
        if week == 0:
            with db.transaction() as session:  # the relay took the first one, and it came back
                number = session.scalars(select(Subscriber.id).where(Subscriber.email == bounced)).one()
                session.add(
                    Report(issue_id=trip.issue_id, subscriber_id=number, kind=ReportKind.SOFT, status="5.2.2", at=NOW)
                )
        assert readers() == sorted(everybody(20))
        go_out(trip, week)
        night(trip.now)

    assert readers() == sorted(set(everybody(20)) - {full, away, bounced})
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=everybody(20)) == {full, away, bounced}
        evidence = session.execute(select(Consent.event, Consent.channel)).all()
        assert evidence == [(ConsentEvent.BOUNCED, Channel.RELAY)] * 3
    relay.caught.clear()
    relay.answer_rcpt = lambda to: None
    go_out(trip, 4)
    assert got(relay) == sorted(set(everybody(20)) - {full, away, bounced})


@pytest.mark.parametrize("answer", [FULL, BUSY])
def test_a_relay_that_refuses_a_great_part_of_an_issue_says_nothing_about_its_readers(
    begin: Begin, relay: fakes.Relay, answer: str
) -> None:
    """Its own disk is full, or it takes no more of us in a day."""
    refused = everybody(10)[:3]
    relay.answer_rcpt = lambda to: answer if to in refused else None
    trip = begin(10)
    for week in range(5):
        go_out(trip, week)
        night(trip.now)
    assert len(readers()) == 10


def test_a_round_that_goes_out_still_is_weighed_by_what_the_relay_said_so_far(session: Session) -> None:
    """Of four hundred it refused all of the first sixty: that is more than a quarter."""
    issue = make.approved(session)
    issue.state, issue.cut_at, issue.audience = IssueState.SENDING, NOW, 400

    def answer(readers: range, outcome: Outcome, status: str) -> None:
        common = {"issue_id": issue.id, "outcome": outcome, "status": status, "at": NOW, "first_at": NOW}
        session.execute(insert(Delivery), [{"subscriber_id": number, **common} for number in readers])

    answer(range(1, 61), Outcome.REJECTED, "552 5.2.2")
    assert soft_bounces.tell(session=session, issue_ids=[issue.id]) == set()
    answer(range(61, 241), Outcome.ACCEPTED, "250")
    assert soft_bounces.tell(session=session, issue_ids=[issue.id]) == {issue.id}


def test_the_tick_rings_for_it_by_night_and_it_goes_on_until_all_were_asked_for(
    begin: Begin, relay: fakes.Relay, doorbells: list[tuple[str, tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreachable, "STEP", 2)
    relay.answer_rcpt = dict.fromkeys(everybody(5), FULL).get
    trip = begin(20)
    for week in range(4):
        go_out(trip, week)
    with time_machine.travel(trip.now, tick=False) as clock:
        tasks.tick()  # a new house begins with the next night
        doorbells.clear()
        clock.shift(timedelta(days=1))
        tasks.tick()
        rung = [args for name, args in doorbells if name == jobs.END_UNREACHABLE]
        assert rung == [(0,)]
        clock.shift(timedelta(hours=1))
        tasks.tick()  # the table isn't done yet: it is rung for again, and this is not
        assert [name for name, _ in doorbells].count(jobs.APPLY_RETENTION) == 2
        assert [args for name, args in doorbells if name == jobs.END_UNREACHABLE] == rung
        steps = 0
        while rung:
            doorbells.clear()
            tasks.end_unreachable(*rung.pop())
            rung = [args for name, args in doorbells if name == jobs.END_UNREACHABLE]
            steps += 1
    assert steps == 3
    assert readers() == sorted(set(everybody(20)) - set(everybody(5)))


def test_what_is_kept_of_an_issue_is_as_much_as_is_looked_back_on() -> None:
    assert folding.KEEP == soft_bounces.LOOK_BACK
