"""What went out since the last record, so that who takes over from a dead worker knows (design: the round, 6 and 8).

For each message a mark before its content goes out and one after the relay's answer, appended without
waiting: to Redis, or to a file when there is no Redis. A process that is killed leaves at most one message a
connection without its second mark. The marks of a batch are kept per fencing token, so a worker
that comes back with an old lease can't write among those of its successor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple, Protocol

MARK = struct.Struct("<IB")  # subscriber's distance from the batch's first, and a Sign


class Sign(IntEnum):
    GOING = 1  # its content goes out now
    ACCEPTED = 2
    NOT_TAKEN = 3


class Told(NamedTuple):
    accepted: set[int]
    doubtful: set[int]  # going, and no answer


class Unreadable(Exception):
    """The journal can't be asked now. Whoever needs it must wait."""


class Journal(Protocol):
    """One batch at a time; serves one thread."""

    def begin(self, batch_id: int, fence: int) -> None: ...

    def note(self, marks: bytes) -> bool:
        """False when it isn't kept: then what goes out must be recorded in the database first."""
        ...

    def drop(self) -> None:
        """All of it is recorded."""
        ...

    def read(self, batch_id: int, fences: Iterable[int]) -> list[bytes]:
        """Raises Unreadable. What is gone is empty."""
        ...

    def forget(self, batch_id: int, fences: Iterable[int]) -> None:
        """What `read` gave is recorded. It may stay when there is trouble."""
        ...


def tell(journals: Iterable[bytes], first_id: int) -> Told:
    """A mark that was cut off in the middle wasn't followed by anything going out."""
    told = Told(set(), set())
    for kept in journals:
        whole = len(kept) - len(kept) % MARK.size
        for distance, sign in MARK.iter_unpack(kept[:whole]):
            number = first_id + distance
            told.doubtful.discard(number)
            if sign == Sign.ACCEPTED:
                told.accepted.add(number)
            elif sign == Sign.GOING:
                told.doubtful.add(number)
    return Told(told.accepted, told.doubtful - told.accepted)
