"""What the relay allows, divided over all workers, and changed while a round runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import flask
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from service import db, settings
from service.delivery import breaker, limits
from service.delivery.models import Relay, Trouble
from tests.integration import races
from tests.make import NOW
from worker import pace

SECOND = timedelta(seconds=1)


def allow(connections: int, rate: float = 0.0) -> None:
    chosen = {"relay_connections": connections, "relay_rate": rate}
    settings.use(settings.current().model_copy(update=chosen))


def share(session: Session, name: str, now: datetime = NOW) -> limits.Limits:
    return limits.report(session=session, now=now, name=name, issue_id=None, connections=0, rate=0.0)


def shares(session: Session, count: int, now: datetime = NOW) -> list[int]:
    """Once all have been heard."""
    for number in range(count):
        share(session, f"worker{number}", now)
    return [share(session, f"worker{number}", now).connections for number in range(count)]


def grant(session: Session, want: int, now: datetime = NOW) -> int | None:
    return limits.grant(session=session, now=now, want=want)


# --- Connections


@pytest.mark.parametrize("most", [1, 5, 20])
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_what_all_workers_have_adds_up_to_the_limit(session: Session, most: int, workers: int) -> None:
    allow(most)
    found = shares(session, workers)
    assert sum(found) == most
    assert max(found) - min(found) <= 1


def test_a_worker_that_is_silent_for_five_seconds_leaves_its_share_to_the_others(session: Session) -> None:
    allow(10)
    assert shares(session, 2) == [5, 5]
    assert share(session, "worker0", NOW + limits.FRESH - timedelta(milliseconds=1)).connections == 5
    assert share(session, "worker0", NOW + limits.FRESH).connections == 10
    assert [sender.name for sender in limits.senders(session=session, now=NOW + limits.FRESH)] == ["worker0"]


def test_a_worker_that_says_it_leaves_is_not_waited_for(session: Session) -> None:
    allow(10)
    shares(session, 3)
    limits.leave(session=session, name="worker1")
    assert [share(session, name).connections for name in ("worker0", "worker2")] == [5, 5]


def test_a_worker_that_comes_back_is_counted_once(session: Session) -> None:
    allow(4)
    later = NOW + timedelta(hours=2)
    shares(session, 2)
    assert shares(session, 2, later) == [2, 2]
    assert len(limits.senders(session=session, now=later)) == 2


def test_names_of_an_hour_ago_are_forgotten(session: Session) -> None:
    shares(session, 3)
    share(session, "late", NOW + SECOND)
    limits.forget(session=session, now=NOW + limits.FORGET)
    assert [sender.name for sender in limits.senders(session=session, now=NOW)] == ["late"]


def test_an_operators_change_is_heard_and_taken_back(session: Session) -> None:
    allow(10, rate=7.0)
    limits.change(session=session, now=NOW, connections=3, rate=40.0)
    assert share(session, "worker0") == limits.Limits(3, 40.0)
    limits.change(session=session, now=NOW, connections=None, rate=0.0)
    assert share(session, "worker0") == limits.Limits(10, 0.0)  # 0 is said, and isn't the setting's 7
    limits.change(session=session, now=NOW, connections=None, rate=None)
    assert share(session, "worker0") == limits.Limits(10, 7.0)


def test_workers_that_came_at_once_agree_at_their_next_word(app: flask.Flask) -> None:
    allow(7)
    words: dict[str, limits.Limits] = {}

    def say(name: str) -> Callable[[Session], None]:
        def speak(session: Session) -> None:
            words[name] = share(session, name)

        return speak

    for _ in range(2):
        others = [races.Beside(app, say(f"worker{number}")) for number in range(3)]
        for other in others:
            other.thread.start()
        for other in others:
            assert other.refusal() is None
    assert sorted(word.connections for word in words.values()) == [2, 2, 3]


# --- After "slow down"


def test_after_a_slow_down_connections_are_added_one_by_one(session: Session) -> None:
    allow(4)
    breaker.trip(session=session, now=NOW, trouble=Trouble.SLOW_DOWN)
    over = NOW + breaker.SLOW_DOWN
    breaker.heal(session=session, now=over)
    moments = [over + number * limits.ONE_MORE for number in range(5)]
    just_before = [moment - timedelta(milliseconds=1) for moment in moments[1:]]

    assert [share(session, "only", moment).connections for moment in moments] == [1, 2, 3, 4, 4]
    assert [share(session, "only", moment).connections for moment in just_before] == [1, 2, 3, 4]


def test_who_resumes_before_the_ten_minutes_are_over_starts_with_one(session: Session) -> None:
    allow(4)
    breaker.trip(session=session, now=NOW, trouble=Trouble.SLOW_DOWN)
    breaker.heal(session=session, now=NOW + SECOND)
    assert share(session, "only", NOW + SECOND).connections == 1


def test_while_slowed_down_two_workers_have_one_connection_between_them(session: Session) -> None:
    allow(4)
    breaker.trip(session=session, now=NOW, trouble=Trouble.SLOW_DOWN)
    assert sum(shares(session, 2, NOW + breaker.SLOW_DOWN)) == 1


# --- Messages a second


def test_without_a_limit_there_is_nothing_to_grant(session: Session) -> None:
    allow(1)
    assert grant(session, 1000) is None


def test_a_worker_gets_what_came_in_since_the_last_time(session: Session) -> None:
    allow(1, rate=10)
    assert grant(session, 100) == 0  # the bucket starts empty
    assert grant(session, 100, NOW + SECOND / 2) == 5
    assert grant(session, 100, NOW + SECOND / 2) == 0
    assert grant(session, 2, NOW + SECOND) == 2
    assert grant(session, 100, NOW + SECOND) == 3


def test_what_is_saved_up_while_nobody_sends_is_a_second_of_it(session: Session) -> None:
    allow(1, rate=10)
    grant(session, 0)
    assert grant(session, 1000, NOW + timedelta(hours=1)) == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_the_pace_that_is_told_never_exceeds_the_limit(session: Session, workers: int) -> None:
    """Not even when a round starts, with what was saved up; and after a rest it starts again."""
    allow(10, 60.0)
    grant(session, 1, NOW - 60 * SECOND)
    paces = [pace.Pace() for _ in range(workers)]
    sent, told = [0] * workers, []
    for half in [*range(20), *range(40, 60)]:
        now = NOW + half * SECOND / 2
        told.append(sum(mine.rate(half / 2, count) for mine, count in zip(paces, sent, strict=True)))
        for number, mine in enumerate(paces):
            mine.granted(grant(session, mine.want(), now))
            sent[number] = mine.tokens or 0
            for _ in range(sent[number]):
                mine.sent()
    assert max(told) <= 60.0
    assert told[8:20] == [60.0] * 12
    assert told[28:] == [60.0] * 12


def test_less_than_one_a_second_is_one_now_and_then(session: Session) -> None:
    allow(1, rate=0.25)
    grant(session, 0)
    given = [grant(session, 20, NOW + number * SECOND) for number in range(1, 13)]
    assert given == [0, 0, 0, 1] * 3


def test_a_new_rate_counts_from_the_next_grant(session: Session) -> None:
    allow(1, rate=10)
    grant(session, 0)
    limits.change(session=session, now=NOW, connections=None, rate=100.0)
    assert grant(session, 1000, NOW + SECOND) == 100
    limits.change(session=session, now=NOW, connections=None, rate=2.0)
    assert grant(session, 1000, NOW + 2 * SECOND) == 2
    limits.change(session=session, now=NOW, connections=None, rate=0.0)
    assert grant(session, 1000, NOW + 3 * SECOND) is None


def test_a_worker_whose_clock_is_behind_gets_nothing_extra(session: Session) -> None:
    allow(1, rate=10)
    grant(session, 0)
    assert grant(session, 100, NOW + SECOND) == 10
    assert grant(session, 100, NOW - timedelta(hours=1)) == 0
    assert grant(session, 100, NOW + SECOND) == 0


def test_workers_that_ask_at_once_get_no_more_together_than_the_rate(app: flask.Flask) -> None:
    allow(1, rate=50)
    with db.transaction() as session:
        grant(session, 0)
    given: list[int | None] = []

    def ask(moments: list[datetime]) -> None:
        with app.app_context():
            for moment in moments:
                with db.transaction() as session:
                    found = grant(session, 20, moment)
                given.append(found)

    moments = [NOW + number * SECOND / 10 for number in range(1, 21)]  # two seconds
    workers = [threading.Thread(target=ask, args=(moments,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert len(given) == 4 * 20
    assert 50 <= sum(found or 0 for found in given) <= 2 * 50 + 50
    with db.transaction() as session:
        row = breaker.look(session=session)
        assert 0 <= row.tokens <= 50
        assert sum(found or 0 for found in given) + row.tokens <= 2 * 50 + 0.001


def test_who_asks_while_another_is_being_given_waits_and_sees_what_is_left(app: flask.Flask) -> None:
    allow(1, rate=10)
    with db.transaction() as session:
        grant(session, 0)
    later = NOW + SECOND
    second: list[int | None] = []
    beside = races.Beside(app, lambda session: second.append(grant(session, 8, later)))
    with db.transaction() as session:
        first = grant(session, 8, later)
        beside.start()
    assert beside.refusal() is None
    assert (first, second) == (8, [2])


def test_a_row_of_an_older_version_has_a_bucket_too(session: Session) -> None:
    allow(1, rate=10)
    breaker.relay(session=session, now=NOW)
    session.execute(update(Relay).values(filled_at=None))
    assert grant(session, 5) == 0
    assert grant(session, 5, NOW + SECOND) == 5


def test_who_joins_waits_until_the_others_have_heard_of_it(app: flask.Flask) -> None:
    settings.use(settings.current().model_copy(update={"relay_connections": 8, "relay_rate": 0.0}))
    soon = NOW + timedelta(seconds=0.5)
    with db.transaction() as session:
        assert limits.join(session=session, now=NOW, name="first").connections == 8
        second = limits.join(session=session, now=NOW, name="second")
        assert (second.connections, second.waits) == (0, True)
    with db.transaction() as session:
        for name in ("first", "second"):
            share = limits.report(session=session, now=soon, name=name, issue_id=1, connections=0, rate=0.0)
            assert share.connections == 4
        assert limits.join(session=session, now=soon, name="second").connections == 4
