"""A count as it may be shown: a small count of people stays hidden (decision 0020). Pure.

Sums are worked out from what is shown of their parts, never from the parts themselves: so no sum can betray one.
"""

from __future__ import annotations

from dataclasses import dataclass

from service import i18n

BANDS = 4  # a band of readers is this many times the smallest count wide
FULL, SIGNED = "#,##0", "+#,##0;−#,##0"
PLAIN, PLAIN_SIGNED = "0", "+0;-0"


@dataclass(frozen=True)
class Shown:
    """Somewhere from `low` to `high`; known when these are the same. `about`: wide, and said by its middle."""

    low: int
    high: int
    about: bool = False

    def __add__(self, other: Shown) -> Shown:
        return Shown(self.low + other.low, self.high + other.high, self.about or other.about)

    def __sub__(self, other: Shown) -> Shown:
        return Shown(self.low - other.high, self.high - other.low, self.about or other.about)

    @property
    def known(self) -> bool:
        return self.low == self.high


NOBODY = Shown(0, 0)


def hidden(count: int, smallest: int) -> Shown:
    """People who did something: from 1 up to `smallest` they are "fewer than"."""
    return Shown(1, smallest - 1) if 0 < count < smallest else Shown(count, count)


def banded(count: int, smallest: int) -> Shown:
    """Readers at a moment: in bands, so that two moments can't be subtracted to find who came or left between."""
    width = BANDS * smallest
    if smallest == 1 or count < smallest:
        return hidden(count, smallest)
    if count < width:
        return Shown(smallest, width - 1)
    low = count - count % width
    return Shown(low, low + width - 1, about=True)


def together(*parts: Shown) -> Shown:
    return sum(parts, NOBODY)


def words(count: Shown, language: str, *, signed: bool = False) -> str:
    """As in "1,204", "fewer than 5", "7 to 10" or "about 1,230"."""
    return _said(count, language, SIGNED if signed else FULL, signed)


def plain(count: Shown, language: str = "en", *, signed: bool = False) -> int | str:
    """For machines and spreadsheets: a number where it is known, and numbers without a thousands' sign in words."""
    return count.low if count.known else _said(count, language, PLAIN_SIGNED if signed else PLAIN, signed)


def _said(count: Shown, language: str, pattern: str, signed: bool) -> str:
    if count.known:
        return _number(count.low, language, pattern)
    if count.about and not signed:
        middle = round((count.low + count.high) / 2, -1)
        return i18n.gettext(language, "about %(count)s", count=_number(int(middle), language, pattern))
    if count.low == 1 and not signed:
        return i18n.gettext(language, "fewer than %(count)s", count=_number(count.high + 1, language, pattern))
    low, high = _number(count.low, language, pattern), _number(count.high, language, pattern)
    return i18n.gettext(language, "%(low)s to %(high)s", low=low, high=high)


def _number(count: int, language: str, pattern: str) -> str:
    return "0" if count == 0 else i18n.number(language, count, pattern)
