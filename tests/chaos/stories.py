"""The stories, each one kind of mischief. `make chaos` plays all of them; docs name them by their letter."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from sqlalchemy import Connection, text

from service import db
from tests import processes
from tests.chaos.judge import Allowed
from tests.chaos.parts import Wire
from tests.chaos.play import Play, Story

Deed = tuple[str, Callable[[], object]]
STOP_SECONDS = 10.0  # in which a worker that is asked to stop must have stopped
LOCKED_SECONDS, TICK_PATIENCE = 60.0, 20.0
LOST_SECONDS = 1.0  # what a worker has sent and not recorded, with a margin for a busy machine


def killed(play: Play) -> None:
    kills = 2 if play.short else 20
    for _ in play.moments(kills):
        play.kill()
    play.notes.append(f"{kills} kills")


def children_killed(play: Play) -> None:
    for _ in play.moments(10):
        play.kill_child()
    play.notes.append("10 kills")


def killed_at_home(play: Play) -> None:
    """One process, SQLite, and the journal in a file."""
    kills = 2 if play.short else 10
    for _ in play.moments(kills):
        play.kill("up")
    play.notes.append(f"{kills} kills")


def readers_leave(play: Play) -> None:
    """And workers die meanwhile: a takeover reads the audience again."""
    for number, _ in enumerate(play.moments(10, 0.02, 0.7)):
        if number % 3 == 2:
            play.kill()
        else:
            play.stage.leave(play.issue_id, one_in=50, which=number)


def stopped(play: Play) -> None:
    longest = 0.0
    for _ in play.moments(10):
        name = play.at_work()
        before = time.monotonic()
        status = play.stage.crew[name].stop(seconds=60)
        longest = max(longest, time.monotonic() - before)
        if status:
            play.faults.append(f"SIGTERM: exit status {status}")
        play.stage.staff(name)
    play.notes.append(f"10 times, the slowest took {longest:.1f} s")
    if longest > STOP_SECONDS:
        play.faults.append(f"a worker took {longest:.1f} s to stop")


def redis(play: Play) -> None:
    for number, _ in enumerate(play.moments(2)):
        if number:
            play.stage.valkey.empty()
        else:
            play.stage.valkey.restart(_away(play))


def postgres(play: Play) -> None:
    for number, _ in enumerate(play.moments(2)):
        play.stage.postgres.restart("immediate" if number else "fast", _away(play))


def _away(play: Play) -> float:
    """Seconds that a server is down; in the long form it may be longer than a lease."""
    return play.chance.uniform(0, 1 if play.short else 2 * play.stage.lease)


def relay_late(play: Play) -> None:
    processes.wait_until(lambda: play.stage.state(play.issue_id) != "approved", 30, "the round doesn't start")
    play.pause(3 if play.short else 60)
    play.stage.sink.start()
    play.stage.sink.order(rate=play.story.rate)


def relay_killed(play: Play) -> None:
    for _ in play.moments(1, 0.2, 0.7):
        play.allowed.doubts += play.stage.sink.order()["open"]
        play.stage.sink.kill()
        play.pause(3 if play.short else 10)
        play.stage.sink.start()


def relay_silent(play: Play) -> None:
    """For longer than a lease: whoever holds a batch keeps it, and nobody is in doubt."""
    for _ in play.moments(2):
        play.stage.sink.freeze(3 * play.stage.lease)


def busy_relay(play: Play) -> None:
    play.stage.sink.order(at_first=5, full=100, tired=50)


def refusals(play: Play) -> None:
    play.stage.sink.order(unknown=2)
    for number, _ in enumerate(play.moments(1 if play.short else 3)):
        play.stage.sink.order(refuse=("rcpt", "dot", "mail")[number])
        play.pause(10)
        play.stage.sink.order(refuse="")


def dropped_lines(play: Play) -> None:
    """As many readers are in doubt as lines were dropped, and just those."""
    drops = 30
    play.stage.sink.order(drops=drops, drop_one_in=play.readers // (3 * drops))
    play.allowed.doubts, play.allowed.exact = drops, True
    play.reach(0.98)
    left = play.stage.sink.order()["drops"]
    if left:
        play.faults.append(f"{left} of {drops} lines weren't dropped")


def cut_off(play: Play) -> None:
    """From Redis only: the database knows all."""
    with Wire(play.stage.valkey.port) as wire:
        play.stage.staff("third", REDIS_URL=f"redis://127.0.0.1:{wire.port}/0")
        play.stage.ready("third")
        _partition(play, 60, wire)


def cut_off_from_database(play: Play) -> None:
    """For longer than its lease, with Redis at hand."""
    with Wire(play.stage.postgres.socket) as wire:
        play.stage.staff("third", DATABASE_URL=_through(wire, play))
        play.stage.ready("third")
        _partition(play, 4 * play.stage.lease, wire)


def cut_off_from_both(play: Play) -> None:
    """For longer than its lease, and back with it. What it sent before it knew is in no record."""
    play.allowed.twice = int(LOST_SECONDS * play.story.rate)
    with Wire(play.stage.valkey.port) as redis_wire, Wire(play.stage.postgres.socket) as postgres_wire:
        play.stage.staff(
            "third",
            REDIS_URL=f"redis://127.0.0.1:{redis_wire.port}/0",
            DATABASE_URL=_through(postgres_wire, play),
        )
        play.stage.ready("third")
        _partition(play, 4 * play.stage.lease, redis_wire, postgres_wire)


def _through(wire: Wire, play: Play) -> str:
    return f"postgresql://postgres@127.0.0.1:{wire.port}/{play.stage.database}"


def _partition(play: Play, seconds: float, *wires: Wire) -> None:
    for _ in play.moments(1, 0.1, 0.3):
        processes.wait_until(lambda: play.stage.connections("third") or play.over(), 60, "the third isn't at work")
        most = play.stage.connections("third")
        for wire in wires:
            wire.cut()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            most = max(most, play.stage.connections("third"))  # until it knows, it may open more
            play.pause(0.2)
        for wire in wires:
            wire.mend()
        play.allowed.doubts += most
    play.finish()  # while the wires are whole


def lock_held(play: Play) -> None:
    """A worker's machine vanishes in the middle of a transaction, and PostgreSQL isn't told: it goes on holding
    that worker's batch. The clock and the others mustn't wait for it.
    """
    longest = 0.0
    for _ in play.moments(1, 0.2, 0.4):
        with db.db.engine.connect() as vanished:  # with the house's own session settings
            query = "SELECT id FROM batches WHERE issue_id = :issue AND state = 'sending' LIMIT 1 FOR UPDATE"
            processes.wait_until(
                functools.partial(_first, vanished, query, play.issue_id), 30, "no batch is held", pause=0
            )
            most = 0
            end = time.monotonic() + LOCKED_SECONDS
            while time.monotonic() < end:
                most = max(most, *(play.stage.connections(name) for name in play.story.workers))
                longest = max(longest, play.stage.since_tick())
                play.pause(0.5)
            vanished.invalidate()
        play.allowed.doubts += most  # the worker is alive here, and can't prolong its lease
    play.notes.append(f"longest between ticks {longest:.0f} s")
    if longest > TICK_PATIENCE:
        play.faults.append(f"the clock stood still for {longest:.0f} s")


def _first(connection: Connection, query: str, issue_id: int) -> int | None:
    return connection.execute(text(query), {"issue": issue_id}).scalar()


def frozen(play: Play) -> None:
    """A machine that hangs for longer than its lease, and goes on as if nothing had happened."""
    for _ in play.moments(2 if play.short else 5):
        name = play.at_work()
        play.allowed.doubts += play.stage.connections(name)
        play.stage.freeze(name)
        play.pause(2 * play.stage.lease)
        play.stage.thaw(name)


def paused(play: Play) -> None:
    for _ in play.moments(5, 0.05, 0.8):
        _operator(play, "pause")
        _still(play)
        _operator(play, "resume")


def cancelled(play: Play) -> None:
    for _ in play.moments(1, 0.2, 0.8):
        _operator(play, "cancel")
        _still(play)
    # A worker that holds a batch records what it knows, or another does after its lease.
    play.pause(2 * play.stage.lease)


def _operator(play: Play, deed: str) -> None:
    processes.vinkje("issue", deed, str(play.issue_id), env=play.stage.env)


def _still(play: Play) -> None:
    """Nothing goes out from a second after the word on."""
    play.pause(1)
    before = play.stage.sink.taken()
    play.pause(play.chance.uniform(1, 4))
    more = play.stage.sink.taken() - before
    if more:
        play.faults.append(f"{more} mails went out more than a second after the word")


def emptied_and_killed(play: Play) -> None:
    """The journal is gone with who kept it, so nobody can know of what that worker sent since its last record, half
    a second before: they have it twice. Nobody is missed.
    """
    kills = 1 if play.short else 5
    for _ in play.moments(kills):
        deeds: list[Callable[[], object]] = [play.stage.valkey.empty, functools.partial(play.kill, play.at_work())]
        play.chance.shuffle(deeds)
        deeds[0]()
        play.pause(play.chance.uniform(0, 0.8))
        deeds[1]()
    play.allowed.twice = int(kills * LOST_SECONDS * play.story.rate)
    play.notes.append(f"of each at most {play.allowed.twice // kills}: {LOST_SECONDS} s of the round")


def everything(play: Play) -> None:
    """A bad day, in any order. But Redis and a worker aren't lost together: that is a story of its own."""
    drops = 5
    play.stage.sink.order(
        at_first=2, full=200, tired=80, unknown=1, drops=drops, drop_one_in=play.readers // (3 * drops)
    )
    play.allowed.doubts += drops
    redis_first = play.short or play.chance.random() < 0.5
    away = functools.partial(play.chance.uniform, 0, 1)
    of_redis: list[Deed] = [
        ("Redis emptied", play.stage.valkey.empty),
        ("Redis away", lambda: play.stage.valkey.restart(away())),
    ]
    of_others: list[Deed] = [
        ("kill -9", play.kill),
        ("PostgreSQL away", lambda: play.stage.postgres.restart("fast", away())),
        ("PostgreSQL crashed", lambda: play.stage.postgres.restart("immediate", away())),
    ]
    for deeds in (of_redis, of_others):
        play.chance.shuffle(deeds)
        del deeds[-1 if play.short else len(deeds) :]
    order = [*of_redis, *of_others] if redis_first else [*of_others, *of_redis]
    play.notes.append(", ".join(name for name, _ in order))
    for number, _ in enumerate(play.moments(len(order))):
        if number == len(order) - len(of_redis if not redis_first else of_others):
            # The journal must be whole again, or read by who took over.
            if redis_first:
                play.pause(2)
            else:
                _taken_over(play)
        order[number][1]()


def _taken_over(play: Play) -> None:
    """Wait until somebody has read what the dead worker's journal knows."""
    before = time.monotonic()
    play.pause(play.stage.lease + 1)
    processes.wait_until(lambda: not play.stage.orphans(play.issue_id), play.patience, "nobody takes over")
    play.notes.append(f"taken over within {time.monotonic() - before:.0f} s")


STORIES = (
    Story("a", "workers killed with -9", killed, 50_000, short=2000, rate=800),
    Story("a-child", "only the process that sends killed", children_killed, 20_000, rate=400),
    Story("b", "workers asked to stop", stopped, 20_000, rate=400),
    Story("c", "Redis restarted, then emptied", redis, 20_000, rate=800),
    Story("d", "PostgreSQL restarted, and crashed", postgres, 20_000, rate=800),
    Story("e", "relay down at the start", relay_late, 20_000, short=2000, rate=2000, later=True),
    Story("f", "relay killed midway, and back", relay_killed, 20_000, rate=1000),
    Story("f-silent", "relay silent for longer than a lease", relay_silent, 20_000, rate=1000),
    Story("g", "451, 452 and 421 all the time", busy_relay, 20_000, rate=1000, hurry=True),
    Story("h", "550 to 2 %, 554 to all for a while", refusals, 20_000, rate=1000),
    Story("i", "lines dropped after the dot, before the reply", dropped_lines, 20_000, short=3000, rate=2000),
    Story("j", "one of three workers cut off from Redis", cut_off, 50_000, rate=500, others=("clock", "beat", "beat2")),
    Story(
        "j-database", "cut off from PostgreSQL, back with an old lease", cut_off_from_database, 20_000, rate=500,
        others=("clock", "beat", "beat2"),
    ),
    Story(
        "j-both", "cut off from both, back with an old lease", cut_off_from_both, 20_000, rate=500,
        others=("clock", "beat", "beat2"),
    ),
    Story("j-locked", "a machine vanishes in mid-transaction", lock_held, 20_000, rate=400),
    Story("j-frozen", "workers frozen for longer than the lease", frozen, 20_000, rate=400),
    Story("k", "paused and resumed", paused, 20_000, rate=400),
    Story("k-cancel", "cancelled midway", cancelled, 20_000, rate=400, allowed=Allowed(unsent=True)),
    Story("l", "Redis emptied and a worker killed at once", emptied_and_killed, 20_000, rate=800),
    Story("m", "all of it on one day", everything, 20_000, short=2000, rate=800, hurry=True),
    Story("n", "readers leave midway, workers die", readers_leave, 20_000, rate=400),
    Story(
        "o", "`vinkje up`: killed with -9, SQLite", killed_at_home, 20_000, rate=400,
        workers=("up",), others=(), embedded=True,
    ),
)  # fmt: skip
