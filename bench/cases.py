"""What is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FAR_MILLISECONDS = 20.0
SMALL, LARGE = 20_000, 200_000
QUICK = 2_000


@dataclass(frozen=True)
class Case:
    """`rounds` are sent one after the other, each with smtp-source before and after it; `runs` is how often that runs
    between two, with `messages`. `far`: a round trip to the relay costs that many milliseconds more.
    """

    name: str
    readers: int
    kilobytes: int
    rounds: int = 1
    runs: int = 3
    messages: int = 10_000
    dkim: bool = False
    far: float = 0.0


def chosen(*, readers: int | None, quick: bool, only: Sequence[str]) -> list[Case]:
    """Raises ValueError for a name that isn't there."""
    if quick:
        found = _with(readers or QUICK, rounds=1, messages=2_000)
        found += _special(readers or QUICK, rounds=1, messages=2_000)
    elif readers is not None:
        found = _with(readers, rounds=3 if readers <= SMALL else 1, messages=10_000)
        if readers <= LARGE:
            found += _special(readers, rounds=1, messages=10_000)
    else:
        found = _with(SMALL, rounds=3, messages=10_000) + _with(LARGE, rounds=1, messages=10_000)
        found += _special(SMALL, rounds=3, messages=10_000)
    if unknown := set(only) - {case.name for case in found}:
        names = ", ".join(case.name for case in found)
        raise ValueError(f"no case {', '.join(sorted(unknown))}; there are: {names}")
    return [case for case in found if not only or case.name in only]


def _with(readers: int, *, rounds: int, messages: int) -> list[Case]:
    return [
        Case(f"{readers}x{size}kB", readers, size, rounds=rounds, runs=_runs(rounds), messages=messages)
        for size in (20, 4)
    ]


def _special(readers: int, *, rounds: int, messages: int) -> list[Case]:
    """One round is enough where the distance decides: it hardly varies."""
    return [
        Case("dkim", readers, 20, rounds=rounds, runs=_runs(rounds), messages=messages, dkim=True),
        Case("far-relay", readers, 20, messages=messages // 10, runs=1, far=FAR_MILLISECONDS),
    ]


def _runs(rounds: int) -> int:
    return 2 if rounds > 1 else 3
