"""`vinkje up`: the whole house in one process, as a new user meets it, stops it and kills it."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from email import message_from_bytes
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import create_engine, text

from service import db
from tests import fakes, processes
from tests.browser import Browser

Start = Callable[..., processes.Process]
QUICKLY = 4.0  # seconds; it takes one, on a machine that has nothing else to do

READER = text("INSERT INTO subscribers (email, email_key, language, created_at) VALUES (:email, :email, 'nl', :at)")
TICK = text(
    "INSERT INTO subscriptions (theme_id, subscriber_id, state, requested_at, confirmed_at)"
    " VALUES (:theme, :reader, 'active', :at, :at)"
)


@pytest.fixture
def env(data_dir: Path) -> dict[str, str]:
    return {"PORT": str(processes.free_port()), "DATA_DIR": str(data_dir), "FORM_MIN_SECONDS": "0", "TICK_SECONDS": "1"}


@pytest.fixture
def start(env: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start `vinkje up`, wait until it is healthy."""
    running: list[processes.Process] = []

    def up(**more: str) -> processes.Process:
        process = processes.Process(["vinkje", "up"], {**env, **more}, tmp_path / f"up{len(running)}.log")
        running.append(process)
        processes.wait_until(
            lambda: processes.healthy(f"http://127.0.0.1:{env['PORT']}") or not process.running, 40, "healthy"
        )
        assert process.running, process.text()
        return process

    yield up
    for process in running:
        process.kill()


@pytest.fixture
def browser(env: dict[str, str]) -> Iterator[Browser]:
    browser = Browser(f"http://127.0.0.1:{env['PORT']}")
    yield browser
    browser.close()


def mails_to(data_dir: Path) -> Counter[str]:
    paths = (data_dir / "mailbox").glob("*.eml")
    return Counter(str(message_from_bytes(path.read_bytes())["To"]) for path in paths)


def test_a_new_user_sees_their_first_mail_and_stops_with_ctrl_c(
    start: Start, browser: Browser, data_dir: Path, env: dict[str, str]
) -> None:
    process = start()
    answer = httpx2.get(f"http://127.0.0.1:{env['PORT']}/healthz").json()
    assert answer["threads"] == {"worker": True, "beat": True}
    said = process.text()
    assert re.search(r"e-mail    redactie@vinkje\.example\n  password  (\w{4}-){3}\w{4}\n", said)
    for page in ("/\n", "/newsroom/\n", "/mailbox\n"):
        assert f"http://localhost:{env['PORT']}{page}" in said
    assert mails_to(data_dir) == {}, "the demo's own readers must not fill the mailbox"

    browser.visit("/")
    assert browser.status == 200
    browser.submit("/subscribe", {"email": "nieuw@gemeente.example", "themes": ["innovatie", "democratie"]})
    assert browser.status == 200
    assert "/mailbox" in [address for address, _ in browser.links]
    processes.wait_until(lambda: mails_to(data_dir)["nieuw@gemeente.example"] == 1, 15, "the confirmation mail")
    browser.visit("/mailbox")
    link = next(address for address, _ in browser.links if re.fullmatch(r"/mailbox/\d{20}", address))
    assert "nieuw@gemeente.example" in browser.text
    assert f'src="{link}/document"' in browser.visit(link).page.text
    assert f"http://localhost:{env['PORT']}/confirm/" in browser.visit(f"{link}/text").text
    assert "Content-Type: multipart/alternative" in browser.visit(f"{link}/source").text
    frame = browser.visit(f"{link}/document").page
    assert frame.headers["content-security-policy"].startswith("default-src 'none'")
    assert "sandbox allow-popups" in frame.headers["content-security-policy"]
    assert '<base target="_blank">' in frame.text

    began = time.monotonic()
    assert process.stop(signal.SIGINT) == 0, process.text()
    assert time.monotonic() - began < QUICKLY
    assert process.text().endswith("Stopped.\n")
    assert "Traceback" not in process.text()


def test_a_second_start_seeds_nothing_and_sigterm_stops_it(start: Start, browser: Browser) -> None:
    start().stop(signal.SIGINT)
    again = start()
    assert "password" not in again.text()
    browser.visit("/")
    assert browser.text.count("Innovatie") == 1
    assert again.stop(signal.SIGTERM) == 0


def test_a_taken_port_gets_one_clear_line(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = processes.run("vinkje", "up", env={**env, "PORT": str(port)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {port} is taken" in done.stderr
    assert not (Path(env["DATA_DIR"]) / "vinkje.db").exists()


def test_a_second_process_on_the_same_data_is_refused(start: Start, env: dict[str, str]) -> None:
    start()
    done = processes.run("vinkje", "up", env={**env, "PORT": str(processes.free_port())})
    assert done.returncode == 1
    assert "is running already" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_setting_gets_a_clear_line(env: dict[str, str]) -> None:
    done = processes.run("vinkje", "up", env={**env, "DATABASE_URL": "mysql://localhost/x"})
    assert done.returncode == 2
    assert "DATABASE_URL: use postgresql://" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_house_that_is_open_to_others_says_so_and_keeps_its_mailbox_shut(start: Start, env: dict[str, str]) -> None:
    process = start(HOST="0.0.0.0")
    said = process.text()
    assert "WARNING: others can reach" in said
    assert "SMTP_URL is not set" in said
    mailbox = f"http://127.0.0.1:{env['PORT']}/mailbox"
    assert f"Mailbox   http://localhost:{env['PORT']}/mailbox\n" in said
    assert httpx2.get(mailbox).status_code == 200
    for headers in ({"Host": "news.example.nl"}, {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "127.0.0.1"}):
        assert httpx2.get(mailbox, headers=headers).status_code == 403
    process.stop(signal.SIGINT)
    assert "others can reach" not in start(HOST="127.0.0.1").text()


def add_readers(data_dir: Path, count: int) -> None:
    """Confirmed readers of the demo's planned theme, straight into its database."""
    engine = create_engine(f"sqlite:///{data_dir / 'vinkje.db'}")
    db.listen_sqlite(engine)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        (theme,) = connection.scalars(text("SELECT id FROM themes WHERE slug = 'innovatie'"))
        for number in range(count):
            values = {"email": f"lezer{number}@massa.example", "at": "2026-01-01 00:00:00.000000", "theme": theme}
            made = connection.execute(READER, values)
            connection.execute(TICK, {**values, "reader": made.lastrowid})
    engine.dispose()


def issue_state(data_dir: Path) -> str:
    with closing(sqlite3.connect(data_dir / "vinkje.db", timeout=10)) as connection:
        (state,) = connection.execute("SELECT state FROM issues").fetchone()
    return str(state)


def test_killed_in_the_middle_of_a_round_it_carries_on(start: Start, data_dir: Path, env: dict[str, str]) -> None:
    batch, readers = 25, 900  # the mailbox keeps 1,000
    process = start(BATCH_SIZE=str(batch))
    add_readers(data_dir, readers)
    for step in ("assemble", "approve", "send"):
        processes.vinkje("issue", step, "1", env=env)
    caught = data_dir / "mailbox"
    processes.wait_until(lambda: len(list(caught.glob("*.eml"))) > 3 * batch, 30, "some mails", pause=0.01)
    process.kill()
    before = mails_to(data_dir)
    assert before.total() < readers, "killed too late to show anything"

    start(BATCH_SIZE=str(batch))  # nobody waits for the lease of a process that is dead

    processes.wait_until(lambda: issue_state(data_dir) == "sent", 30, "the round ends")
    after = mails_to(data_dir)
    massa = {address: count for address, count in after.items() if address.endswith("@massa.example")}
    uncertain = json.loads(processes.vinkje("issue", "show", "1", "--json", env=env))["uncertain"]
    assert readers - len(massa) <= uncertain <= 20, "the mailbox died too: of one mail a connection nobody can know"
    assert set(massa.values()) == {1}


def test_each_address_may_be_set_alone(
    start: Start,
    browser: Browser,
    data_dir: Path,
    env: dict[str, str],
    postgres: Callable[[str], str],
    valkey: str,
    relay: fakes.Relay,
) -> None:
    def signs_up(address: str) -> None:
        browser.visit("/").submit("/subscribe", {"email": address, "themes": ["democratie"]})
        assert browser.status == 200

    production = {
        "BASE_URL": f"http://localhost:{env['PORT']}",
        "MAIL_FROM": "n@vinkje.example",
        "ORGANISATION": "A, B",
    }
    process = start(SMTP_URL=relay.url, **production)
    said = process.text()
    assert "no themes yet" in said
    assert "password" not in said, "nothing of the demo, where mail really goes out"
    processes.vinkje("theme", "add", "democratie", "--nl", "Democratie", "--en", "Democracy", env=env)
    signs_up("een@gemeente.example")
    assert [mail.recipient for mail in relay.wait(1)] == ["een@gemeente.example"]
    assert browser.visit("/mailbox").status == 404
    assert process.stop(signal.SIGINT) == 0

    process = start(REDIS_URL=valkey.removesuffix("/0") + "/8", SECRET_KEY="s" * 40)
    signs_up("twee@gemeente.example")
    processes.wait_until(lambda: mails_to(data_dir)["twee@gemeente.example"] == 1, 15, "a mail by way of Redis")
    began = time.monotonic()
    assert process.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < QUICKLY

    process = start(DATABASE_URL=postgres("alone"))
    assert "database ready: postgresql" in process.text()
    signs_up("drie@gemeente.example")
    processes.wait_until(lambda: mails_to(data_dir)["drie@gemeente.example"] == 1, 15, "a mail by way of PostgreSQL")
    assert process.stop(signal.SIGTERM) == 0
