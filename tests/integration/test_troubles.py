"""A relay that refuses us or breaks the line: whom is it about? (requirements 1.9, 1.10)"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from service import db
from service.delivery import rounds
from service.delivery.models import Batch, BatchState, Delivery, Outcome
from service.issues.models import IssueState
from tests import fakes
from tests.integration.trips import BUSY, OURS, Begin, Round, address, everybody, got
from worker import sender

GO_AWAY = "421 4.7.0 go away"
SOON = timedelta(minutes=6)


def strange(count: int, *, first: int = 0) -> Callable[[int], str]:
    """Names of which `count` are of a domain that isn't the others'; those number by number elsewhere."""

    def name(number: int) -> str:
        if first <= number < first + count:
            return f"lezer{number}@streng.example"
        return f"lezer{number}@gemeente{number % 7}.example"

    return name


def at(domain: str, answer: str) -> Callable[[str], str | None]:
    return lambda to: answer if to.endswith(f"@{domain}") else None


def why_paused(trip: Round) -> str:
    issue = trip.issue()
    return issue.note if issue.state is IssueState.PAUSED else ""


def to_the_end(trip: Round) -> None:
    """As time goes by and the tick does its work, until everybody had an answer."""
    for _ in range(1000):
        trip.probe()
        trip.send()
        if trip.issue().state is IssueState.SENT:
            return
        with db.transaction() as session:
            waiting = select(Batch.due_at).where(Batch.state == BatchState.WAITING).order_by(Batch.due_at).limit(1)
            due_at = session.scalars(waiting).one()
        trip.now = max(trip.now + timedelta(hours=3), due_at)
    raise AssertionError(f"it doesn't end: {trip.books()}")


# --- The line breaks at a recipient


@pytest.mark.parametrize("breaks", [GO_AWAY, ""])
@pytest.mark.parametrize("connections", [1, 3])
def test_one_at_whom_the_line_breaks_holds_nobody_up(
    begin: Begin, relay: fakes.Relay, breaks: str, connections: int
) -> None:
    relay.answer_rcpt = lambda to: breaks if to == address(0) else None
    trip = begin(5, connections=connections)
    found = trip.send()
    assert (found.accepted, found.deferred) == (4, 1)
    relay.answer_rcpt = lambda to: None

    assert trip.send(later=SOON).accepted == 5
    assert got(relay) == everybody(5)
    assert trip.issue().state is IssueState.SENT


def test_one_at_whom_the_line_breaks_for_48_hours_is_given_up(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY if to == address(0) else None
    trip = begin(3)
    start, found = trip.now, trip.send()
    while found.deferred:
        with db.transaction() as session:
            trip.now = session.scalars(select(Batch.due_at)).one()
        found = trip.send()

    assert (found.accepted, found.given_up) == (2, 1)
    assert timedelta(hours=48) <= trip.now - start < timedelta(hours=49)
    assert relay.connections < 60
    assert trip.issue().state is IssueState.SENT


def test_a_row_of_them_holds_nobody_up(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = at("streng.example", GO_AWAY)
    trip = begin(20, names=strange(6))
    found = trip.send()

    assert (found.accepted, found.deferred, found.waiting) == (14, 6, 0)
    relay.answer_rcpt = lambda to: None
    assert trip.send(later=SOON).accepted == 20


def test_when_the_line_breaks_at_everybody_nobody_is_charged(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY
    trip = begin(30)
    found = trip.send()
    assert (found.waiting, why_paused(trip)) == (30, "relay_down")
    assert relay.connections <= 12
    for _ in range(5):
        trip.probe(later=SOON)
        assert trip.send().waiting == 30

    relay.answer_rcpt = lambda to: None
    trip.probe(later=SOON)
    assert trip.send().accepted == 30


def test_when_the_relay_has_had_enough_halfway_the_rest_waits(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY if len(relay.caught) >= 10 else None
    found = begin(30).send()
    assert (found.accepted, found.deferred, found.waiting) == (10, 0, 20)


def test_the_only_reader_at_whom_the_line_breaks_holds_no_round_up_for_ever(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY
    trip = begin(1)
    assert trip.send().waiting == 1
    to_the_end(trip)
    assert trip.books().given_up == 1
    assert trip.now - trip.issue().planned_at < timedelta(hours=100)


def test_a_relay_without_room_for_another_line_charges_nobody(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_mail = lambda sender: "452 4.3.1 insufficient storage"
    trip = begin(4)
    assert trip.send().waiting == 4
    assert why_paused(trip) == "relay_down"

    relay.answer_mail = lambda sender: None
    trip.probe(later=SOON)
    assert trip.send().accepted == 4


# --- The relay refuses for a reason of ours


@pytest.mark.parametrize(
    ("readers", "size", "connections"), [(1, 200, 1), (4, 200, 4), (40, 200, 1), (40, 200, 4), (40, 4, 4), (12, 1, 1)]
)
def test_a_relay_that_refuses_all_stops_the_round_and_charges_nobody(
    begin: Begin, relay: fakes.Relay, readers: int, size: int, connections: int
) -> None:
    tries: list[str] = []

    def answer(to: str) -> str | None:
        tries.append(to)
        return OURS

    relay.answer_rcpt = answer
    trip = begin(readers, size=size, names=strange(0), connections=connections)
    found = trip.send()
    assert (found.waiting, why_paused(trip)) == (readers, "relay_refuses")
    assert len(tries) <= 20 + 2 * connections

    for _ in range(4):  # though nothing was mended
        trip.probe(later=SOON)
        assert why_paused(trip) == ""
        found = trip.send()
        assert (found.waiting, why_paused(trip)) == (readers, "relay_refuses")

    relay.answer_rcpt = lambda to: None
    trip.act(rounds.resume)
    trip.send(later=SOON)
    assert trip.books().accepted == readers
    assert trip.issue().state is IssueState.SENT


@pytest.mark.parametrize(("size", "domains"), [(200, strange(0)), (40, address), (4, strange(0))])
def test_a_relay_that_refuses_all_from_halfway_charges_nobody(
    begin: Begin, relay: fakes.Relay, size: int, domains: Callable[[int], str]
) -> None:
    relay.answer_rcpt = lambda to: OURS if len(relay.caught) >= 10 else None
    trip = begin(80, size=size, names=domains)
    found = trip.send()
    assert (found.accepted, found.rejected, found.given_up) == (10, 0, 0)
    assert found.deferred <= 4  # some wait a while as if it were about them
    assert why_paused(trip) == "relay_refuses"

    trip.probe(later=SOON)  # though nothing was mended
    found = trip.send()
    assert (found.accepted, found.rejected, found.given_up) == (10, 0, 0)
    assert why_paused(trip) == "relay_refuses"

    relay.answer_rcpt = lambda to: None
    to_the_end(trip)
    assert trip.books().accepted == 80


@pytest.mark.parametrize(("where", "size"), [(0, 200), (5, 20), (33, 20)])
def test_a_domain_that_refuses_us_costs_nobody_else_their_mail(
    begin: Begin, relay: fakes.Relay, where: int, size: int
) -> None:
    relay.answer_rcpt = at("streng.example", OURS)
    count = 30 if where < 10 else 7
    trip = begin(40, size=size, names=strange(count, first=where))
    to_the_end(trip)
    found = trip.books()
    assert found.accepted == len(relay.caught) == 40 - count
    assert found.rejected + found.given_up == count


def test_a_reader_who_is_refused_between_others_is_tried_once_more_and_then_rejected(
    begin: Begin, relay: fakes.Relay
) -> None:
    tries: list[str] = []

    def answer(to: str) -> str | None:
        if to == address(3):
            tries.append(to)
            return OURS
        return BUSY if len(tries) == 1 and to in everybody(2) else None

    relay.answer_rcpt = answer
    trip = begin(60)
    found = trip.send()
    assert (found.rejected, found.deferred > 0) == (0, True)
    to_the_end(trip)
    found = trip.books()
    assert (found.accepted, found.rejected + found.given_up) == (59, 1)
    with db.transaction() as session:
        final = session.scalars(select(Delivery).where(Delivery.outcome != Outcome.ACCEPTED)).one()
        assert final.status == "550 5.7.1"


def test_refusals_at_the_edge_of_a_refusing_hour_cost_nobody_their_mail(begin: Begin, relay: fakes.Relay) -> None:
    """The relay refuses everybody for a while, and takes mail again before we despair."""
    said = 0

    def answer(to: str) -> str | None:
        nonlocal said
        said += 1
        return OURS if 10 <= said < 22 else None

    relay.answer_rcpt = answer
    trip = begin(50)
    found = trip.send()
    assert (found.rejected, found.accepted, found.deferred) == (0, 38, 12)
    assert trip.send(later=SOON).accepted == 50


def test_a_whole_batch_of_a_domain_that_refuses_us_does_not_stop_the_round(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = at("streng.example", OURS)
    trip = begin(60, size=30, names=strange(30, first=30))
    trip.send()
    assert why_paused(trip) == ""
    to_the_end(trip)
    found = trip.books()
    assert (found.accepted, found.rejected + found.given_up) == (30, 30)


def test_a_relay_that_refuses_and_is_busy_ends_too(begin: Begin, relay: fakes.Relay) -> None:
    answers = {address(0): BUSY, address(1): OURS, address(2): GO_AWAY}
    relay.answer_rcpt = answers.get
    trip = begin(3)
    assert trip.send().rejected == 0
    del answers[address(0)]
    to_the_end(trip)
    found = trip.books()
    assert (found.accepted, found.rejected + found.given_up) == (1, 2)


def test_a_lone_reader_who_is_refused_long_after_the_others_stops_the_round_but_once(
    begin: Begin, relay: fakes.Relay
) -> None:
    relay.answer_rcpt = lambda to: OURS if to == address(5) else None
    trip = begin(6, size=5)
    with db.transaction() as session:
        first, last = session.scalars(select(Batch.id).order_by(Batch.id)).all()
    sender.send(batch_id=first, desk=trip.desk)
    trip.now += timedelta(minutes=2)
    pauses = 0
    for _ in range(100):
        sender.send(batch_id=last, desk=trip.desk)
        pauses += why_paused(trip) != ""
        trip.now += SOON
        trip.probe()
        if trip.issue().state is IssueState.SENT:
            break
        with db.transaction() as session:
            trip.now = max(trip.now, session.get_one(Batch, last).due_at)
    assert pauses <= 1
    found = trip.books()
    assert (found.accepted, found.rejected + found.given_up) == (5, 1)
