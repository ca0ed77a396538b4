"""Where the bars of a chart stand (newsroom/_chart.svg). It draws what is shown, never the true count: a bar is full
up to what is certain, and an outline from there to what may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.delivery.stats_shown import NOBODY, Shown

STEP, GAP, HEIGHT = 10, 2, 100


@dataclass(frozen=True)
class Bar:
    """`y` from the top."""

    kind: str  # up, down
    sure: bool
    x: float
    y: float
    height: float


@dataclass(frozen=True)
class Chart:
    """`most_up` and `most_down`: the number (of the column) that reaches furthest, None when all is 0."""

    width: int
    axis: float
    bars: list[Bar]
    most_up: int | None
    most_down: int | None


def of(ups: Sequence[Shown], downs: Sequence[Shown] = ()) -> Chart:
    """In the order in which they're drawn, from left to right."""
    up, down = _furthest(ups), _furthest(downs)
    tall, deep = (ups[up].high if up is not None else 0), (downs[down].high if down is not None else 0)
    scale = HEIGHT / (tall + deep or 1)
    axis = round(tall * scale, 2)
    bars = []
    for number, count in enumerate(ups):
        low, high = count.low * scale, count.high * scale
        bars += _pair("up", number, (axis - low, low), (axis - high, high - low))
    for number, count in enumerate(downs):
        low, high = count.low * scale, count.high * scale
        bars += _pair("down", number, (axis, low), (axis + low, high - low))
    return Chart(max(len(ups), 1) * STEP, axis, bars, up, down)


def _pair(kind: str, number: int, sure: tuple[float, float], maybe: tuple[float, float]) -> list[Bar]:
    x = number * STEP + GAP / 2
    found = [(True, *sure), (False, *maybe)]
    return [Bar(kind, known, x, round(y, 2), round(height, 2)) for known, y, height in found if height]


def _furthest(counts: Sequence[Shown]) -> int | None:
    known = [(count.low + count.high, number) for number, count in enumerate(counts) if count != NOBODY]
    return max(known)[1] if known else None
