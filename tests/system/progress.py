"""A round that goes out, and the mail server's page, for the browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from playwright.sync_api import Page, expect
from sqlalchemy import update

from service import db
from service.delivery import breaker, limits
from service.delivery.models import Batch, BatchState, Delivery, Outcome, Sender, Trouble
from service.issues.models import Issue, IssueState
from tests.system import newsroom
from tests.system.conftest import Site

READERS, BATCH = 1234, 100
LONG = "4.7.28 Our-system-has-detected-an-unusual-rate-of-unsolicited-mail-from-your-network " + "gsmtp" * 20


def going_out(site: Site) -> int:
    """A round of 13 batches that two workers have begun: 250 of 1234 readers had their turn, one is uncertain."""
    issue_id, now = newsroom.issue(site, IssueState.SENDING), datetime.now(UTC)
    with site.app.app_context(), db.transaction() as session:
        session.get_one(Issue, issue_id).audience = READERS
        for first in range(1, READERS + 1, BATCH):
            last = min(first + BATCH - 1, READERS)
            size = last - first + 1
            session.add(Batch(issue_id=issue_id, first_id=first, last_id=last, size=size, due_at=now))
        session.flush()
        for reader in range(1, 251):
            outcome = Outcome.UNCERTAIN if reader == 7 else Outcome.ACCEPTED
            session.add(Delivery(issue_id=issue_id, subscriber_id=reader, outcome=outcome, at=now, first_at=now))
    had_their_turn(site, issue_id, 250)
    workers(site, issue_id)
    return issue_id


def had_their_turn(site: Site, issue_id: int, count: int) -> None:
    with site.app.app_context(), db.transaction() as session:
        for batch in session.query(Batch).where(Batch.issue_id == issue_id).order_by(Batch.id):
            batch.recorded = max(0, min(batch.size, count - batch.first_id + 1))
            batch.state = BatchState.DONE if batch.recorded == batch.size else BatchState.SENDING


def workers(site: Site, issue_id: int, rate: float = 4.1) -> None:
    """Two, seen just now and for the minutes that a test may take."""
    with site.app.app_context(), db.transaction() as session:
        for name in ("one", "two"):
            limits.report(
                session=session, now=datetime.now(UTC), name=name, issue_id=issue_id, connections=4, rate=rate
            )
        ahead = datetime.now(UTC) + limits.FRESH * 30
        session.execute(update(Sender).values(seen_at=ahead))


def trip(site: Site, trouble: Trouble, text: str = LONG) -> None:
    with site.app.app_context(), db.transaction() as session:
        breaker.trip(session=session, now=datetime.now(UTC), trouble=trouble, status="421 4.7.28", text=text)


def heal(site: Site) -> None:
    with site.app.app_context(), db.transaction() as session:
        breaker.heal(session=session, now=datetime.now(UTC))


def _sending(page: Page, site: Site) -> None:
    issue_id = going_out(site)
    newsroom.sign_in(page, site)
    page.goto(f"/newsroom/issues/{issue_id}")
    expect(page.get_by_text("250 van 1.234 lezers")).to_be_visible()


def _paused(trouble: Trouble) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        issue_id = going_out(site)
        trip(site, trouble)
        newsroom.sign_in(page, site)
        page.goto(f"/newsroom/issues/{issue_id}")
        expect(page.get_by_role("heading", name="Het versturen wacht op de mailserver")).to_be_visible()

    return go


def _relay(page: Page, site: Site) -> None:
    going_out(site)
    newsroom.sign_in(page, site)
    page.get_by_role("link", name="Mailserver").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Mailserver")


def _relay_in_trouble(page: Page, site: Site) -> None:
    trip(site, Trouble.SLOW_DOWN)
    _relay(page, site)
    expect(page.get_by_text("Storing sinds")).to_be_visible()


def _relay_errors(page: Page, site: Site) -> None:
    _relay(page, site)
    page.get_by_label("Verbindingen tegelijk").fill("0")
    page.get_by_role("button", name="Grenzen wijzigen").click()
    assert page.title().startswith("Fout: ")


PAGES: dict[str, Callable[[Page, Site], None]] = {
    "issue that goes out": _sending,
    "issue that waits for a mail server that is down": _paused(Trouble.DOWN),
    "issue that waits for a mail server that refuses": _paused(Trouble.REFUSES),
    "mail server": _relay,
    "mail server in trouble": _relay_in_trouble,
    "mail server with errors": _relay_errors,
}
