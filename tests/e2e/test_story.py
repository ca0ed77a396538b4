"""The main road, over HTTP and SMTP alone, in both ways to run Vinkje."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine

from service.issues import rota
from tests import fakes, processes
from tests.browser import Browser, Values

THEMES = ("innovatie", "democratie", "organisatie")
PASSWORD = "een lange zin als wachtwoord"
VISITORS, CONFIRM, ITEMS = 60, 50, 7
LINK = re.compile(r"https?://[^\s<>\"]+")
# What a machine may touch by itself: the clock's own row.
NOT_READERS = {"heartbeats", "alembic_version", "editor_sessions"}


@dataclass
class House:
    base_url: str
    database_url: str
    relay: fakes.Relay
    env: dict[str, str]

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table but NOT_READERS, to see whether anything changed."""
        engine = create_engine(self.database_url)
        tables = MetaData()
        tables.reflect(engine)
        with engine.connect() as connection:
            found = {
                table.name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
                for table in tables.sorted_tables
                if table.name not in NOT_READERS
            }
        engine.dispose()
        return found


@contextmanager
def embedded(env: dict[str, str], folder: Path) -> Iterator[None]:
    process = processes.Process(("vinkje", "up"), env, folder / "up.log")
    try:
        processes.wait_until(lambda: processes.healthy(env["BASE_URL"]), 40, "vinkje up")
        yield
        assert process.stop() == 0
    finally:
        process.kill()


@pytest.fixture(params=["embedded", "production"])
def house(
    request: pytest.FixtureRequest,
    relay: fakes.Relay,
    postgres: Callable[[str], str],
    valkey: str,
    tmp_path: Path,
) -> Iterator[House]:
    port = processes.free_port()
    env = {
        "PORT": str(port),
        "BASE_URL": f"http://127.0.0.1:{port}",
        "DATA_DIR": str(tmp_path / "data"),
        "SMTP_URL": relay.url,
        "MAIL_FROM": "Bureau Voorbeeld <nieuws@voorbeeld.example>",
        "ORGANISATION": "Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
        "TRUSTED_PROXIES": "1",
        "FORM_MIN_SECONDS": "0.5",
    }
    database_url = f"sqlite:///{tmp_path / 'data' / 'vinkje.db'}"
    if request.param == "production":
        database_url = postgres("story")
        env |= {"DATABASE_URL": database_url, "REDIS_URL": valkey, "SECRET_KEY": "story " * 8, "TICK_SECONDS": "2"}
        database_url = database_url.replace("postgresql://", "postgresql+psycopg://")
    processes.vinkje("db", "upgrade", env=env)
    for slug in THEMES:
        processes.vinkje("theme", "add", slug, "--nl", slug.title(), "--en", f"{slug.title()} (en)", env=env)
    chief = ("chief@voorbeeld.example", "--name", "Carla", "--role", "chief")
    processes.vinkje("editor", "add", *chief, env={**env, "VINKJE_PASSWORD": PASSWORD})
    with embedded(env, tmp_path) if request.param == "embedded" else processes.production(env, tmp_path, workers=2):
        yield House(env["BASE_URL"], database_url, relay, env)


def ticks(number: int) -> list[str]:
    """Each visitor ticks one, two or three themes; every theme has takers and leavers-out."""
    return [slug for place, slug in enumerate(THEMES) if (number >> place) & 1] or [THEMES[number % 3]]


def sign_up(house: House, number: int) -> None:
    visitor = Browser(house.base_url, network=f"10.1.{number}.9", language="nl" if number % 4 else "en")
    visitor.visit("/")
    answer: Values = {"email": f"lezer{number}@gemeente.example", "themes": ticks(number)}

    def taken() -> bool:
        # Too fast for a person: then the page asks to press once more, and so we do.
        return visitor.submit("/subscribe", answer).status == 200 if visitor.forms else True

    processes.wait_until(taken, 10, visitor.text)
    visitor.close()


def links_in(mail: fakes.Caught) -> list[str]:
    found = LINK.findall(mail.part("plain")) + LINK.findall(mail.part("html").replace("&amp;", "&"))
    return sorted({link.rstrip(".,)") for link in found + LINK.findall(str(mail.message["List-Unsubscribe"] or ""))})


def scan(house: House, mails: list[fakes.Caught]) -> None:
    """What mail scanners do before the reader sees the mail: GET and HEAD every link in it."""
    before = house.everything()
    scanner = Browser(house.base_url)
    visited = 0
    for mail in mails:
        for link in links_in(mail):
            if link.startswith(house.base_url):
                assert scanner.request("HEAD", link).status_code == scanner.request("GET", link).status_code
                visited += 1
    scanner.close()
    assert visited >= len(mails)
    after = house.everything()
    changed = {name for name in before if before[name] != after[name]}
    assert not changed, changed


def link_to(mail: fakes.Caught, path: str) -> str:
    return next(link for link in links_in(mail) if f"/{path}/" in link)


def confirm(house: House, mail: fakes.Caught) -> None:
    reader = Browser(house.base_url)
    link = link_to(mail, "confirm")
    reader.visit(link).submit(link.rpartition("/")[2])
    assert reader.status == 200
    reader.close()


@dataclass
class Chief:
    house: House
    browser: Browser

    def publish(self, slug: str, title: str) -> None:
        self.browser.visit("/newsroom/items/new").submit(
            "/items/new",
            {
                "theme": self.choice("theme", slug),
                "title": title,
                "body": f"**{title}** kost 40.000 euro. De proef duurt tot 1 juni.",
                "url": "https://gemeente.example/bericht?a=1&b=2",
            },
            press=("do", "publish"),
        )
        assert 'name="do" value="publish"' not in self.browser.page.text, self.browser.text

    def choice(self, name: str, slug: str) -> str:
        """The value of a choice: the select offers slugs."""
        offered = [value for form in self.browser.forms for value in form.choices.get(name, [])]
        assert slug in offered, offered
        return slug

    def bring_out(self, slug: str, week: str) -> str:
        """Plan, assemble, look, approve, send now. Gives the issue's address."""
        browser = self.browser.visit("/newsroom/issues")
        browser.submit("/issues", {"theme": self.choice("theme", slug), "week": week})
        address = str(browser.page.url).partition("?")[0]
        if 'data-state="planned"' in browser.page.text:  # near its hour the clock may be first
            browser.submit("/assemble")
        for kind in ("html", "txt"):
            assert browser.request("GET", f"{address}/preview/nl.{kind}").status_code == 200
        browser.visit(address).submit("/approve", {"sure": "yes"})
        browser.visit(address).submit("/send", {"sure": "yes"})
        assert browser.status == 200, browser.text

        def sent() -> bool:
            return 'data-state="sent"' in browser.visit(address).page.text

        processes.wait_until(sent, 60, "the issue to be sent")
        return address


def sign_in(house: House) -> Chief:
    browser = Browser(house.base_url, network="10.9.9.9")
    browser.visit("/newsroom/login").submit("/login", {"email": "chief@voorbeeld.example", "password": PASSWORD})
    assert browser.status == 200, browser.text
    assert str(browser.page.url).endswith("/newsroom/"), browser.page.url
    return Chief(house, browser)


def weeks() -> tuple[str, str]:
    """This ISO week and the next, as the newsroom names them."""
    now = datetime.now(UTC)
    return rota.week_of(now), rota.week_of(now + timedelta(days=7))


def test_from_a_tick_to_the_inbox_and_out_again(house: House) -> None:
    for number in range(VISITORS):
        sign_up(house, number)
    confirmations = house.relay.wait(VISITORS, 60)
    assert Counter(mail.recipient for mail in confirmations) == Counter(
        f"lezer{number}@gemeente.example" for number in range(VISITORS)
    )
    scan(house, confirmations)

    confirmed = {f"lezer{number}@gemeente.example": ticks(number) for number in range(CONFIRM)}
    for mail in confirmations:
        if mail.recipient in confirmed:
            confirm(house, mail)

    chief = sign_in(house)
    titles = [f"Proef {number} in Gent" for number in range(ITEMS)]
    for title in titles:
        chief.publish("innovatie", title)
    chief.publish("democratie", "Raad kiest een andere weg")
    this_week, next_week = weeks()
    house.relay.caught.clear()
    chief.bring_out("innovatie", this_week)

    readers = {address for address, slugs in confirmed.items() if "innovatie" in slugs}
    assert Counter(mail.recipient for mail in house.relay.caught if "List-Id" in mail.message) == Counter(readers)
    issue = [mail for mail in house.relay.caught if "List-Id" in mail.message]
    for mail in issue:
        assert all(title in mail.part("plain") for title in titles)
        assert "Raad kiest" not in mail.part("plain")
    scan(house, issue)

    by_click, by_page = sorted(issue, key=lambda mail: mail.recipient)[:2]
    leave_by_one_click(house, by_click)
    leave_by_page(house, by_page)
    house.relay.caught.clear()
    chief.publish("innovatie", "Een nieuw bericht")
    chief.bring_out("innovatie", next_week)
    second = [mail for mail in house.relay.caught if "List-Id" in mail.message]
    assert Counter(mail.recipient for mail in second) == Counter(readers - {by_click.recipient, by_page.recipient})
    for mail in second:
        assert "Een nieuw bericht" in mail.part("plain")
        assert not any(title in mail.part("plain") for title in titles)
    chief.browser.close()


def leave_by_one_click(house: House, mail: fakes.Caught) -> None:
    """RFC 8058: a POST from the mail program's server, without cookies, not redirected."""
    link = str(mail.message["List-Unsubscribe"]).strip("<>")
    program = Browser(house.base_url)
    program.post(link, {"List-Unsubscribe": "One-Click"})
    assert program.status == 200
    assert not program.page.history
    program.close()


def leave_by_page(house: House, mail: fakes.Caught) -> None:
    reader = Browser(house.base_url)
    link = link_to(mail, "unsubscribe")
    reader.visit(link).submit(link.rpartition("/")[2], {"scope": "theme"})
    assert reader.status == 200
    reader.close()
