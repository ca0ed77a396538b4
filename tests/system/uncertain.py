"""The page of mails in doubt for the browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect

from service import db, themes
from service.delivery.models import Batch, BatchState, Delivery, Doubt, Outcome
from service.issues.models import Issue, IssueState
from tests import make
from tests.system import newsroom
from tests.system.conftest import Site

LONG = "een.adres.waar.geen.eind.aan.komt@afdeling-wegen.gemeente-met-een-lange-naam.example"


def issue(site: Site, state: IssueState = IssueState.SENT, readers: int = 3) -> int:
    """An issue of which the mails to `readers` and to an erased one are in doubt."""
    issue_id, now = newsroom.issue(site, state), datetime.now(UTC)
    with site.app.app_context(), db.transaction() as session:
        ids = [
            make.reader(session, address, "innovatie", language=language, at=now - timedelta(days=1)).id
            for address, language in [(LONG, "nl"), *((f"p{n}@gemeente.example", "en") for n in range(1, readers))]
        ]
        ids.append(ids[-1] + 1)
        found = session.get_one(Issue, issue_id)
        found.audience = len(ids)
        found.cut_at = themes.cut(session=session, theme_id=found.theme_id, now=now)
        session.add(
            Batch(
                issue_id=issue_id,
                first_id=ids[0],
                last_id=ids[-1],
                size=len(ids),
                state=BatchState.DONE,
                due_at=now,
            )
        )
        for number, reader_id in enumerate(ids):
            session.add(
                Delivery(
                    issue_id=issue_id,
                    subscriber_id=reader_id,
                    outcome=Outcome.UNCERTAIN,
                    at=now,
                    first_at=now,
                    uncertain_at=now,
                    status=list(Doubt)[number % 2],
                )
            )
    return issue_id


def opened(page: Page, site: Site, state: IssueState = IssueState.SENT, readers: int = 3) -> None:
    issue_id = issue(site, state, readers)
    newsroom.sign_in(page, site)
    page.goto(f"/newsroom/issues/{issue_id}/uncertain")
    expect(page.get_by_role("checkbox")).to_have_count(min(readers + 1, 100))


def _cancelled(page: Page, site: Site) -> None:
    opened(page, site, IssueState.CANCELLED, 130)


def _nothing_ticked(page: Page, site: Site) -> None:
    opened(page, site)
    page.get_by_role("button", name="Is aangekomen").click()
    assert page.title().startswith("Fout: ")


def _asked(page: Page, site: Site) -> None:
    opened(page, site)
    page.get_by_role("link", name="Alles opnieuw versturen…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Deze 4 mails opnieuw versturen?")


def _none(page: Page, site: Site) -> None:
    _asked(page, site)
    page.get_by_role("button", name="Ja, opnieuw versturen").click()
    expect(page.get_by_role("status")).to_contain_text("4 mails worden opnieuw verstuurd")


PAGES: dict[str, Callable[[Page, Site], None]] = {
    "uncertain mails": opened,
    "uncertain mails of a cancelled issue, many": _cancelled,
    "uncertain mails, none ticked": _nothing_ticked,
    "uncertain mails, all": _asked,
    "uncertain mails, none left": _none,
}
