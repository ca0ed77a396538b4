"""The mailbox of embedded mode for the browser, with a real issue in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from playwright.sync_api import Page, expect

from service import db, settings
from service.issues import editions
from service.issues.models import IssueState
from tests.system import newsroom
from tests.system.conftest import Site

MAIL = f"{1_790_000_000_000_000_000:020d}"


def _fill(site: Site) -> None:
    issue_id = newsroom.issue(site, IssueState.SENT)
    folder = settings.current().data_dir / "mailbox"
    folder.mkdir(exist_ok=True)
    with site.app.app_context():
        unsubscribe, preferences = editions.sample_links()
        pieces = editions.pieces(session=db.reading(), issue_id=issue_id, now=datetime.now(UTC))["nl"]
        source = pieces.fill(
            to="saskia@gemeente.example", message_id="<1@vinkje>", unsubscribe=unsubscribe, preferences=preferences
        )
    back_to = f"Return-Path: <bounces+b123456-12345678901-{'0' * 20}@vinkje.example>\r\n"
    (folder / f"{MAIL}.eml").write_bytes(back_to.encode() + source)
    site.app.config["MAILBOX_DIR"] = folder


def home(site: Site) -> str:
    """Its address by name: the mailbox opens on the machine itself only, and asks for it by that."""
    return f"http://localhost:{site.url.rpartition(':')[2]}"


def _page(path: str) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        _fill(site)
        page.goto(f"{home(site)}{path}")
        expect(page.get_by_text("saskia@gemeente.example").first).to_be_visible()

    return go


PAGES: dict[str, Callable[[Page, Site], None]] = {
    "mailbox": _page("/mailbox"),
    "a mail": _page(f"/mailbox/{MAIL}"),
    "a mail's text": _page(f"/mailbox/{MAIL}/text"),
    "a mail's source": _page(f"/mailbox/{MAIL}/source"),
}
