"""Statistics that identify nobody: per theme, ISO week and issue (decision 0020; requirements 3.3).

No opens and no clicks: nothing in a mail tells us of them. Doors get counts as they may be shown, not the true ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from service import settings, themes
from service.delivery import stats_counts, stats_shown
from service.delivery.models import Outcome, ReportKind
from service.delivery.stats_shown import Shown
from service.issues import rota
from service.issues.models import Issue
from service.themes import Theme

NEWEST = 10  # issues on the overview
MOST_WEEKS = 104


@dataclass(frozen=True)
class Flow:
    """Who came and went. `changed`: ticked the theme on the preference page. `bounced`: their address is dead."""

    confirmed: Shown = stats_shown.NOBODY
    changed: Shown = stats_shown.NOBODY
    imported: Shown = stats_shown.NOBODY
    withdrawn: Shown = stats_shown.NOBODY
    bounced: Shown = stats_shown.NOBODY
    complaint: Shown = stats_shown.NOBODY

    @property
    def new(self) -> Shown:
        return stats_shown.together(self.confirmed, self.changed, self.imported)

    @property
    def gone(self) -> Shown:
        return stats_shown.together(self.withdrawn, self.bounced, self.complaint)

    @property
    def net(self) -> Shown:
        return self.new - self.gone

    @property
    def nothing(self) -> bool:
        return self.new == self.gone == stats_shown.NOBODY


FLOWS = tuple(one.name for one in fields(Flow))  # each is a ConsentEvent


@dataclass(frozen=True)
class Back:
    """What came back of an issue after the mail server had accepted it; `fault` is ours."""

    hard: Shown
    soft: Shown
    fault: Shown
    complaint: Shown

    @property
    def bounced(self) -> Shown:
        return stats_shown.together(self.hard, self.soft, self.fault)


@dataclass(frozen=True)
class Round(Back):
    """What became of an issue's mails. `unsent`: deferred, or not out yet, or never when it was cancelled."""

    issue: Issue
    accepted: Shown
    rejected: Shown
    given_up: Shown
    uncertain: Shown
    left: Shown
    unsent: Shown

    @property
    def audience(self) -> Shown:
        """Added up from its parts: the true one would betray a hidden part."""
        return stats_shown.together(self.accepted, self.rejected, self.given_up, self.uncertain, self.left, self.unsent)


@dataclass(frozen=True)
class Week:
    """`running`: it isn't over yet. A theme has one issue a week at most."""

    week: str
    running: bool
    flow: Flow
    round: Round | None = None


@dataclass(frozen=True)
class ThemeStats:
    """The newest week first. `readers` are those of now."""

    theme: Theme
    readers: Shown
    weeks: tuple[Week, ...]

    @property
    def total(self) -> Flow:
        return added(week.flow for week in self.weeks)

    @property
    def rounds(self) -> list[Round]:
        return [week.round for week in self.weeks if week.round]


@dataclass(frozen=True)
class Overview:
    """`weeks`: all themes together; who joins two themes counts twice."""

    themes: list[ThemeStats]
    weeks: tuple[Week, ...]
    newest: list[Round]


def overview(*, session: Session, now: datetime, weeks: int) -> Overview:
    found = _themes(session, now, weeks, themes.every(session=session), with_rounds=False)
    by_week = zip(*(one.weeks for one in found), strict=True)
    return Overview(
        themes=found,
        weeks=tuple(Week(same[0].week, same[0].running, added(week.flow for week in same)) for same in by_week),
        newest=_rounds(session, stats_counts.newest(session=session, limit=NEWEST)),
    )


def every(*, session: Session, now: datetime, weeks: int) -> list[ThemeStats]:
    """All themes with all that is counted of them; a retired one as long as there is anything to tell."""
    return _themes(session, now, weeks, themes.every(session=session), with_rounds=True)


def of_theme(*, session: Session, now: datetime, slug: str, weeks: int) -> ThemeStats:
    """Raises NotFound."""
    theme = themes.by_slug(session=session, slug=slug)
    return _themes(session, now, weeks, [theme], with_rounds=True, theme_id=theme.id)[0]


def came_back(*, session: Session, issue_id: int) -> Back:
    return _back(stats_counts.came_back(session=session, issue_ids=[issue_id])[issue_id])


def added(flows: Iterable[Flow]) -> Flow:
    parts = list(flows)
    return Flow(**{one: stats_shown.together(*(getattr(flow, one) for flow in parts)) for one in FLOWS})


def _themes(
    session: Session,
    now: datetime,
    count: int,
    chosen: Sequence[Theme],
    *,
    with_rounds: bool,
    theme_id: int | None = None,
) -> list[ThemeStats]:
    weeks = _weeks(now, count)
    flows = stats_counts.flows(session=session, weeks=weeks, theme_id=theme_id)
    readers = stats_counts.readers(session=session, theme_id=theme_id)
    started = stats_counts.rounds(session=session, weeks=weeks, theme_id=theme_id) if with_rounds else []
    rounds = {(one.issue.theme_id, one.issue.week): one for one in _rounds(session, started)}
    smallest = settings.current().smallest_count
    found = [
        ThemeStats(
            theme,
            stats_shown.banded(readers.get(theme.id, 0), smallest),
            tuple(
                Week(week, week == weeks[-1], _flow(flows[theme.id, week], smallest), rounds.get((theme.id, week)))
                for week in reversed(weeks)
            ),
        )
        for theme in chosen
    ]
    return [one for one in found if theme_id or _worth_telling(one)]


def _worth_telling(found: ThemeStats) -> bool:
    silent = found.readers == stats_shown.NOBODY and found.total.nothing and not found.rounds
    return found.theme.retired_at is None or not silent


def _weeks(now: datetime, count: int) -> list[str]:
    """The `count` newest, this one last."""
    monday = rota.monday(rota.week_of(now))
    mondays = [monday - timedelta(days=7 * ago) for ago in reversed(range(count))]
    return [f"{day.isocalendar().year}-W{day.isocalendar().week:02d}" for day in mondays]


def _flow(counted: Counter[str], smallest: int) -> Flow:
    return Flow(**{one: stats_shown.hidden(counted[one], smallest) for one in FLOWS})


def _rounds(session: Session, issues: Sequence[Issue]) -> list[Round]:
    if not issues:
        return []
    tallies = stats_counts.tallies(session=session, issue_ids=[issue.id for issue in issues])
    return [_round(issue, tallies[issue.id]) for issue in issues]


def _round(issue: Issue, counted: Counter[str]) -> Round:
    smallest = settings.current().smallest_count
    ended = (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.GIVEN_UP, Outcome.UNCERTAIN, stats_counts.LEFT)
    unsent = max(0, issue.audience - sum(counted[what] for what in ended))
    small = {str(what): stats_shown.hidden(counted[what], smallest) for what in ended[1:]}
    return Round(
        issue=issue,
        accepted=stats_shown.banded(counted[Outcome.ACCEPTED], smallest),
        unsent=stats_shown.hidden(unsent, smallest),
        **small,
        **vars(_back(counted)),
    )


def _back(counted: Counter[str]) -> Back:
    smallest = settings.current().smallest_count
    return Back(**{str(kind): stats_shown.hidden(counted[kind], smallest) for kind in ReportKind})
