"""Where a reader's links come in an edition that is encoded already, so that a message is one join of byte strings.

Quoted-printable breaks its lines by counting. So where a link is broken in two depends on its length and not on its
letters, as long as none of them has to be escaped. That is found out once for links of one shape, by encoding the
edition with stand-ins for the links' characters, and then holds for every reader whose links have that shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

# A shape keeps what matters: the length, and where the dots are, since one at a line's start is doubled.
SHAPE = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_/[]", b"x" * (26 + 26 + 10 + 5)
)
# No escapes, no "@" and a colon: no mark of service/wire.py can arise from it and what stands around it.
STEADY = re.compile(rb"x+:[x.:]+")
# Beyond the octets, which an encoder sees as the first 256 characters.
FIRST, LAST = 0x100000, 0x10FFFF
STAND_INS = re.compile(f"[{chr(FIRST)}-{chr(LAST)}]+")


def steady(shape: bytes) -> bool:
    """Whether stand-ins for a link of this shape are encoded as the link itself is."""
    return STEADY.fullmatch(shape) is not None


def stand_ins(start: int, end: int) -> str:
    """For the octets of a reader's links, all of them one after another, from `start` to before `end`."""
    return "".join(map(chr, range(FIRST + start, FIRST + end)))


def stuffed(text: str, shape: bytes = b"") -> tuple[str, int]:
    """With a second dot before each at a line's start (RFC 5321 §4.5.2), and how many there are."""
    dots = [chr(FIRST + place) for place, octet in enumerate(shape) if octet == ord(".")]
    return re.subn(f"(?m)^(?=[.{''.join(dots)}])", ".", text)


@dataclass(frozen=True, slots=True)
class Spotted:
    """Octets with gaps. The `parts`: room for a beginning, what is everybody's, a gap, everybody's, and so on."""

    parts: list[bytes]
    gaps: tuple[slice, ...]

    def fill(self, beginning: bytes, links: bytes) -> bytes:
        parts = self.parts.copy()
        parts[0] = beginning
        parts[2::2] = [links[gap] for gap in self.gaps]
        return b"".join(parts)


def spotted(text: str) -> Spotted:
    """Of a text whose characters are octets and stand-ins."""
    parts, gaps, done = [b""], [], 0
    for start, end, gap in _runs(text):
        parts += [text[done:start].encode("latin-1"), b""]
        gaps.append(gap)
        done = end
    parts.append(text[done:].encode("latin-1"))
    return Spotted(parts, tuple(gaps))


def _runs(text: str) -> Iterator[tuple[int, int, slice]]:
    """Of stand-ins that follow each other as the octets do: from where to where in the text, and which octets."""
    for found in STAND_INS.finditer(text):
        places = range(found.start(), found.end())
        for step, run in groupby(places, key=lambda place: ord(text[place]) - FIRST - place):
            run_of = list(run)
            yield run_of[0], run_of[-1] + 1, slice(run_of[0] + step, run_of[-1] + 1 + step)
