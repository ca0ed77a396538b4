"""Statistics for every editor: of all themes, of one, and as a file. service/delivery decides what may be shown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import flask
from sqlalchemy.orm import Session

from service import db, i18n, settings
from service.delivery import stats, stats_shown
from service.delivery.stats import Round, ThemeStats, Week
from service.delivery.stats_shown import Shown
from service.i18n import N_
from service.issues import rota
from service.issues.models import Issue
from service.web import session, stats_chart, view

WINDOWS = (12, 26)  # weeks
FLOWS = (
    ("confirmed", N_("Confirmed")),
    ("changed", N_("Ticked later")),
    ("imported", N_("Imported")),
    ("withdrawn", N_("Left")),
    ("bounced", N_("Address stopped working")),
    ("complaint", N_("Reported as spam")),
)
ROUNDS = (
    ("audience", N_("Readers at the start")),
    ("accepted", N_("Accepted")),
    ("rejected", N_("Refused")),
    ("given_up", N_("Given up")),
    ("uncertain", N_("Uncertain")),
    ("left", N_("Left before")),
    ("unsent", N_("Not sent")),
    ("hard", N_("Came back: address doesn’t work")),
    ("soft", N_("Came back: mailbox full or away")),
    ("fault", N_("Came back: mail refused")),
    ("complaint", N_("Reported as spam")),
)

blueprint = flask.Blueprint("stats", __name__, url_prefix=session.ROOM + "/stats")


@dataclass(frozen=True)
class Drawn:
    """A chart, and for each of its two directions the week that reaches furthest with its count in words."""

    chart: stats_chart.Chart
    first: str
    last: str
    up: tuple[str, str] | None
    down: tuple[str, str] | None


@blueprint.get("")
def overview() -> str:
    weeks = _window()
    found = stats.overview(session=db.reading(), now=session.now(), weeks=weeks)
    return _page("newsroom/stats.html", found=found, growth=_growth(found.weeks), weeks=weeks)


@blueprint.get("/<slug>")
def theme(slug: str) -> str:
    weeks = _window()
    found = stats.of_theme(session=db.reading(), now=session.now(), slug=slug, weeks=weeks)
    old_first = found.rounds[::-1]
    reach = _drawn([one.issue.week for one in old_first], [one.accepted for one in old_first])
    return _page("newsroom/stats_theme.html", found=found, growth=_growth(found.weeks), reach=reach, weeks=weeks)


@blueprint.get("/figures.csv")
def export() -> flask.Response:
    weeks = _window()
    return _file(stats.every(session=db.reading(), now=session.now(), weeks=weeks), "vinkje")


@blueprint.get("/<slug>/figures.csv")
def export_theme(slug: str) -> flask.Response:
    weeks = _window()
    return _file([stats.of_theme(session=db.reading(), now=session.now(), slug=slug, weeks=weeks)], slug)


def of_issue(*, session: Session, issue: Issue) -> dict[str, object]:
    """For the issue's own page: what came back."""
    back = stats.came_back(session=session, issue_id=issue.id) if issue.cut_at else None
    return {"back": back, "words": words}


def words(count: Shown, *, signed: bool = False) -> str:
    return stats_shown.words(count, view.language(), signed=signed)


def _window() -> int:
    wanted = flask.request.args.get("weeks", WINDOWS[0], type=int)
    return wanted if wanted in WINDOWS else WINDOWS[0]


def _page(template: str, **found: object) -> str:
    return flask.render_template(
        template,
        **found,
        windows=WINDOWS,
        words=words,
        week_name=_week_name,
        week_days=_week_days,
        rounds=ROUNDS,
        smallest=settings.current().smallest_count,
    )


def _growth(weeks: Sequence[Week]) -> Drawn:
    old_first = weeks[::-1]
    return _drawn(
        [week.week for week in old_first],
        [week.flow.new for week in old_first],
        [week.flow.gone for week in old_first],
    )


def _drawn(weeks: Sequence[str], ups: Sequence[Shown], downs: Sequence[Shown] = ()) -> Drawn:
    chart = stats_chart.of(ups, downs)
    names = [_week_name(week) for week in weeks]
    return Drawn(
        chart,
        names[0] if names else "",
        names[-1] if names else "",
        (names[chart.most_up], words(ups[chart.most_up])) if chart.most_up is not None else None,
        (names[chart.most_down], words(downs[chart.most_down])) if chart.most_down is not None else None,
    )


def _week_name(week: str) -> str:
    return view.translate("week %(week)s", week=rota.number(week))


def _week_days(week: str) -> str:
    """As in "23–29 nov 2026"."""
    monday = rota.monday(week)
    return i18n.days(view.language(), monday, monday + timedelta(days=6))


def _file(found: Sequence[ThemeStats], name: str) -> flask.Response:
    """For a spreadsheet, which expects a semicolon where the comma is a decimal sign."""
    text = io.StringIO()
    csv.writer(text, delimiter=";" if view.language() == "nl" else ",").writerows(_lines(found))
    response = flask.Response("\ufeff" + text.getvalue(), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-{rota.week_of(session.now())}.csv"'
    return response


def _lines(found: Sequence[ThemeStats]) -> Iterator[list[object]]:
    say = view.translate
    sums = (say("New"), say("Gone"), say("Growth, at least"), say("Growth, at most"))
    yield [
        say("Theme"), say("Week"), *(say(text) for _, text in FLOWS), *sums, say("Issue"),
        *(say(text) for _, text in ROUNDS),
    ]  # fmt: skip
    for one in found:
        for week in one.weeks:
            yield [_safe(one.theme.name(view.language())), week.week, *_flow(week), *_round(week.round)]


def _flow(week: Week) -> Iterator[object]:
    flow = week.flow
    for count in (*(getattr(flow, name) for name, _ in FLOWS), flow.new, flow.gone):
        yield _plain(count)
    yield from (flow.net.low, flow.net.high)


def _round(found: Round | None) -> list[object]:
    if found is None:
        return [""] * (len(ROUNDS) + 1)
    return [found.issue.id, *(_plain(getattr(found, name)) for name, _ in ROUNDS)]


def _plain(count: Shown) -> int | str:
    return stats_shown.plain(count, view.language())


def _safe(text: str) -> str:
    """So that no spreadsheet takes it for a formula (requirements 6.2, CSV)."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
