"""The pace: a share of what the relay allows, less of it after trouble, and never more messages than were granted."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker import pace


def of(share: int) -> pace.Pace:
    made = pace.Pace()
    made.share = share
    return made


def test_a_worker_has_its_share_and_hears_when_that_changes() -> None:
    mine = of(8)
    assert mine.connections(0) == 8
    mine.share = 3
    assert mine.connections(1) == 3
    mine.share = 0
    assert mine.connections(2) == 0


def test_trouble_halves_the_connections_to_one_at_least() -> None:
    mine = of(10)
    found = []
    for second in range(0, 10, 2):
        now = second * 0.95  # troubles that are a calm second apart, and closer than a step back up
        mine.slower(now)
        found.append(mine.connections(now))
    assert found == [5, 2, 1, 1, 1]


def test_a_trouble_that_is_heard_on_every_connection_counts_once() -> None:
    mine = of(16)
    for number in range(16):
        mine.slower(100 + number * pace.CALM_SECONDS / 20)
    assert mine.connections(100.9) == 8


def test_trouble_just_after_a_step_back_up_counts() -> None:
    mine = of(10)
    mine.slower(0)
    assert mine.connections(pace.CREEP_SECONDS) == 6
    mine.slower(pace.CREEP_SECONDS + pace.CALM_SECONDS / 10)
    assert mine.connections(pace.CREEP_SECONDS + pace.CALM_SECONDS / 5) == 3


def test_the_very_first_trouble_counts_whenever_it_comes() -> None:
    for now in (0.0, pace.CALM_SECONDS / 2, 1e6):
        mine = of(10)
        mine.slower(now)
        assert mine.connections(now) == 5


def test_after_trouble_connections_come_back_one_by_one() -> None:
    mine = of(6)
    mine.slower(10)
    seen = [mine.connections(10 + tenth / 10) for tenth in range(71)]

    assert seen[:20] == [3] * 20
    assert (seen[20], seen[40], seen[60]) == (4, 5, 6)
    assert all(0 <= after - before <= 1 for before, after in pairwise(seen))


def test_a_worker_that_was_away_for_long_comes_back_no_faster() -> None:
    mine = of(20)
    mine.slower(0)
    assert [mine.connections(3600), mine.connections(3600.1), mine.connections(3602.1)] == [11, 11, 12]


def test_who_has_crept_back_is_as_fast_as_before_the_trouble() -> None:
    mine = of(2)
    mine.slower(0)
    assert (mine.connections(0), mine.connections(2)) == (1, 2)
    mine.share = 9
    assert mine.connections(2.1) == 9  # no ceiling is left
    mine.slower(2.2)
    assert mine.connections(2.2) == 4


def test_a_share_that_shrinks_in_trouble_is_heard_at_once() -> None:
    mine = of(20)
    mine.slower(0)
    mine.share = 4
    assert mine.connections(0.1) == 4
    mine.slower(1.5)
    assert mine.connections(1.5) == 2


def test_without_a_limit_anything_may_go() -> None:
    mine = of(1)
    for _ in range(1000):
        assert mine.may_send()
        mine.sent()
    assert mine.tokens is None


def test_with_a_limit_no_more_goes_than_was_granted() -> None:
    mine = of(1)
    mine.granted(0)
    assert not mine.may_send()
    mine.granted(2)
    mine.granted(1)
    assert [_send(mine) for _ in range(5)] == [True, True, True, False, False]
    assert mine.tokens == 0


def test_a_limit_that_is_lifted_lets_all_go_and_one_that_comes_lets_none() -> None:
    mine = of(1)
    mine.granted(0)
    mine.granted(None)
    assert _send(mine)
    mine.granted(0)
    assert not mine.may_send()


def test_it_asks_for_twice_what_it_sent_and_hoards_nothing() -> None:
    mine = of(1)
    mine.granted(0)
    assert mine.want() == pace.LEAST_WANT
    mine.granted(pace.LEAST_WANT)
    assert mine.want() == 0  # it has all of it still
    for _ in range(15):
        assert _send(mine)
    assert mine.want() == 2 * 15 - 5
    assert mine.want() == pace.LEAST_WANT - 5  # counted once


@given(st.lists(st.one_of(st.integers(0, 40), st.none(), st.just("send"), st.just("want"))))
def test_tokens_are_never_owed_and_never_come_from_nowhere(steps: list[int | str | None]) -> None:
    mine = of(1)
    mine.granted(0)
    purse: int | None = 0
    for step in steps:
        if step == "send":
            assert _send(mine) is (purse is None or purse > 0)
            purse = None if purse is None else max(purse - 1, 0)
        elif step == "want":
            assert mine.want() >= 0
        elif isinstance(step, int):
            mine.granted(step)
            purse = (purse or 0) + step
        else:
            mine.granted(None)
            purse = None
        assert mine.tokens == purse


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["trouble", "look", "share"]), st.integers(0, 50))),
)
def test_connections_stay_between_one_and_the_share(share: int, steps: list[tuple[float, str, int]]) -> None:
    mine, now = of(share), 0.0
    for waited, step, number in steps:
        now += waited
        if step == "trouble":
            mine.slower(now)
        elif step == "share":
            mine.share = number
        assert min(1, mine.share) <= mine.connections(now) <= mine.share


def _send(mine: pace.Pace) -> bool:
    """As the dispatcher does: only when it may."""
    if not mine.may_send():
        return False
    mine.sent()
    return True
