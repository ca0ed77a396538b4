"""The site in a thread and Debian's Chromium before it. Run by `make test-system`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import flask
import flask_migrate
import pytest
import waitress.server
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from sqlalchemy import select

from service import app as service_app
from service import db, links, settings
from service.subscribers import models as subscribers
from tests import make

SECRET = "a secret for tests, of more than 32 characters"
CHROMIUM = Path("/usr/bin/chromium")
WIDTHS = {"phone": (320, 640), "desktop": (1280, 800)}


@dataclass
class Site:
    url: str
    app: flask.Flask
    chosen: settings.Settings
    complaints: list[str] = field(default_factory=list)  # what Chromium's console said of our pages

    def confirm_link(self, email: str) -> str:
        """The newest link that was mailed to `email`, or will be."""
        with self.app.app_context():
            with db.transaction() as session:
                make.taken(session)
            query = (
                select(subscribers.Confirmation.id)
                .join(subscribers.Subscriber)
                .where(subscribers.Subscriber.email == email)
                .order_by(subscribers.Confirmation.id.desc())
            )
            return links.confirm(db.reading().scalars(query).first() or 0)

    def reader(self, email: str, *slugs: str) -> int:
        """The id of a new Dutch reader."""
        with self.app.app_context(), db.transaction() as session:
            return make.reader(session, email, *slugs).id

    def reader_id(self, email: str) -> int:
        with self.app.app_context():
            query = select(subscribers.Subscriber.id).where(subscribers.Subscriber.email == email)
            return db.reading().scalars(query).one()

    def listen(self, page: Page) -> None:
        """Keep what Chromium complains of. An answer of 4xx is a complaint to Chromium, and to us an answer."""

        def keep(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
                self.complaints.append(message.text)

        page.on("console", keep)

    def theme_id(self, slug: str) -> int:
        with self.app.app_context(), db.transaction() as session:
            return make.theme(session, slug).id


@pytest.fixture(scope="session")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    chosen = settings.load(
        data_dir=tmp_path_factory.mktemp("system"), secret_key=SECRET, base_url=url, form_min_seconds=0
    )
    settings.use(chosen)
    app = service_app.create_app()
    with app.app_context():
        flask_migrate.upgrade(directory=service_app.MIGRATIONS)
    server = waitress.server.create_server(app, sockets=[listening], threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield Site(url, app, chosen)
    server.close()
    thread.join(10)
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture
def site(_site: Site) -> Site:
    """The site with three themes and nobody else in it."""
    settings.use(_site.chosen)  # a story in this process may have used its own
    _site.complaints.clear()
    _site.app.config["MAILBOX_DIR"] = None
    with _site.app.app_context(), db.transaction() as session:
        for table in reversed(db.Base.metadata.sorted_tables):
            session.execute(table.delete())
        for slug in ("innovatie", "democratie", "organisatie"):
            make.theme(session, slug)
    return _site


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail("Chromium is missing: apt-get install -y chromium")
    with sync_playwright() as playwright:
        # Without its sandbox, which doesn't run as root.
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=list(WIDTHS))
def page(request: pytest.FixtureRequest, chromium: Browser, site: Site) -> Iterator[Page]:
    """A page of a new Dutch visitor without script; each test runs at phone and at desktop width."""
    width, height = WIDTHS[request.param]
    context = chromium.new_context(
        viewport={"width": width, "height": height}, locale="nl-NL", base_url=site.url, java_script_enabled=False
    )
    opened = context.new_page()
    site.listen(opened)
    yield opened
    context.close()
