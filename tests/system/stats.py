"""Pages with statistics for the browser: half a year of three themes, of which one is small and one is retired."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect

from service import db, themes
from service.delivery.models import DeliveryCount
from service.issues import rota
from service.issues.models import Issue, IssueState
from service.newsroom.models import Role
from service.subscribers.models import ConsentCount, ConsentEvent
from tests import make
from tests.system import newsroom
from tests.system.conftest import Site

EVENTS = tuple(event for event in ConsentEvent if event is not ConsentEvent.REQUESTED)
LONG = "hoogwaterbeschermingsprogramma-organisat"


def filled(site: Site) -> None:
    chance, now = random.Random(1), datetime.now(UTC)
    with site.app.app_context(), db.transaction() as session:
        for slug, most in (("innovatie", 40), (LONG, 4), ("democratie", 12)):
            theme = make.theme(session, slug)
            for ago in range(26):
                hour = now - timedelta(weeks=ago)
                week = rota.week_of(hour)
                session.add_all(
                    ConsentCount(theme_id=theme.id, week=week, event=event, count=chance.randrange(most))
                    for event in EVENTS
                )
                issue = Issue(theme_id=theme.id, week=week, send_at=hour, state=IssueState.SENT, planned_at=hour)
                issue.cut_at, issue.audience = hour, 31 * most
                session.add(issue)
                session.flush()
                counts = {"accepted": 30 * most, "rejected": most, "hard": most // 2, "complaint": 1}
                session.add_all(
                    DeliveryCount(issue_id=issue.id, kind=kind, count=count) for kind, count in counts.items()
                )
        themes.retire(session=session, slug="democratie", now=now)


def opened(path: str, heading: str) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        filled(site)
        newsroom.sign_in(page, site, Role.WRITER)
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)

    return go


def _empty(page: Page, site: Site) -> None:
    newsroom.sign_in(page, site, Role.WRITER)
    page.goto("/newsroom/stats/innovatie")
    expect(page.get_by_text("Niemand nieuw. Niemand weg.")).to_be_visible()


PAGES: dict[str, Callable[[Page, Site], None]] = {
    "statistics": opened("/newsroom/stats", "Statistiek"),
    "statistics of a theme": opened("/newsroom/stats/innovatie", "Innovatie"),
    "statistics of a small theme": opened(f"/newsroom/stats/{LONG}", LONG.title()),
    "statistics of nothing": _empty,
}
