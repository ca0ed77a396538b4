"""What is shown of a count, and that what is hidden stays so."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from service.delivery import stats_shown
from service.delivery.stats_shown import Shown
from service.web import stats_chart

SMALLEST = 5


@pytest.mark.parametrize(
    ("count", "english", "dutch"),
    [
        (0, "0", "0"),
        (1, "fewer than 5", "minder dan 5"),
        (4, "fewer than 5", "minder dan 5"),
        (5, "5", "5"),
        (1204, "1,204", "1.204"),
    ],
)
def test_a_small_count_of_people_is_not_said(count: int, english: str, dutch: str) -> None:
    shown = stats_shown.hidden(count, SMALLEST)
    assert (stats_shown.words(shown, "en"), stats_shown.words(shown, "nl")) == (english, dutch)


@pytest.mark.parametrize(
    ("count", "english"),
    [
        (0, "0"),
        (3, "fewer than 5"),
        (5, "5 to 19"),
        (19, "5 to 19"),
        (20, "about 30"),
        (39, "about 30"),
        (1239, "about 1,230"),
        (1240, "about 1,250"),
    ],
)
def test_readers_are_told_in_bands(count: int, english: str) -> None:
    assert stats_shown.words(stats_shown.banded(count, SMALLEST), "en") == english


def test_every_number_of_readers_lies_in_its_own_band() -> None:
    for smallest in (2, 3, 5, 10, 100):
        for count in range(10 * smallest):
            shown = stats_shown.banded(count, smallest)
            assert shown.low <= count <= shown.high
            assert all(stats_shown.banded(other, smallest) == shown for other in (shown.low, shown.high))


def test_sums_are_made_of_what_is_shown() -> None:
    seven, few = stats_shown.hidden(7, SMALLEST), stats_shown.hidden(2, SMALLEST)
    assert stats_shown.words(seven + seven, "en") == "14"
    assert stats_shown.words(seven + few, "en") == "8 to 11"
    assert stats_shown.words(seven + few, "nl") == "8 t/m 11"
    assert stats_shown.words(few + few, "en") == "2 to 8"
    assert stats_shown.words(few - seven, "en", signed=True) == "−6 to −3"
    assert stats_shown.words(seven - few, "en", signed=True) == "+3 to +6"
    assert stats_shown.words(seven - seven, "en", signed=True) == "0"
    assert stats_shown.words(stats_shown.banded(1234, SMALLEST) + few, "en") == "about 1,230"


def test_machines_get_numbers_where_there_are() -> None:
    assert stats_shown.plain(Shown(1204, 1204)) == 1204
    assert stats_shown.plain(stats_shown.hidden(4, SMALLEST)) == "fewer than 5"
    assert stats_shown.plain(Shown(1204, 1300)) == "1204 to 1300"
    assert stats_shown.plain(Shown(-3, -3), signed=True) == -3


def test_who_hides_nothing_sees_all() -> None:
    assert stats_shown.hidden(1, 1) == stats_shown.banded(1, 1) == Shown(1, 1)
    assert stats_shown.banded(1234, 1) == Shown(1234, 1234)


Counts = list[tuple[int, Shown]]  # who came (1) and who went (-1)


@dataclass
class History:
    """Twelve weeks of a theme as a page shows them: each with its counts, and its readers on some day of it."""

    weeks: list[tuple[Counts, Shown]]

    def allows(self, week: int, cell: int, value: int) -> bool:
        """Is there a story in which that count is `value`, and in which all else is as it is shown?"""
        low, high = 0, 1_000_000  # readers, when the week begins
        for number, (counts, readers) in enumerate(self.weeks):
            ends = [
                (sign, Shown(value, value) if (number, place) == (week, cell) else shown)
                for place, (sign, shown) in enumerate(counts)
            ]
            came, went = (stats_shown.together(*(shown for sign, shown in ends if sign == which)) for which in (1, -1))
            low, high = max(low, readers.low - came.high), min(high, readers.high + went.high)
            if low > high:
                return False
            low, high = low + came.low - went.high, high + came.high - went.low
        return True

    def left(self) -> list[int]:
        """For each hidden count how many numbers it may be."""
        return [
            sum(self.allows(week, cell, value) for value in range(shown.low, shown.high + 1))
            for week, (counts, _) in enumerate(self.weeks)
            for cell, (_, shown) in enumerate(counts)
            if not shown.known
        ]


def history(chance: random.Random, *, smallest_of_readers: int) -> History:
    """Each week some come and go, then an issue is accepted for whoever is a reader, then some more come and go."""
    readers = chance.randrange(60, 2000)
    found = History([])
    for _ in range(12):
        signed = [(sign, chance.choice((0, 0, chance.randrange(1, 12)))) for sign in (1, 1, 1, -1, -1, -1)]
        early = sum(sign * chance.randint(0, count) for sign, count in signed)
        seen = stats_shown.banded(readers + early, smallest_of_readers)
        found.weeks.append(([(sign, stats_shown.hidden(count, SMALLEST)) for sign, count in signed], seen))
        readers += sum(sign * count for sign, count in signed)
    return found


def test_hidden_counts_cannot_be_solved_from_how_many_readers_there_were() -> None:
    chance = random.Random(1)
    tried = [left for _ in range(100) for left in history(chance, smallest_of_readers=SMALLEST).left()]
    assert len(tried) > 500
    assert min(tried) > 1
    assert sum(left < SMALLEST - 1 for left in tried) < len(tried) / 100


def test_some_could_be_if_the_readers_were_told_exactly() -> None:
    chance = random.Random(1)
    tried = [left for _ in range(100) for left in history(chance, smallest_of_readers=1).left()]
    assert min(tried) == 1


def test_a_chart_draws_what_is_certain_and_what_may_be() -> None:
    chart = stats_chart.of([Shown(6, 6), Shown(0, 0), Shown(1, 4)], [Shown(0, 0), Shown(4, 4), Shown(1, 4)])
    assert (chart.width, chart.axis, chart.most_up, chart.most_down) == (30, 60.0, 0, 1)
    drawn = [(bar.kind, bar.sure, bar.x, bar.y, bar.height) for bar in chart.bars]
    assert drawn == [
        ("up", True, 1.0, 0.0, 60.0),
        ("up", True, 21.0, 50.0, 10.0),
        ("up", False, 21.0, 20.0, 30.0),
        ("down", True, 11.0, 60.0, 40.0),
        ("down", True, 21.0, 60.0, 10.0),
        ("down", False, 21.0, 70.0, 30.0),
    ]


def test_a_chart_of_nothing_is_a_line() -> None:
    chart = stats_chart.of([Shown(0, 0)] * 3)
    assert (chart.bars, chart.axis, chart.most_up, chart.most_down) == ([], 0, None, None)
    assert stats_chart.of([]).width > 0
