"""The table, the promises beside it, and the page that shows the newest figures."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.cases import LARGE, SMALL
from bench.measure import Outcome

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
RESULTS = Path(__file__).with_name("results")
HEADS = (
    "case", "bytes", "mails/s", "smtp-source", "ratio", "with -d", "ratio", "from press", "first mail s",
    "CPU µs", "in kernel", "sink", "PostgreSQL", "Redis", "peak MB", "lines", "confirm p50 s", "p99 s", "of",
)  # fmt: skip
Row = tuple[str, ...]


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of them don't exceed; of few values the largest."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def row(outcome: Outcome) -> Row:
    """Medians over the rounds; for what may not be exceeded, the worst."""
    if outcome.skipped:
        return (outcome.case.name, outcome.skipped)
    rounds = outcome.rounds
    waits = [wait for each in rounds for wait in each.confirmations]
    cpu = {name: statistics.median(each.cpu_us[name] for each in rounds) for name in rounds[0].cpu_us}
    return (
        outcome.case.name,
        f"{outcome.bytes:,}",
        f"{rate(outcome):,.0f}",
        f"{statistics.median(each.reference for each in rounds):,.0f}",
        f"{ratio(outcome):.2f}",
        f"{statistics.median(each.reference_kept_open for each in rounds):,.0f}",
        f"{ratio_kept_open(outcome):.2f}",
        f"{statistics.median(each.rate_from_press for each in rounds):,.0f}",
        f"{max(each.first_mail for each in rounds):.2f}",
        f"{cpu['newsletter']:.0f}",
        f"{cpu['newsletter_in_kernel']:.0f}",
        f"{cpu['sink']:.0f}",
        f"{cpu['postgresql']:.0f}",
        f"{cpu['valkey']:.0f}",
        f"{outcome.peak_memory / 1e6:.0f}",
        str(max(each.connections for each in rounds)),
        f"{percentile(waits, 0.5):.2f}",
        f"{percentile(waits, 0.99):.2f}",
        str(len(waits)),
    )


def rate(outcome: Outcome) -> float:
    return statistics.median(each.rate for each in outcome.rounds)


def ratio(outcome: Outcome) -> float:
    """Each round beside the runs of smtp-source around it: so a slow minute slows both."""
    return statistics.median(each.rate / each.reference for each in outcome.rounds)


def ratio_kept_open(outcome: Outcome) -> float:
    return statistics.median(each.rate / each.reference_kept_open for each in outcome.rounds)


def ratio_from_press(outcome: Outcome) -> float:
    return statistics.median(each.rate_from_press / each.reference for each in outcome.rounds)


def trips(outcome: Outcome) -> float:
    """Messages a round trip on each of the connections the relay allows."""
    return rate(outcome) * outcome.case.far / 1000 / outcome.connections_allowed


def promises(outcomes: Sequence[Outcome]) -> list[tuple[str, str, bool]]:
    """What was promised, what was measured, and whether it was kept; only what these cases can tell."""
    done = {outcome.case.name: outcome for outcome in outcomes if outcome.rounds}
    small, large = done.get(f"{SMALL}x20kB"), done.get(f"{LARGE}x20kB")
    found: list[tuple[str, str, bool]] = []
    if small:
        said = f"{ratio(small):.2f} ({ratio_from_press(small):.2f} counted from the press)"
        found.append((f"{SMALL:,} × 20 kB: at least 0.9 of smtp-source -s 10", said, ratio(small) >= 0.9))
        beside = f"{ratio_kept_open(small):.2f}"
        found.append(
            (f"{SMALL:,} × 20 kB: at least 0.9 of smtp-source -d -s 10", beside, ratio_kept_open(small) >= 0.9)
        )
    if small and large:
        share = rate(large) / rate(small)
        alike = ratio(large) / ratio(small)
        said = f"{share:.2f} ({alike:.2f} when each is taken beside its own smtp-source)"
        found.append((f"{LARGE:,}: at least 0.95 of the rate at {SMALL:,}", said, share >= 0.95))
    if done:
        most = max(outcome.peak_memory for outcome in done.values()) / 1e6
        found.append(("a newsletter process stays under 150 MB", f"{most:.0f} MB", most < 150))
        waits = [wait for outcome in done.values() for each in outcome.rounds for wait in each.confirmations]
        slow = percentile(waits, 0.99)
        found.append(("confirmation mail during rounds: p99 under 2 s", f"{slow:.2f} s of {len(waits)}", slow < 2))
        largest = max(done.values(), key=lambda outcome: outcome.case.readers)
        first = max(each.first_mail for each in largest.rounds)
        found.append((f"first mail within 2 s of the press at {largest.case.readers:,}", f"{first:.2f} s", first <= 2))
    if far := done.get("far-relay"):
        said = f"{trips(far):.2f} (measured round trip {far.round_trip * 1000:.1f} ms)"
        found.append(("far relay: mails/s × 0.020 s ÷ connections at least 0.9", said, trips(far) >= 0.9))
    return found


def table(rows: Sequence[Row]) -> str:
    """As Markdown, which is readable in a terminal too."""
    full = [HEADS, *(each + ("",) * (len(HEADS) - len(each)) for each in rows)]
    widths = [max(len(each[place]) for each in full) for place in range(len(HEADS))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(each, widths, strict=True)) + " |" for each in full
    ]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join((lines[0], rule, *lines[1:]))


def kept(found: Sequence[tuple[str, str, bool]]) -> str:
    return "\n".join(f"- {'kept' if good else '**missed**'}: {what}: {measured}" for what, measured, good in found)


def write(name: str, date: str, content: Mapping[str, object]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{date}-{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def between(page: str, name: str, text: str) -> str:
    """The page with `text` where it says `<!-- name -->` … `<!-- /name -->`; as it was when it doesn't."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, found, rest = page.partition(start)
    _, closed, tail = rest.partition(end)
    return f"{head}{start}{text}\n{end}{tail}" if found and closed else page
