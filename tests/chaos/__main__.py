"""`python -m tests.chaos [STORY…] [--short] [--seed N] [--readers N] [--rate N] [--keep FOLDER]`

Prints a line for each story; exit status 1 when anybody was missed or had it twice, or the books are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from tests.chaos.judge import Verdict
from tests.chaos.play import Play, Story, play
from tests.chaos.stage import Servers, Stage
from tests.chaos.stories import STORIES

HEAD = f"{'story':<58} readers {'sent':>7} missing twice {'uncertain':>13} refused books {'s':>4}"


def line(found: Play, verdict: Verdict) -> str:
    title = f"{found.story.name:<10} {found.story.title}"
    doubts = f"{verdict.uncertain} (≤ {found.allowed.doubts})"
    return (
        f"{title:<58} {verdict.readers:>7} {verdict.sent:>7} {verdict.missing:>7} {verdict.twice:>5} {doubts:>13} "
        f"{verdict.refused:>7} {'yes' if verdict.balance else 'NO':<5} {time.monotonic() - found.started:>4.0f}"
        f"{'  ' + '; '.join(found.notes) if found.notes else ''}"
    )


@contextlib.contextmanager
def theatre(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield Path(tempfile.mkdtemp(dir=keep))
        return
    with tempfile.TemporaryDirectory(prefix="vinkje-chaos-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def chosen(names: Sequence[str], *, short: bool) -> list[Story]:
    """A letter means all that begin with it."""
    wanted = [
        story for story in STORIES if not names or any(story.name.split("-")[0] == n or story.name == n for n in names)
    ]
    return [story for story in wanted if story.short or not short or names]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("stories", nargs="*", metavar="STORY", help=", ".join(story.name for story in STORIES))
    parser.add_argument("--short", action="store_true", help="a few stories with a few thousand readers")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    parser.add_argument("--readers", type=int, default=0)
    parser.add_argument("--rate", type=float, help="messages a second that the sink takes; 0: as many as come")
    parser.add_argument("--keep", type=Path, help="keep logs and lists here")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    print(f"seed {given.seed}\n{HEAD}", flush=True)
    wrong = 0
    with theatre(given.keep) as folder, Servers(folder) as servers:
        for story in chosen(given.stories, short=given.short):
            if given.rate is not None:
                story = replace(story, rate=given.rate)
            with Stage(servers, story.name, given.seed, embedded=story.embedded).open() as stage:
                found, verdict = play(story, stage, seed=given.seed, short=given.short, readers=given.readers)
                print(line(found, verdict), flush=True)
                for fault in verdict.faults:
                    print(f"    {fault}", flush=True)
            wrong += bool(verdict.faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
