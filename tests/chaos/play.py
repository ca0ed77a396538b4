"""One story as it is played: its moments, its mischief, and what may come of it."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from tests import processes
from tests.chaos.judge import Allowed, Verdict, judge
from tests.chaos.stage import Stage

PATIENCE, SHORT_PATIENCE = 180.0, 60.0  # for a round that must go on by itself
OVER = ("sent", "cancelled")


@dataclass(frozen=True)
class Story:
    """`run` does the mischief while the round goes out. `rate`: messages a second that the sink takes, so that there
    is a midway to speak of; 0 for as quick as they come. `later`: the relay isn't there when the round starts.
    `hurry`: who is deferred needn't wait for real. `short`: readers in the short form, 0 to leave it out.
    """

    name: str
    title: str
    run: Callable[[Play], None]
    readers: int
    short: int = 0
    rate: float = 0.0
    later: bool = False
    hurry: bool = False
    workers: tuple[str, ...] = ("first", "second")
    others: tuple[str, ...] = ("clock", "beat")
    embedded: bool = False
    allowed: Allowed = field(default_factory=Allowed)


@dataclass
class Play:
    story: Story
    stage: Stage
    readers: int
    chance: random.Random
    short: bool
    issue_id: int = 0
    allowed: Allowed = field(default_factory=Allowed)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = 0.0

    @property
    def patience(self) -> float:
        return SHORT_PATIENCE if self.short else PATIENCE

    def moments(self, count: int, first: float = 0.05, last: float = 0.9) -> Iterator[float]:
        """Shares of the round, at random; stops with it. At each so many are at the sink."""
        shares = sorted(self.chance.uniform(first, last) for _ in range(count))
        for number, share in enumerate(shares):
            if not self.reach(share):
                self.faults.append(f"the round was over after {number} of {count} moments")
                return
            yield share

    def reach(self, share: float) -> bool:
        """Wait until so much of the audience is at the sink. False when the round was over before."""
        end, look = time.monotonic() + self.patience, 0.0
        while self.stage.sink.taken() < share * self.readers:
            now = time.monotonic()
            if now > look:
                look = now + 1
                if self.stage.state(self.issue_id) in OVER:
                    return False
                self._move_clock()
            if now > end:
                raise AssertionError(f"not {share:.0%} within {self.patience:.0f} s")
            time.sleep(0.01)
        return True

    def kill(self, name: str = "") -> None:
        """SIGKILL to the process group of one that is at work, or of this one; the same starts again at once."""
        name = name or self.at_work()
        self.allowed.doubts += self.stage.connections(name)
        self.stage.crew[name].kill()
        self.stage.staff(name)

    def kill_child(self) -> None:
        """As when memory is short: the process that sends dies, and its parent starts another."""
        name = self.at_work()
        self.allowed.doubts += self.stage.connections(name)
        self.stage.kill_children(name)

    def at_work(self) -> str:
        """A worker, at random, that has the relay on the line."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [name for name in self.story.workers if self.stage.connections(name)]
            return bool(found) or self.over()

        processes.wait_until(look, 60, "no worker is at work")
        return self.chance.choice(found or list(self.story.workers))

    def over(self) -> bool:
        return self.stage.state(self.issue_id) in OVER

    def pause(self, seconds: float) -> None:
        """Let time go by: that is the story, not a hope."""
        time.sleep(seconds)

    def finish(self) -> None:
        """Wait for the end of the round. Whoever should come to it by then and doesn't, is missing."""
        end = time.monotonic() + self.patience
        while not self.over():
            if time.monotonic() > end:
                self.faults.append(
                    f"“{self.stage.state(self.issue_id)}” still, {self.patience:.0f} s after the last mischief"
                )
                return
            self._move_clock()
            time.sleep(0.25)

    def verdict(self) -> Verdict:
        stage = self.stage
        found = judge(
            stage.rows(self.issue_id), stage.sink.events(), stage.books(self.issue_id), self.readers, self.allowed
        )
        found.faults[:0] = self.faults
        found.faults += [f"“{name}” ended by itself" for name in stage.dead()]
        return found

    def _move_clock(self) -> None:
        if self.story.hurry:
            self.stage.hurry(self.issue_id)


def play(story: Story, stage: Stage, *, seed: int, short: bool, readers: int = 0) -> tuple[Play, Verdict]:
    """On an open stage. Raises nothing for what the house does wrong: it stands in the verdict."""
    readers = readers or (story.short if short else story.readers)
    started = Play(story, stage, readers, random.Random(f"{seed} {story.name}"), short)
    started.allowed = Allowed(**vars(story.allowed))
    stage.sink.kill()
    stage.sink.begin()
    slug = story.name
    started.issue_id = stage.issue(slug, readers)
    stage.staff(*story.others, *story.workers)
    stage.ready(*(name for name in (*story.others, *story.workers) if not name.startswith("beat")))
    if not story.later:
        stage.sink.start()
        stage.sink.order(rate=story.rate)
    started.started = time.monotonic()
    stage.start_round(started.issue_id)
    try:
        story.run(started)
        started.finish()
    except (AssertionError, OSError, subprocess.SubprocessError, SQLAlchemyError) as fault:
        started.faults.append(f"{type(fault).__name__}: {fault}")
    return started, started.verdict()
