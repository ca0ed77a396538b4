from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from celery.utils.log import get_task_logger

from service import links, logs, settings
from tests.conftest import SECRET

ADDRESSES = (
    "saskia@gemeente.example",
    "Saskia.de-Vries+nieuws@gemeente.example",
    "o'brien@gemeente.example",
    "jürgen@bücher.example",
    '"de vries"@gemeente.example',
    "saskia%40gemeente.example",
    "saskia%2540gemeente.example",
    "saskia%252540gemeente.example",
    "saskia=smit@gemeente.example",
    "=saskia=@gemeente.example",
)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What was written to standard error since the logs were set up as in production."""
    caught = io.StringIO()
    monkeypatch.setattr(sys, "stderr", caught)
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = list(root.handlers), root.level
    logs.configure("info")
    yield caught.getvalue
    root.handlers[:], root.level = handlers, level
    logging.setLogRecordFactory(factory)
    structlog.reset_defaults()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> str:
    monkeypatch.setattr(settings, "_in_use", [settings.load(secret_key=SECRET, data_dir=data_dir)])
    return links.token(links.Purpose.UNSUBSCRIBE, 123, 4)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_becomes_a_mark(address: str) -> None:
    line = logs.redact(f"550 5.1.1 <{address}>: user unknown")
    assert line == "550 5.1.1 <[address]>: user unknown"


def test_a_line_without_address_stays_as_it_is() -> None:
    line = 'GET /preferences 200 3.14 s batch=12-13 "sent" 2026-11-24T09:00:00Z'
    assert logs.redact(line) == line


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "::ffff:203.0.113.0/24"),
        ("2001:DB8:7:9:a:b:c:d", "2001:db8:7::/48"),
        ("2001:db8:7::1", "2001:db8:7::/48"),
        ("fe80::1:2%eth0", "fe80::/48"),
        ("::ffff:cb00:714d", "203.0.113.0/24"),
        ("_203.0.113.77_", "_203.0.113.0/24_"),
        ("_2001:db8:7::1_", "_2001:db8:7::/48_"),
        ("::cb00:714d", "203.0.113.0/24"),
        ("64:ff9b::cb00:714d", "203.0.113.0/24"),
        ("64:ff9b::203.0.113.77", "64:ff9b::203.0.113.0/24"),
        ("64:ff9b:1:a:b::cb00:714d", "64:ff9b:1::/48"),
        ("2002:cb00:714d:9::77", "203.0.113.0/24"),
        ("2001%3Adb8%3A7%3A9%3Aa%3Ab%3Ac%3Ad", "2001:db8:7::/48"),
        ("2001%3adb8%3A7%3A%3A", "2001:db8:7::/48"),
        ("2001%253Adb8%253A7%253A%253A1", "2001:db8:7::/48"),
        ("%3A%3Affff%3A203.0.113.77", "%3A%3Affff%3A203.0.113.0/24"),
    ],
)
def test_an_internet_address_becomes_the_range_it_lies_in(given: str, left: str) -> None:
    """A visitor's, as gunicorn writes it down for a request that it can't read."""
    for around in ("Invalid request from ip={}: bad", "[{}]", "peer ('{}', 4711)", "came from {}.", "{}"):
        assert logs.redact(around.format(given)) == around.format(left)
    assert logs.redact(f"[{given}]:25") == f"[{left}]:25"
    for around in ("at%3D%5B{}%5D%20now", "at%253D%255B{}%255D%2520now"):
        assert logs.redact(around.format(given)) == around.format(left)


@pytest.mark.parametrize(
    "said",
    [
        "Listening at: http://127.0.0.1:8000, 0.0.0.0:8000 and [::1]:8000",
        "550 5.1.1 unknown",
        "OID 1.3.6.1.4.1.311",
        "version 2.0.0.1b3 of 1.10.2, at 16:09:04, or 16:09:04.882",
        "worker.tasks::take a[::2] std::move",
        "300.1.2.3",
        "%3A%3A1 and 16%3A09%3A04",
    ],
)
def test_what_only_looks_like_an_internet_address_stays(said: str) -> None:
    assert logs.redact(said) == said


def test_an_address_at_an_internet_address_leaves_no_part_of_either() -> None:
    for address in ("saskia@[203.0.113.77]", "saskia@[IPv6:2001:db8:7:9::77]"):
        line = logs.redact(f"550 5.1.1 <{address}>: user unknown")
        assert "saskia" not in line
        assert "77" not in line


def test_a_token_becomes_a_mark_in_every_kind_of_text(token: str) -> None:
    for text in (f"GET /unsubscribe/{token}?x=1", f"'{token}'", token.replace(".", "%2E"), token[:-12]):
        assert token[8:24] not in logs.redact(text)
    session_token = "Zk3" * 14 + "x"
    assert session_token not in logs.redact(f"cookie {session_token};")


def test_what_a_program_of_ours_logs_holds_no_address(written: Callable[[], str], token: str) -> None:
    log = structlog.get_logger()
    log.info(
        "mailed to saskia@gemeente.example",
        reader="saskia@gemeente.example",
        many=["saskia@gemeente.example", {"deep": ("saskia@gemeente.example", token)}],
        raw=b"saskia@gemeente.example",
        fault=ValueError("saskia@gemeente.example"),
        path=f"/unsubscribe/{token}",
        count=3,
    )
    line = written()
    assert "saskia" not in line
    assert token not in line
    assert "count=3" in line
    assert line.count("\n") == 1


def test_an_exception_of_ours_holds_no_address(written: Callable[[], str]) -> None:
    try:
        raise ValueError("Key (email_key)=(saskia@gemeente.example) already exists.")
    except ValueError:
        structlog.get_logger().exception("failed", reader="saskia@gemeente.example")
    assert "already exists" in written()
    assert "saskia" not in written()


@pytest.mark.parametrize("name", ["celery.app.trace", "gunicorn.error", "sqlalchemy.engine", "waitress", "anything"])
def test_what_a_library_logs_holds_no_address(written: Callable[[], str], token: str, name: str) -> None:
    log = logging.getLogger(name)
    log.warning("Error handling request %s for %r", f"/unsubscribe/{token}", ["saskia@gemeente.example"])
    try:
        raise ValueError("saskia@gemeente.example\n2026-11-24 root forged")
    except ValueError as fault:
        log.exception("Task raised unexpected: %r", fault)
    assert "Task raised unexpected" in written()
    assert "saskia" not in written()
    assert token not in written()
    assert not any(line.startswith("2026-11-24 root forged") for line in written().splitlines())


def test_a_handler_that_a_library_brings_is_served_too(written: Callable[[], str]) -> None:
    own = io.StringIO()
    log = get_task_logger("vinkje.test")
    handler = logging.StreamHandler(own)
    log.addHandler(handler)
    try:
        log.error("lost %s", "saskia@gemeente.example")
        log.error("wrong number of %s %s", "saskia@gemeente.example")
    finally:
        log.removeHandler(handler)
    assert own.getvalue().startswith("lost [address]\n")
    assert "saskia" not in own.getvalue()
    assert "saskia" not in written()


def test_a_visitor_can_not_write_a_log_line_of_their_own(written: Callable[[], str]) -> None:
    evil = "x\r\n2026-11-24 INFO all is well\x1b[2J\u2028\x00"
    structlog.get_logger().info("refused", why=evil)
    logging.getLogger("somewhere").warning("refused %s", evil)
    assert len(written().splitlines()) == 2
    assert "\x1b" not in written()


def test_a_long_line_takes_no_time() -> None:
    letters = ("a" * 200_000 + "@", "1-" * 100_000, '"' * 200_000, "x@" * 50_000, "x=" * 100_000, "%25" * 70_000)
    for text in (*letters, "1." * 100_000, "1:" * 100_000, ":" * 200_000, "1%3A" * 50_000, "%" + "25" * 100_000):
        started = time.monotonic()
        logs.redact(text)
        assert time.monotonic() - started < 2
