"""A batch on its way through a real relay: every answer ends in the right column, and the books balance."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg
import pytest
from sqlalchemy import select, update

from service import db, jobs, settings, urls
from service.delivery import rounds
from service.delivery.models import Batch, BatchState, Delivery, Outcome
from service.issues.models import Issue, IssueState
from service.subscribers import addresses
from service.subscribers.models import State, Subscriber, Subscription
from tests import fakes
from tests.integration.trips import BUSY, DEAD, FULL, OURS, Begin, Round, address, everybody, got
from tests.make import NOW
from worker import lines, pipeline


def test_everybody_has_the_mail_once(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(7, size=3)
    found = trip.send()
    trip.send(later=timedelta(days=1))

    assert found.accepted == 7
    assert got(relay) == everybody(7)
    assert trip.issue().state is IssueState.SENT
    assert len({mail.message["Message-ID"] for mail in relay.caught}) == 7
    assert all(mail.message["To"] == mail.recipient for mail in relay.caught)


def test_every_answer_ends_in_its_own_column(begin: Begin, relay: fakes.Relay) -> None:
    answers = {address(1): DEAD, address(2): FULL, address(3): BUSY, address(4): OURS}
    relay.answer_rcpt = answers.get
    relay.answer_data = lambda to: "" if to == address(5) else None
    found = begin(8).send()

    assert (found.accepted, found.rejected, found.deferred, found.uncertain) == (3, 2, 2, 1)
    with db.transaction() as session:
        ended = select(Subscription.subscriber_id).where(Subscription.state == State.ENDED)
        assert len(session.scalars(ended).all()) == 1
        suppressed = addresses.suppressed(session=session, email_keys=everybody(8))
        assert suppressed == {address(1)}


def test_the_deferred_get_their_mail_when_the_relay_has_calmed_down(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: BUSY if to == address(0) else None
    trip = begin(3)
    assert trip.send().deferred == 1
    relay.answer_rcpt = lambda to: None
    assert trip.send(later=timedelta(minutes=4)).deferred == 1

    found = trip.send(later=timedelta(minutes=2))
    assert (found.accepted, found.deferred) == (3, 0)
    assert got(relay) == everybody(3)
    assert trip.issue().state is IssueState.SENT


def test_who_cannot_be_reached_for_48_hours_is_given_up(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: BUSY if to == address(0) else None
    trip = begin(2)
    while trip.send().deferred:
        with db.transaction() as session:
            trip.now = session.scalars(select(Batch.due_at)).one()

    found = trip.books()
    assert (found.accepted, found.given_up) == (1, 1)
    assert timedelta(hours=48) <= trip.now - NOW < timedelta(hours=49)
    assert trip.issue().state is IssueState.SENT


def test_421_charges_nobody_and_the_mail_goes_out_on_another_line(begin: Begin, relay: fakes.Relay) -> None:
    answers = iter([None, *["421 4.3.2 enough of this line"] * 3])
    relay.answer_mail = lambda sender: next(answers, None)
    found = begin(4).send()
    assert (found.accepted, relay.connections) == (4, 4)
    assert got(relay) == everybody(4)


def test_a_relay_that_says_too_much_is_left_alone_for_ten_minutes(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: "421 4.7.28 too fast" if len(relay.caught) >= 2 else None
    trip = begin(5)
    found = trip.send()
    assert (found.accepted, found.waiting) == (2, 3)
    assert (trip.issue().state, trip.issue().note) == (IssueState.PAUSED, "relay_slow_down")

    relay.answer_rcpt = lambda to: None
    trip.probe(later=timedelta(minutes=9))
    assert trip.issue().state is IssueState.PAUSED
    trip.probe(later=timedelta(minutes=2))
    assert trip.send().accepted == 5


def test_a_relay_that_is_down_charges_nobody(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(2)
    url = relay.url
    with fakes.Relay() as gone:
        trip.connect(gone.url)
    assert trip.send().waiting == 2
    assert (trip.issue().state, trip.issue().note) == (IssueState.PAUSED, "relay_down")
    trip.probe(later=timedelta(seconds=6))
    assert trip.issue().note == "relay_down"

    trip.connect(url)
    trip.probe(later=timedelta(seconds=11))
    assert trip.issue().state is IssueState.SENDING
    assert trip.send().accepted == 2


def test_a_line_that_breaks_after_the_dot_is_never_tried_again(begin: Begin, relay: fakes.Relay) -> None:
    breaks = iter([""])
    relay.answer_data = lambda to: next(breaks, None)
    trip = begin(3)
    assert trip.send().uncertain == 1
    found = trip.send(later=timedelta(days=1))

    assert (found.accepted, found.uncertain) == (2, 1)
    assert len(relay.caught) == len(set(got(relay))) == 2
    with db.transaction() as session:
        doubt = session.scalars(select(Delivery).where(Delivery.outcome == Outcome.UNCERTAIN)).one()
        assert (doubt.status, doubt.uncertain_at is None) == ("line lost", False)


def test_unless_the_operator_wants_it_sent_again_with_the_same_message_id(begin: Begin, relay: fakes.Relay) -> None:
    breaks = iter([""])
    heard: list[str] = []

    def answer(to: str) -> str | None:
        heard.append(to)
        return next(breaks, None)

    relay.answer_data = answer
    trip = begin(3, uncertain="resend")
    assert trip.send().deferred == 1
    assert trip.send(later=timedelta(minutes=6)).accepted == 3
    assert [to for to in heard if heard.count(to) == 2] == [heard[0]] * 2
    with db.transaction() as session:
        again = session.scalars(select(Delivery).where(Delivery.uncertain_at.is_not(None))).one()
        assert (again.outcome, again.attempts) == (Outcome.ACCEPTED, 2)


def test_a_relay_that_refuses_us_pauses_the_round_and_charges_nobody(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: OURS
    trip = begin(9)
    found = trip.send()
    assert (found.waiting, found.rejected) == (9, 0)
    issue = trip.issue()
    assert (issue.state, issue.note) == (IssueState.PAUSED, "relay_refuses")

    relay.answer_rcpt = lambda to: None
    trip.act(rounds.resume)
    assert trip.send().accepted == 9
    assert trip.issue().note == ""


def test_a_sender_that_is_refused_pauses_the_round_at_once(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_mail = lambda who: "550 5.7.1 not you"
    trip = begin(2)

    assert trip.send().waiting == 2
    assert trip.issue().state is IssueState.PAUSED


@dataclass
class Gate:
    """Holds the relay's answer to the third mail until it is opened."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    seen: int = 0

    def answer(self, to: str) -> str | None:
        self.seen += 1
        if self.seen == 3:
            self.reached.set()
            assert self.opened.wait(20)
        return None


def in_the_middle(trip: Round, during: Callable[[], None]) -> None:
    """Run `during` while a worker waits for the relay's answer to its third mail."""
    gate = Gate()
    trip.server.answer_data = gate.answer

    def work() -> None:
        with trip.app.app_context():
            trip.send()

    worker = threading.Thread(target=work)
    worker.start()
    assert gate.reached.wait(20)
    try:
        during()
    finally:
        gate.opened.set()
        worker.join(20)


def recorded() -> int:
    with db.transaction() as session:
        return len(session.scalars(select(Delivery.subscriber_id)).all())


def wait_for(holds: Callable[[], bool]) -> None:
    pulse = threading.Event()
    for _ in range(400):
        if holds():
            return
        pulse.wait(0.05)
    raise AssertionError("waited in vain")


def wait_for_keeper(trip: Round) -> None:
    """Until it has written once more: the lease then reaches further than it could before."""
    trip.now += timedelta(seconds=settings.current().lease_seconds * 2)
    wait_for(lambda: due_at() > trip.now)


def due_at() -> datetime:
    with db.transaction() as session:
        return session.scalars(select(Batch.due_at)).one()


@pytest.mark.parametrize("word", [rounds.pause, rounds.cancel])
def test_pause_and_cancel_are_heard_between_two_mails(
    begin: Begin, relay: fakes.Relay, word: Callable[..., Issue]
) -> None:
    trip = begin(10)

    def during() -> None:
        wait_for(lambda: recorded() == 2)  # outcomes are on record while the relay is silent
        trip.act(word)
        wait_for_keeper(trip)

    in_the_middle(trip, during)
    found = trip.books()
    assert (found.accepted, found.waiting) == (3, 7)
    with db.transaction() as session:
        assert session.scalars(select(Batch.state)).one() is BatchState.WAITING
    if word is rounds.pause:
        trip.act(rounds.resume)
        assert trip.send().accepted == 10
    else:
        assert trip.send(later=timedelta(days=1)).accepted == 3
    assert len(got(relay)) == len(set(got(relay)))


@pytest.mark.parametrize(
    ("answer", "column"), [(None, "accepted"), ("", "uncertain"), (FULL, "rejected"), (BUSY, "given_up")]
)
def test_who_had_an_answer_while_the_round_was_cancelled_is_not_given_up(
    begin: Begin, relay: fakes.Relay, answer: str | None, column: str
) -> None:
    relay.answer_rcpt = lambda to: BUSY
    trip = begin(1)
    assert trip.send().deferred == 1
    relay.answer_rcpt = lambda to: None

    def cancel() -> None:
        with trip.app.app_context():
            trip.act(rounds.cancel)

    def answer_data(to: str) -> str | None:
        meanwhile = threading.Thread(target=cancel)
        meanwhile.start()
        meanwhile.join(20)
        return answer

    relay.answer_data = answer_data
    found = trip.send(later=timedelta(minutes=6))
    assert trip.issue().state is IssueState.CANCELLED
    assert getattr(found, column) == 1, found


def test_a_worker_that_must_stop_finishes_the_mail_in_flight_and_returns_the_rest(
    begin: Begin, relay: fakes.Relay, doorbells: list[tuple[str, tuple[int, ...]]]
) -> None:
    trip = begin(6)
    doorbells.clear()

    def during() -> None:
        trip.halted = True

    in_the_middle(trip, during)
    assert (trip.books().accepted, trip.books().waiting) == (3, 3)
    assert [name for name, _ in doorbells] == [jobs.SEND_BATCH]  # for another worker

    trip.halted = False
    assert trip.send().accepted == 6
    assert got(relay) == everybody(6)


def test_a_worker_whose_batch_went_to_another_records_nothing_more(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(6)

    def during() -> None:
        wait_for(lambda: recorded() == 2)
        with db.transaction() as session:  # as another worker does once the lease is over
            session.execute(update(Batch).values(fence=Batch.fence + 1))
        wait_for(lambda: not any(thread.name.startswith("keeper-") for thread in threading.enumerate()))

    in_the_middle(trip, during)
    assert recorded() == 2
    assert len(relay.caught) <= 3


def test_a_lease_is_prolonged_while_the_relay_is_silent(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(4)
    in_the_middle(trip, lambda: wait_for_keeper(trip))
    assert trip.books().accepted == 4


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_outcomes_wait_for_a_database_that_is_away(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(6)
    url = str(trip.app.config["SQLALCHEMY_DATABASE_URI"]).replace("+psycopg", "").replace("/house?", "/postgres?")

    with psycopg.connect(url, autocommit=True) as admin:

        def come_back() -> None:
            admin.execute("ALTER DATABASE house ALLOW_CONNECTIONS true")

        def during() -> None:
            admin.execute("ALTER DATABASE house ALLOW_CONNECTIONS false")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'house'")
            threading.Timer(1.5, come_back).start()

        in_the_middle(trip, during)
    assert trip.send(later=timedelta(days=1)).accepted == 6
    assert got(relay) == everybody(6)


def test_a_mail_that_cannot_be_made_holds_nobody_up(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(3)
    with db.transaction() as session:  # as no door lets in
        session.execute(
            update(Subscriber).where(Subscriber.email == address(1)).values(email="lezer\a1@gemeente.example")
        )
    found = trip.send()
    while found.deferred:
        found = trip.send(later=timedelta(hours=3))

    assert (found.accepted, found.rejected + found.given_up) == (2, 1)
    assert trip.issue().state is IssueState.SENT


def test_when_no_mail_can_be_made_nobody_is_charged(
    begin: Begin, relay: fakes.Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise OSError("the key can't be read")

    trip = begin(30)
    with monkeypatch.context() as patched:
        patched.setattr("service.links.unsubscribe", broken)
        found = trip.send()
    assert (found.waiting, found.rejected) == (30, 0)
    assert trip.issue().note == "relay_refuses"

    trip.act(rounds.resume)
    assert trip.send().accepted == 30


def test_no_transaction_is_open_while_the_relay_answers(begin: Begin, relay: fakes.Relay) -> None:
    trip = begin(2)
    open_meanwhile: list[bool] = []

    class Watched(lines.Lines):
        def turn(self, seconds: float) -> list[pipeline.Answer]:
            open_meanwhile.append(db.db.session().in_transaction())
            return super().turn(seconds)

    trip.opened.append(Watched(urls.relay(relay.url), hello="vinkje.example"))
    trip.desk = replace(trip.desk, lines=trip.opened[-1])
    assert trip.send().accepted == 2
    assert open_meanwhile
    assert not any(open_meanwhile)


def test_an_outcome_has_the_relays_code_and_no_address(begin: Begin, relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda to: f"550 5.1.1 <{to}> unknown"
    begin(1).send()

    with db.transaction() as session:
        delivery = session.scalars(select(Delivery)).one()
        assert (delivery.outcome, delivery.status) == (Outcome.REJECTED, "550 5.1.1")
