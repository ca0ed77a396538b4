"""Whose turn it is in a pass over a batch, and who is charged when the relay refuses or hangs up. Pure.

Only what the relay takes for others tells whether it minds a reader or us. Who was refused for a reason of
ours (5.7.x, requirements 1.10), or was there when the line ended twice, steps aside. Once a mail that was
begun after that is taken, it was about them: they are deferred, and rejected when it happens again at a later
try. As long as nothing is taken nobody is charged, and after MOST of them the relay itself is in trouble.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from service.delivery import outcomes
from service.delivery.outcomes import MOST_REFUSALS, Reader, Result, Verdict

MOST_BREAKS = 10  # ends of a line, while nothing is taken: the relay hangs up on everybody


class Aside(NamedTuple):
    """`turn` is when it happened, in turns. `refused` is false when the line ended."""

    reader: Reader
    status: str
    turn: int
    refused: bool


class Trials:
    """`seed` shuffles: whoever held up the last pass shouldn't stand in front again, and a row of readers
    at one domain shouldn't look like everybody. `clock` gives now.
    """

    def __init__(self, readers: Sequence[Reader], *, seed: int, clock: Callable[[], datetime]) -> None:
        order = list(readers)
        random.Random(seed).shuffle(order)  # noqa: S311  # no secret
        self._queue = deque(order)
        self._clock = clock
        self._turn = 0
        self._begun: dict[int, int] = {}  # subscriber → turn, of those under way
        self._struck: dict[int, int] = {}  # subscriber → turn at which the line ended
        self._bad: set[str] = set()
        self._taken: list[Reader] = []
        self.aside: list[Aside] = []
        self.breaks = 0  # ends of a line since a mail was taken

    @property
    def empty(self) -> bool:
        """Nobody waits; some may still be under way, and come back."""
        return not self._queue

    @property
    def good(self) -> set[str]:
        """The domains for which a mail was taken. Asked seldom: so it isn't kept up for each mail."""
        return {reader.domain for reader in self._taken}

    @property
    def suspicious(self) -> bool:
        """So much trouble and nothing taken: is it the relay?"""
        if self.breaks >= MOST_BREAKS:
            return True
        return bool(self.aside) and sum(1 for one in self.aside if not one.reader.attempts) >= MOST_REFUSALS

    def next(self) -> Reader:
        """Only while not `empty`."""
        reader = self._queue.popleft()
        self._turn += 1
        self._begun[reader.subscriber_id] = self._turn
        return reader

    def took(self, reader: Reader) -> list[Result]:
        """The relay took this reader's mail. Gives what is now known of those who stood aside."""
        begun = self._begun.pop(reader.subscriber_id)
        self._taken.append(reader)
        self.breaks = 0
        if not self.aside:
            return []
        proven = [one for one in self.aside if one.turn < begun]
        self.aside = [one for one in self.aside if one.turn >= begun]
        return self.charge(proven, proven=True)

    def answered(self, reader: Reader) -> None:
        """It had an answer of its own, which says nothing about others."""
        self._begun.pop(reader.subscriber_id, None)

    def refused(self, reader: Reader, status: str) -> list[Result]:
        """For a reason of ours."""
        del self._begun[reader.subscriber_id]
        one = Aside(reader, status, self._turn, refused=True)
        if reader.domain in self._bad:
            return self.charge([one], proven=False)
        self.aside.append(one)
        return []

    def back(self, reader: Reader) -> None:
        """It wasn't sent, through no fault of its own: its turn comes again."""
        del self._begun[reader.subscriber_id]
        self._queue.append(reader)

    def broke(self, reader: Reader, status: str) -> None:
        """The line ended while the relay was at this one. The first time it gets another turn, after the others."""
        begun = self._begun.pop(reader.subscriber_id)
        before = self._struck.get(reader.subscriber_id)
        if before is None or before >= begun:
            self._struck[reader.subscriber_id] = self._turn
            self._queue.append(reader)
        else:
            self.aside.append(Aside(reader, status, self._turn, refused=False))

    def charge(self, asides: Iterable[Aside], *, proven: bool) -> list[Result]:
        """Deferred; when the relay took mails of others after it refused them at a second try, rejected."""
        results = []
        for one in asides:
            final = proven and one.refused and one.reader.attempts > 0
            verdict = Verdict.REFUSED if final else Verdict.LATER
            results.append(outcomes.result(reader=one.reader, verdict=verdict, status=one.status, now=self._clock()))
        return results

    def blame(self, domain: str) -> None:
        """It is about this domain: its next ones don't make the relay suspicious."""
        self._bad.add(domain)

    def leave(self) -> list[Aside]:
        """Everybody who stands aside, who don't any more."""
        asides, self.aside = self.aside, []
        self.breaks = 0
        return asides
