"""`vinkje stats`: what the newsroom's pages of that name show, small counts hidden as there (decision 0020)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from flask.cli import with_appcontext

from service import db, settings
from service.delivery import stats, stats_shown
from service.delivery.stats import Flow, Round, ThemeStats, Week

ROUND = ("audience", "accepted", "rejected", "given_up", "uncertain", "left", "unsent", "hard", "soft", "fault")
COLUMNS = ("new", "gone", "growth", "accepted", "bounced", "spam")


@click.command("stats")
@click.option("--theme", "slug", metavar="SLUG", help="Of one theme.")
@click.option("--weeks", default=12, show_default=True, type=click.IntRange(1, stats.MOST_WEEKS), help="How far back.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def show(slug: str | None, weeks: int, as_json: bool) -> None:
    """Who came and went, week by week, and what became of each issue's mails.

    A small count is shown as “fewer than”, also in JSON (SMALLEST_COUNT); a sum with such a count in it as “7 to 10”.
    """
    session, now = db.reading(), datetime.now(UTC)
    if slug is None:
        found = stats.every(session=session, now=now, weeks=weeks)
    else:
        found = [stats.of_theme(session=session, now=now, slug=slug, weeks=weeks)]
    if as_json:
        smallest = settings.current().smallest_count
        click.echo(json.dumps({"smallest_count": smallest, "themes": [_theme(one) for one in found]}))
        return
    for one in found:
        _print(one)


def _print(found: ThemeStats) -> None:
    retired = ", retired" if found.theme.retired_at else ""
    click.echo(f"{found.theme.slug}{retired}: {_words(found.readers)} readers now")
    click.echo(_line("week", COLUMNS))
    for week in found.weeks:
        click.echo(_line(week.week + (" so far" if week.running else ""), _cells(week)))


def _cells(week: Week) -> list[str]:
    flow, one = week.flow, week.round
    mails = (one.accepted, one.bounced, one.complaint) if one else ()
    net = stats_shown.words(flow.net, "en", signed=True)
    return [_words(flow.new), _words(flow.gone), net, *(_words(count) for count in mails)]


def _line(first: str, cells: Sequence[str]) -> str:
    return f"  {first:<16}" + "".join(f"{cell:>15}" for cell in cells)


def _words(count: stats_shown.Shown) -> str:
    return stats_shown.words(count, "en")


def _theme(found: ThemeStats) -> dict[str, object]:
    return {
        "theme": found.theme.slug,
        "retired": found.theme.retired_at is not None,
        "readers": stats_shown.plain(found.readers),
        "total": _flow(found.total),
        "weeks": [
            {"week": week.week, "running": week.running, **_flow(week.flow), "issue": _round(week.round)}
            for week in found.weeks
        ],
    }


def _flow(flow: Flow) -> dict[str, object]:
    parts = {one.name: stats_shown.plain(getattr(flow, one.name)) for one in dataclasses.fields(flow)}
    sums = {"new": stats_shown.plain(flow.new), "gone": stats_shown.plain(flow.gone)}
    return {**parts, **sums, "net": stats_shown.plain(flow.net, signed=True)}


def _round(found: Round | None) -> dict[str, object] | None:
    if found is None:
        return None
    counts = {name: stats_shown.plain(getattr(found, name)) for name in (*ROUND, "bounced", "complaint")}
    return {"id": found.issue.id, "state": str(found.issue.state), **counts}
