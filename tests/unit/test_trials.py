"""Whose turn it is, and who is charged: what the relay takes for others tells whom it minds (requirements 1.10)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.delivery.models import Outcome
from service.delivery.outcomes import GIVE_UP, MOST_REFUSALS, PAUSES, Reader, Result
from tests.make import NOW
from worker import trials
from worker.trials import Trials

OURS = "554 5.7.1"


def readers(count: int, **more: object) -> list[Reader]:
    made = []
    for number in range(count):
        key = f"lezer{number}@gemeente{number % 5}.example"
        made.append(Reader(number, key, key, "nl", **more))  # type: ignore[arg-type]
    return made


def trials_of(*given: Reader, seed: int = 1) -> Trials:
    return Trials(given, seed=seed, clock=lambda: NOW)


def order(found: Trials) -> Iterator[int]:
    while not found.empty:
        yield found.next().subscriber_id


def refuse(found: Trials, reader: Reader) -> list[Result]:
    return found.refused(reader, OURS)


# --- Turns


def test_readers_are_shuffled_in_an_order_that_the_seed_decides() -> None:
    given_order = list(range(50))
    one, same, other = (list(order(trials_of(*readers(50), seed=seed))) for seed in (7, 7, 8))

    assert one == same
    assert one != other
    assert given_order not in (one, other)
    assert sorted(one) == sorted(other) == given_order


def test_who_was_not_sent_has_a_turn_after_the_others() -> None:
    found = trials_of(*readers(3))
    first = found.next()
    found.back(first)
    assert list(order(found))[-1] == first.subscriber_id


def test_the_last_one_may_come_back_when_the_queue_was_empty() -> None:
    found = trials_of(*readers(1))
    only = found.next()
    assert list(order(found)) == []
    found.back(only)
    assert list(order(found)) == [only.subscriber_id]


# --- The line ends at a reader


def test_who_was_there_when_the_line_ended_gets_a_second_turn_after_the_others() -> None:
    found = trials_of(*readers(3))
    struck = found.next()
    found.broke(struck, "421")
    assert found.aside == []

    others = [found.next(), found.next()]
    assert struck not in others
    assert found.next() is struck
    found.broke(struck, "421 4.7.0")
    assert found.empty
    assert [(one.reader, one.status, one.refused) for one in found.aside] == [(struck, "421 4.7.0", False)]


def test_who_was_struck_twice_is_deferred_once_a_later_mail_is_taken() -> None:
    found = trials_of(*readers(3))
    struck = found.next()
    found.broke(struck, "421")
    one, other = found.next(), found.next()
    found.broke(found.next(), "421")
    assert found.took(one) == []  # it was under way already: it proves nothing
    assert [one.reader for one in found.aside] == [struck]

    found.back(other)
    [result] = found.took(found.next())
    assert (result.reader, result.outcome, result.retry_at) == (struck, Outcome.DEFERRED, NOW + PAUSES[0])
    assert found.aside == []


def test_a_line_that_ends_at_a_reader_never_rejects_them() -> None:
    found = trials_of(*readers(2, attempts=3, first_at=NOW - timedelta(hours=7)))
    struck = found.next()
    found.broke(struck, "")
    found.back(found.next())
    found.broke(found.next(), "")
    [result] = found.took(found.next())
    assert (result.reader, result.outcome, result.dead) == (struck, Outcome.DEFERRED, False)


# --- The relay refuses for a reason of ours


def test_nobody_is_charged_as_long_as_nothing_is_taken() -> None:
    found = trials_of(*readers(19))
    while not found.empty:
        assert refuse(found, found.next()) == []
    assert len(found.aside) == 19


def test_mail_that_was_under_way_at_the_refusal_proves_nothing() -> None:
    found = trials_of(*readers(3))
    under_way, refused, later = found.next(), found.next(), found.next()
    refuse(found, refused)
    assert found.took(under_way) == []
    assert found.took(later) == []  # begun before the refusal, too
    assert [one.reader for one in found.aside] == [refused]


def test_one_who_is_refused_while_others_get_theirs_is_deferred_at_the_first_try() -> None:
    found = trials_of(*readers(2))
    refused = found.next()
    refuse(found, refused)
    [result] = found.took(found.next())
    assert result == Result(refused, Outcome.DEFERRED, NOW, OURS, retry_at=NOW + PAUSES[0])


def test_and_rejected_when_it_happens_again_at_a_later_try() -> None:
    found = trials_of(*readers(2, attempts=1, first_at=NOW - PAUSES[0]))
    again = found.next()
    refuse(found, again)
    [result] = found.took(found.next())
    assert (result.reader, result.outcome, result.dead, result.retry_at) == (again, Outcome.REJECTED, False, None)


def test_without_proof_a_later_try_is_deferred_still() -> None:
    found = trials_of(*readers(1, attempts=2, first_at=NOW - timedelta(hours=1)))
    refuse(found, found.next())
    [result] = found.charge(found.leave(), proven=False)
    assert (result.outcome, result.retry_at) == (Outcome.DEFERRED, NOW + PAUSES[2])
    assert found.aside == []


def test_without_proof_for_48_hours_it_is_given_up() -> None:
    found = trials_of(*readers(1, attempts=9, first_at=NOW - GIVE_UP))
    refuse(found, found.next())
    [result] = found.charge(found.leave(), proven=False)
    assert result.outcome is Outcome.GIVEN_UP


def test_each_is_charged_at_the_hour_of_the_proof() -> None:
    hours = iter([NOW, NOW + timedelta(hours=1)])
    found = Trials(readers(3), seed=1, clock=lambda: next(hours))
    for _ in range(2):
        refuse(found, found.next())
    first, second = found.took(found.next())
    assert (first.at, second.at) == (NOW, NOW + timedelta(hours=1))


def test_a_domain_that_is_to_blame_raises_no_suspicion() -> None:
    strict = [reader._replace(email_key=f"lezer{reader.subscriber_id}@streng.example") for reader in readers(30)]
    found = trials_of(*strict)
    found.blame("streng.example")
    results = [result for _ in range(30) for result in refuse(found, found.next())]

    assert {result.outcome for result in results} == {Outcome.DEFERRED}
    assert len(results) == 30
    assert not found.suspicious
    assert found.aside == []


def test_another_domain_than_the_one_to_blame_stands_aside_as_ever() -> None:
    found = trials_of(*readers(1))
    found.blame("streng.example")
    assert refuse(found, found.next()) == []
    assert len(found.aside) == 1


def test_it_knows_the_domains_for_which_a_mail_was_taken() -> None:
    found = trials_of(*readers(7))
    taken = [found.next() for _ in range(3)]
    for reader in taken:
        found.took(reader)
    refuse(found, found.next())
    found.answered(found.next())
    assert found.good == {reader.domain for reader in taken}


# --- Is it the relay?


def test_twenty_refusals_while_nothing_is_taken_are_suspicious() -> None:
    found = trials_of(*readers(MOST_REFUSALS))
    for number in range(1, MOST_REFUSALS + 1):
        refuse(found, found.next())
        assert found.suspicious is (number == MOST_REFUSALS)


def test_those_who_were_refused_before_raise_no_suspicion() -> None:
    old = readers(40, attempts=1, first_at=NOW - timedelta(hours=1))
    found = trials_of(*old)
    while not found.empty:
        refuse(found, found.next())
    assert len(found.aside) == 40
    assert not found.suspicious


def test_a_mail_that_is_taken_takes_the_suspicion_away() -> None:
    found = trials_of(*readers(MOST_REFUSALS + 1))
    for _ in range(MOST_REFUSALS):
        refuse(found, found.next())
    before = found.suspicious
    assert len(found.took(found.next())) == MOST_REFUSALS
    assert (before, found.suspicious) == (True, False)


@pytest.mark.parametrize("calm", ["took", "leave"])
def test_ten_ends_of_a_line_are_suspicious_until_it_is_looked_into(calm: str) -> None:
    found = trials_of(*readers(1))
    seen = []
    for found.breaks in (trials.MOST_BREAKS - 1, trials.MOST_BREAKS):
        seen.append(found.suspicious)
    if calm == "took":
        found.took(found.next())
    else:
        found.leave()
    assert [*seen, found.suspicious] == [False, True, False]


# --- Whatever happens

STEPS = ("took", "answered", "refused", "back", "broke", "begin", "begin", "begin", "leave", "blame")


@given(
    st.integers(0, 12),
    st.integers(0, 5),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=120),
    st.sets(st.integers(0, 11)),
)
def test_whatever_the_relay_says_each_reader_stands_in_one_place(
    count: int, seed: int, steps: list[tuple[str, int]], tried: set[int]
) -> None:
    everybody = [
        reader._replace(attempts=1, first_at=NOW) if reader.subscriber_id in tried else reader
        for reader in readers(count)
    ]
    found = Trials(everybody, seed=seed, clock=lambda: NOW)
    under_way: list[Reader] = []
    settled: list[int] = []  # taken, answered for themselves, or charged
    for step, which in steps:
        charged: list[Result] = []
        if step == "begin":
            if not found.empty:
                under_way.append(found.next())
        elif step == "leave":
            charged = found.charge(found.leave(), proven=False)
        elif step == "blame":
            found.blame(f"gemeente{which % 5}.example")
        elif under_way:
            reader = under_way.pop(which % len(under_way))
            charged = _answer(found, step, reader)
            if step in ("took", "answered"):
                settled.append(reader.subscriber_id)
        assert all(result.outcome in (Outcome.DEFERRED, Outcome.REJECTED) for result in charged)
        assert all(result.reader.attempts for result in charged if result.outcome is Outcome.REJECTED)
        settled += [result.reader.subscriber_id for result in charged]

    aside = [one.reader.subscriber_id for one in found.aside]
    waiting = list(order(found))
    places = settled + aside + [reader.subscriber_id for reader in under_way] + waiting
    assert sorted(places) == list(range(count))


def _answer(found: Trials, step: str, reader: Reader) -> list[Result]:
    if step == "took":
        return found.took(reader)
    if step == "refused":
        return refuse(found, reader)
    if step == "answered":
        found.answered(reader)
    elif step == "back":
        found.back(reader)
    else:
        found.broke(reader, "421")
    return []
