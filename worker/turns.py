"""Whose turn it is in a pass over a batch, so that no reader can hold up the others.

Who was refused for a reason of ours, or at whom the relay broke the line, steps aside until the relay has
taken a mail for somebody else: then it was about them. Pure.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from service.delivery.outcomes import FEW_REFUSALS, Reader, Result

# In a row. A relay that breaks the line at so many has had enough of us.
MOST_BREAKS = 5
# After so many breaks in a row somebody else is tried, as after FEW_REFUSALS.
SOON = 2


class Turns:
    """`claims` is how often the batch was claimed. Not the first time it begins elsewhere: whoever held up
    the last pass shouldn't stand in front again.
    """

    def __init__(self, readers: Sequence[Reader], *, claims: int) -> None:
        order = list(readers)
        if claims > 1:
            random.Random(claims).shuffle(order)  # noqa: S311  # no secret
        self._queue = deque(order)
        self._bad: set[str] = set()
        self.good: set[str] = set()  # domains for which a mail was taken
        self.suspects: list[Result] = []
        self.breakers: list[tuple[Reader, str]] = []  # with the status of their break
        self.breaks = 0  # in a row
        self.last_chance = False

    @property
    def all_tried(self) -> bool:
        return not self._queue

    def next(self) -> Reader | None:
        if not self._queue and self.good and not self.last_chance:
            # The line works: those at whom it broke have another try, now that nobody waits behind them.
            self.last_chance = True
            self._queue.extend(reader for reader, _ in self.breakers)
            self.breakers = []
        if not self._queue:
            return None
        if self.breaks < SOON and len(self.suspects) < FEW_REFUSALS:
            return self._queue.popleft()
        return self._somebody_else()

    def took(self, reader: Reader) -> list[Result]:
        """The relay took this reader's mail. Gives the suspects: now they are to be charged."""
        self.good.add(reader.domain)
        self._bad.update(aside.domain for aside, _ in self.breakers)
        return self.blame()

    def blame(self) -> list[Result]:
        """The suspects, who aren't any more."""
        self._bad.update(result.reader.domain for result in self.suspects)
        self._bad -= self.good
        blamed, self.suspects = self.suspects, []
        return blamed

    def blame_one_domain(self) -> None:
        """When the line broke in one domain only, and others had their mail before, it is about that domain."""
        domains = {reader.domain for reader, _ in self.breakers}
        if self.good and len(domains) == 1:
            self._bad |= domains - self.good

    def bad(self, reader: Reader) -> bool:
        """The relay has trouble with this domain, and not with others."""
        return reader.domain in self._bad

    def _somebody_else(self) -> Reader:
        """Of a domain without trouble; otherwise from the far end."""
        avoided = self._bad.union(
            (result.reader.domain for result in self.suspects), (reader.domain for reader, _ in self.breakers)
        )
        for reader in self._queue:
            if reader.domain not in avoided:
                self._queue.remove(reader)
                return reader
        return self._queue.pop()
