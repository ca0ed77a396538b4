"""What an operator sees of the relay and changes about it, and a round that is watched."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from select import select as select_ready

import flask
import psycopg
import pytest
from sqlalchemy import select, update

from service import db, settings
from service.delivery import breaker, limits, rounds
from service.delivery.models import Batch, BatchState, Trouble
from service.issues.models import Issue, IssueState
from tests import make, processes
from tests.conftest import SECRET
from tests.integration.operator import done, refused, vinkje

Rung = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(autouse=True)
def _bells(doorbells: Rung) -> Rung:
    return doorbells


def shown(app: flask.Flask) -> dict[str, object]:
    found = json.loads(done(app, "relay", "show", "--json"))
    assert isinstance(found, dict)
    return found


def tripped(trouble: Trouble = Trouble.DOWN, text: str = "") -> None:
    with db.transaction() as session:
        breaker.trip(session=session, now=datetime.now(UTC), trouble=trouble, status="421 4.3.0", text=text)


def going_out(readers: int = 100, batch: int = 10) -> int:
    """A round of ten batches that no worker has touched."""
    before = settings.current()
    settings.use(before.model_copy(update={"batch_size": batch}))
    with db.transaction() as session:
        now = datetime.now(UTC)
        for number in range(readers):
            make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=now - timedelta(days=1))
        issue_id = rounds.start(session=session, now=now, issue_id=make.approved(session, now=now).id).id
    settings.use(before)
    return issue_id


def test_a_relay_that_nobody_used_yet_has_the_settings_limits(app: flask.Flask) -> None:
    found = shown(app)
    assert (found["trouble"], found["workers"], found["connections"], found["rate"]) == (None, 0, 0, 0)
    assert found["limits"] == {"connections": settings.current().relay_connections, "rate": 0.0}
    assert found["set"] == {"connections": None, "rate": None}
    assert "no trouble known" in done(app, "relay", "show")


def test_a_relay_in_trouble_says_which_and_when_it_is_tried_again(app: flask.Flask) -> None:
    tripped(text="Service not available")
    found = shown(app)
    assert (found["trouble"], found["status"], found["text"]) == ("relay_down", "421 4.3.0", "Service not available")
    since, next_try = (datetime.fromisoformat(str(found[name])) for name in ("since", "next_try"))
    assert next_try - since == breaker.FIRST_PAUSE
    said = done(app, "relay", "show")
    assert "The mail server doesn’t answer." in said
    assert "421 4.3.0 Service not available" in said


def test_who_sends_now_is_counted(app: flask.Flask) -> None:
    now = datetime.now(UTC)
    with db.transaction() as session:
        for name, age in (("one", 0), ("two", 1), ("gone", 60)):
            seen = now - timedelta(seconds=age)
            limits.report(session=session, now=seen, name=name, issue_id=7, connections=4, rate=1250.5)
    found = shown(app)
    assert (found["workers"], found["connections"], found["rate"]) == (2, 8, 2501.0)
    assert "8 connections of 2 workers, 2,501 messages a second" in done(app, "relay", "show")


def test_a_limit_is_set_and_given_back_to_the_setting(app: flask.Flask) -> None:
    said = done(app, "relay", "limit", "--rate", "2.5")
    assert said == f"The relay gets {settings.current().relay_connections} connections and 2.5 messages a second.\n"
    done(app, "relay", "limit", "--connections", "3")
    assert shown(app)["limits"] == {"connections": 3, "rate": 2.5}  # each keeps the other
    done(app, "relay", "limit", "--connections", "default", "--rate", "0")
    found = shown(app)
    assert found["limits"] == {"connections": settings.current().relay_connections, "rate": 0.0}
    assert found["set"] == {"connections": None, "rate": 0.0}


@pytest.mark.parametrize(
    "words",
    [
        ("--connections", "0"),
        ("--connections", "1001"),
        ("--connections", "two"),
        ("--rate", "-1"),
        ("--rate", "nan"),
        ("--rate", "1.000"),
        ("--rate", "99999999"),
        ("--connections", "5", "--rate", "fast"),
    ],
    ids=" ".join,
)
def test_a_limit_that_cannot_be_is_refused_and_changes_nothing(app: flask.Flask, words: tuple[str, ...]) -> None:
    done(app, "relay", "limit", "--connections", "7", "--rate", "9")
    assert refused(app, "relay", "limit", *words).startswith("vinkje: Give a number ")
    assert shown(app)["limits"] == {"connections": 7, "rate": 9.0}


def test_a_limit_without_a_number_is_wrong_usage(app: flask.Flask) -> None:
    assert vinkje(app, "relay", "limit").exit_code == 2


def test_watching_what_is_over_ends_at_once(app: flask.Flask) -> None:
    issue_id = going_out(0)
    lines = done(app, "issue", "show", issue_id, "--watch").splitlines()
    assert lines[0] == f"Issue {issue_id} is sent."
    assert lines[1].startswith("id ")


def test_watching_and_json_do_not_go_together(app: flask.Flask) -> None:
    assert vinkje(app, "issue", "show", 1, "--watch", "--json").exit_code == 2
    assert refused(app, "issue", "show", 4711, "--watch") == "vinkje: There is no issue 4711."


def environment() -> dict[str, str]:
    """For a process of its own on this test's database."""
    chosen = settings.current()
    on_postgres = chosen.database_url.startswith("postgresql")
    found = {"DATA_DIR": str(chosen.data_dir), "SECRET_KEY": SECRET, "BASE_URL": chosen.base_url}
    return {**found, "DATABASE_URL": chosen.database_url} if on_postgres else found


def had_their_turn(issue_id: int, count: int) -> None:
    """What a worker writes: `count` of each batch of ten."""
    with db.transaction() as session:
        state = BatchState.DONE if count == 10 else BatchState.SENDING
        session.execute(update(Batch).where(Batch.issue_id == issue_id).values(recorded=count, state=state))
        limits.report(session=session, now=datetime.now(UTC), name="one", issue_id=issue_id, connections=4, rate=10.0)


def test_a_round_is_watched_to_its_end_line_by_line(app: flask.Flask, tmp_path: Path) -> None:
    issue_id = going_out()
    watcher = processes.Process(
        ("vinkje", "issue", "show", str(issue_id), "--watch"), environment(), tmp_path / "watch.log"
    )

    def said(words: str) -> None:
        processes.wait_until(lambda: words in watcher.text(), 20, f"{words!r} in {watcher.text()!r}")

    try:
        said(f"Issue {issue_id} is sending.\n0 %, 0 of 100\n")
        had_their_turn(issue_id, 4)
        said("40 %, 40 of 100, 10 a second, 6 seconds left\n")
        tripped(text="Service not available")
        said(f"Issue {issue_id} is paused: The mail server doesn’t answer. Heard: 421 4.3.0 Service not available.")
        said("Sending goes on by itself as soon as it does. Next try at ")
        with db.transaction() as session:
            breaker.heal(session=session, now=datetime.now(UTC))
        processes.wait_until(lambda: watcher.text().count(f"Issue {issue_id} is sending.\n") == 2, 20)
        had_their_turn(issue_id, 10)
        said("100 %, 100 of 100")
        assert watcher.running
        with db.transaction() as session:
            rounds.finish(session=session, now=datetime.now(UTC), issue_id=issue_id)
        said(f"Issue {issue_id} is sent.\n")
        assert watcher.stop(0) == 0
    finally:
        watcher.kill()
    lines = watcher.text().splitlines()
    assert len([line for line in lines if line.startswith("40 %")]) == 3  # once in each of three states
    last = lines.index(f"Issue {issue_id} is sent.")
    assert lines[last - 1].startswith("100 %, 100 of 100")
    assert lines[last + 1] == f"id         {issue_id}"
    assert "audience   100" in lines[last:]


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_a_database_that_is_away_for_a_while_ends_no_watching(app: flask.Flask, tmp_path: Path) -> None:
    issue_id = going_out()
    words = ("vinkje", "issue", "show", str(issue_id), "--watch")
    watcher = processes.Process(words, environment(), tmp_path / "watch.log")
    try:
        processes.wait_until(lambda: "0 of 100" in watcher.text(), 20)
        with psycopg.connect(
            settings.current().database_url.replace("/house?", "/postgres?").replace("+psycopg", ""), autocommit=True
        ) as admin:
            admin.execute("ALTER DATABASE house ALLOW_CONNECTIONS false")
            try:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'house'")
                processes.wait_until(lambda: "The database is away" in watcher.text(), 20)
            finally:
                admin.execute("ALTER DATABASE house ALLOW_CONNECTIONS true")
        db.db.engine.dispose()  # our own connections were ended too
        processes.wait_until(lambda: watcher.text().count(f"Issue {issue_id} is sending.") == 2, 20)
        assert "Traceback" not in watcher.text()
    finally:
        watcher.kill()


def test_ctrl_c_ends_the_looking_and_not_the_round(app: flask.Flask) -> None:
    issue_id = going_out()
    had_their_turn(issue_id, 5)
    ours, theirs = pty.openpty()
    watcher = subprocess.Popen(
        [processes.BIN / "vinkje", "issue", "show", str(issue_id), "--watch"],
        env={**environment(), "TERM": "xterm", "COLUMNS": "100", "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = ""
    try:
        while "60 of 100" not in seen:
            assert select_ready([ours], [], [], 20)[0], seen
            seen += os.read(ours, 4096).decode()
            if "50 of 100" in seen:
                had_their_turn(issue_id, 6)
        watcher.send_signal(signal.SIGINT)
        looks = 20
        with suppress(OSError):  # Linux says EIO when the other side is gone
            while (looks := looks - 1) and (more := os.read(ours, 4096)):
                seen += more.decode()
        assert looks, "it goes on looking"
        assert watcher.wait(20) == 130
    finally:
        watcher.kill()
        os.close(ours)
    assert "Traceback" not in seen
    first, _, bars = seen.partition("\r\n")
    assert first == f"Issue {issue_id} is sending."
    assert "\n" not in bars.removesuffix("\r\n")  # all on one line
    assert "[" + "#" * 24 + "-" * 16 + "]  60 %, 60 of 100" in bars
    with db.transaction() as session:
        assert session.scalars(select(Issue.state)).one() is IssueState.SENDING
