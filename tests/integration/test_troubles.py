"""A relay that refuses us or breaks the line: whom is it about? (requirements 1.9, 1.10)"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from service import db
from service.delivery import rounds
from service.delivery.models import Batch
from service.issues.models import IssueState
from tests import fakes
from tests.integration.trips import BUSY, OURS, Begin, Round, address, everybody, got

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


def paused(trip: Round) -> bool:
    issue = trip.issue()
    assert issue.state is not IssueState.PAUSED or issue.note == rounds.RELAY_REFUSES
    return issue.state is IssueState.PAUSED


def to_the_end(trip: Round, passes: int = 40) -> int:
    """Send and, as an operator who sees no fault of ours, resume. Gives how often."""
    resumed = 0
    for _ in range(passes):
        trip.send(later=SOON)
        if trip.issue().state is IssueState.SENT:
            return resumed
        if paused(trip):
            resumed += 1
            trip.act(rounds.resume)
    raise AssertionError(f"it doesn't end: {trip.books()}")


# --- The line breaks at a recipient


@pytest.mark.parametrize("breaks", [GO_AWAY, ""])
def test_one_at_whom_the_line_breaks_holds_nobody_up(begin: Begin, relay: fakes.Relay, breaks: str) -> None:
    relay.answer_rcpt = lambda to: breaks if to == address(0) else None
    trip = begin(5)
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


@pytest.mark.parametrize("where", [0, 12])
def test_a_row_of_them_holds_nobody_up(begin: Begin, relay: fakes.Relay, where: int) -> None:
    relay.answer_rcpt = at("streng.example", GO_AWAY)
    trip = begin(20, names=strange(8, first=where))
    found = trip.send()

    assert (found.accepted, found.deferred, found.waiting) == (12, 8, 0)
    relay.answer_rcpt = lambda to: None
    assert trip.send(later=SOON).accepted == 20


def test_a_row_of_them_in_one_domain_holds_nobody_up(begin: Begin, relay: fakes.Relay) -> None:
    first = everybody(9)
    relay.answer_rcpt = lambda to: GO_AWAY if to in first else None
    found = begin(40).send()
    assert (found.accepted, found.deferred) == (31, 9)


def test_when_the_line_breaks_at_everybody_nobody_is_charged(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY
    trip = begin(30)
    found = trip.send()
    assert (found.waiting, relay.connections) == (30, 5)
    for _ in range(5):
        assert trip.send(later=SOON).waiting == 30

    relay.answer_rcpt = lambda to: None
    assert trip.send(later=SOON).accepted == 30


def test_when_the_relay_has_had_enough_halfway_the_rest_waits(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY if len(relay.caught) >= 10 else None
    found = begin(30).send()
    assert (found.accepted, found.deferred, found.waiting) == (10, 0, 20)


def test_the_only_reader_at_whom_the_line_breaks_holds_no_round_up_for_ever(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: GO_AWAY
    trip = begin(1)
    assert trip.send().waiting == 1
    assert trip.send(later=timedelta(hours=47)).waiting == 1
    assert trip.send(later=timedelta(hours=2)).deferred == 1

    assert trip.send(later=timedelta(hours=49)).given_up == 1
    assert trip.issue().state is IssueState.SENT


# --- The relay refuses for a reason of ours


@pytest.mark.parametrize(("readers", "size"), [(1, 200), (4, 200), (40, 200), (40, 4), (40, 1)])
def test_a_relay_that_refuses_all_stops_the_round_and_charges_nobody(
    begin: Begin, relay: fakes.Relay, readers: int, size: int
) -> None:
    tries: list[str] = []

    def answer(to: str) -> str | None:
        tries.append(to)
        return OURS

    relay.answer_rcpt = answer
    trip = begin(readers, size=size, names=strange(0))
    found = trip.send()
    assert (found.waiting, paused(trip)) == (readers, True)
    assert len(tries) <= 20

    trip.act(rounds.resume)  # though nothing was mended
    found = trip.send(later=SOON)
    assert (found.waiting, paused(trip)) == (readers, True)

    relay.answer_rcpt = lambda to: None
    trip.act(rounds.resume)
    assert trip.send(later=SOON).accepted == readers
    assert trip.issue().state is IssueState.SENT


@pytest.mark.parametrize("size", [200, 40, 4])
def test_a_relay_that_refuses_all_from_halfway_charges_nobody(begin: Begin, relay: fakes.Relay, size: int) -> None:
    relay.answer_rcpt = lambda to: OURS if len(relay.caught) >= 10 else None
    trip = begin(80, size=size, names=strange(0))
    found = trip.send()
    assert (found.accepted, found.waiting, paused(trip)) == (10, 70, True)

    trip.act(rounds.resume)  # though nothing was mended
    found = trip.send(later=SOON)
    assert (found.accepted, found.waiting, paused(trip)) == (10, 70, True)

    relay.answer_rcpt = lambda to: None
    trip.act(rounds.resume)
    trip.send(later=SOON)
    assert trip.send(later=SOON).accepted == 80


@pytest.mark.parametrize("where", [0, 5, 33])
def test_a_domain_that_refuses_us_stops_nobody_elses_mail(begin: Begin, relay: fakes.Relay, where: int) -> None:
    relay.answer_rcpt = at("streng.example", OURS)
    trip = begin(40, names=strange(30 if where < 10 else 7, first=where))
    found = trip.send()

    wanted = sorted(strange(30 if where < 10 else 7, first=where)(number) for number in range(40))
    assert got(relay) == [to for to in wanted if not to.endswith("@streng.example")]
    to_the_end(trip)
    found = trip.books()
    assert (found.accepted, found.rejected) == (len(relay.caught), 40 - len(relay.caught))


@pytest.mark.parametrize(("row", "first", "most"), [(6, 0, 0), (9, 10, 1), (4, 0, 0), (12, 28, 2)])
def test_so_it_does_in_small_batches(begin: Begin, relay: fakes.Relay, row: int, first: int, most: int) -> None:
    relay.answer_rcpt = at("streng.example", OURS)
    trip = begin(40, size=4, names=strange(row, first=first))
    resumed = to_the_end(trip)

    found = trip.books()
    assert (found.accepted, found.rejected) == (40 - row, row)
    assert resumed <= most


def test_a_row_of_refused_readers_in_one_domain_stops_nobody_elses_mail(begin: Begin, relay: fakes.Relay) -> None:
    first = everybody(15)
    relay.answer_rcpt = lambda to: OURS if to in first else None
    trip = begin(60)
    found = trip.send()
    assert (found.accepted, found.rejected) == (45, 15)
    assert trip.issue().state is IssueState.SENT


def test_the_last_reader_of_a_round_who_is_refused_is_charged(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: OURS if to == address(5) else None
    trip = begin(6)
    found = trip.send()
    assert (found.accepted, found.rejected, trip.issue().state) == (5, 1, IssueState.SENT)


def test_the_last_reader_of_a_batch_who_is_refused_waits_for_the_next_batch(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: OURS if to == address(3) else None
    trip = begin(8, size=4)
    found = trip.send()
    assert (found.accepted, found.rejected, found.waiting) == (7, 0, 1)
    found = trip.send(later=SOON)
    assert (found.accepted, found.rejected, trip.issue().state) == (7, 1, IssueState.SENT)


def test_a_whole_batch_of_a_domain_that_refuses_us_ends_after_an_operators_word(
    begin: Begin, relay: fakes.Relay
) -> None:
    relay.answer_rcpt = at("streng.example", OURS)
    trip = begin(60, size=30, names=strange(30, first=30))
    assert to_the_end(trip) == 1
    found = trip.books()
    assert (found.accepted, found.rejected) == (30, 30)


def test_a_relay_that_refuses_and_is_busy_ends_too(begin: Begin, relay: fakes.Relay) -> None:
    answers = {address(0): BUSY, address(1): OURS, address(2): GO_AWAY}
    relay.answer_rcpt = answers.get
    trip = begin(3)
    assert trip.send().rejected == 0
    del answers[address(0)]
    to_the_end(trip, passes=1000)
    found = trip.books()
    assert (found.accepted, found.rejected, found.given_up) == (1, 1, 1)
