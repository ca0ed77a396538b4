"""The short form of `make chaos`: a few of its stories, with a few thousand readers, on one set of servers."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import pytest

from tests.chaos.play import Story, play
from tests.chaos.stage import Servers, Stage
from tests.chaos.stories import STORIES

SEED = secrets.randbelow(10_000)
SHORT = [story for story in STORIES if story.short]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(Servers(tmp_path_factory.mktemp("chaos")))
        yield stack.enter_context(Stage(servers, "short", SEED, batch_size=200, lease_seconds=3).open())


@pytest.mark.parametrize("story", SHORT, ids=[story.name for story in SHORT])
def test_nobody_is_missed_nobody_has_it_twice_and_the_books_balance(story: Story, stage: Stage) -> None:
    _, verdict = play(story, stage, seed=SEED, short=True)
    assert verdict.faults == [], f"{story.title}, seed {SEED}: {verdict}"
    assert verdict.sent + verdict.uncertain + verdict.refused >= verdict.readers
