"""Who had what: each recipient's row in the database against the sink's list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from service.delivery.books import Books
from tests.chaos.stage import Row

AT_THE_SINK = ("taken", "hidden")
SAY = 5  # so many of each fault are named


@dataclass
class Allowed:
    """`doubts`: how many may be uncertain. `exact`: just those at whom the sink dropped the line are.
    `unsent`: the round was cancelled, so who wasn't reached has no row, or was given up.
    `twice`: of whom nothing can know; they are counted, and no fault.
    """

    doubts: int = 0
    exact: bool = False
    unsent: bool = False
    twice: int = 0


@dataclass
class Verdict:
    readers: int
    sent: int = 0
    missing: int = 0
    twice: int = 0
    uncertain: int = 0
    refused: int = 0
    balance: bool = False
    faults: list[str] = field(default_factory=list)


def judge(
    rows: Sequence[Row], events: Mapping[str, list[str]], books: Books, readers: int, allowed: Allowed
) -> Verdict:
    times = {email: sum(word in AT_THE_SINK for word in words) for email, words in events.items()}
    outcomes = Counter(row.outcome for row in rows)
    twice = [email for email, count in times.items() if count > 1]
    missing = [row for row in rows if not times.get(row.email) and not _explained(row, events, allowed)]
    verdict = Verdict(
        readers=readers,
        sent=sum(count > 0 for count in times.values()),
        missing=len(missing),
        twice=len(twice),
        uncertain=outcomes["uncertain"],
        refused=outcomes["rejected"] + outcomes["given_up"],
        balance=_balance(books, outcomes, readers, left=sum(row.left and not row.outcome for row in rows)),
    )
    named = {
        "missing": [f"{row.email} ({row.outcome or 'no row'} {row.status})" for row in missing],
        "twice": [f"{email} ({' '.join(events[email])})" for email in twice] if len(twice) > allowed.twice else [],
        "at the sink and not recorded so": [
            f"{row.email} ({row.outcome or 'no row'} {row.status})"
            for row in rows
            if times.get(row.email) and row.outcome not in ("accepted", "uncertain")
        ],
        "strangers": sorted({*events} - {row.email for row in rows}),
        "another's mail": [email for email, words in events.items() if "mixed" in words],
        "doubt at the wrong ones": list(_wrong_doubts(rows, events)) if allowed.exact else [],
    }
    verdict.faults += [f"{len(who)} {what}: {', '.join(who[:SAY])}" for what, who in named.items() if who]
    if verdict.uncertain > allowed.doubts:
        doubted = [
            f"{row.email} ({' '.join(events.get(row.email, ['never']))})" for row in rows if row.outcome == "uncertain"
        ]
        verdict.faults.append(f"uncertain {verdict.uncertain} > {allowed.doubts}: {', '.join(doubted[:SAY])}")
    if len(rows) != readers:
        verdict.faults.append(f"{len(rows)} rows for {readers} readers")
    if not verdict.balance:
        verdict.faults.append(f"the books don't balance: {books}, rows {dict(outcomes)}")
    return verdict


def _explained(row: Row, events: Mapping[str, list[str]], allowed: Allowed) -> bool:
    """Why somebody isn't at the sink."""
    if row.outcome == "uncertain":
        return True
    if row.outcome == "rejected":
        return "550" in events.get(row.email, [])
    if row.left and not row.outcome:
        return True
    return allowed.unsent and row.outcome in ("", "given_up")


def _wrong_doubts(rows: Sequence[Row], events: Mapping[str, list[str]]) -> Iterator[str]:
    for row in rows:
        words = events.get(row.email, [])
        if (row.outcome == "uncertain") != bool({"hidden", "lost"} & {*words}):
            yield f"{row.email} ({row.outcome or 'no row'}; sink: {' '.join(words)})"


def _balance(books: Books, outcomes: Counter[str], readers: int, left: int) -> bool:
    """By the house's own count, and its count is ours."""
    columns = ("accepted", "deferred", "rejected", "given_up", "uncertain")
    same = all(getattr(books, name) == outcomes[name] for name in columns)
    return books.balance and same and books.audience == readers and books.left == left
