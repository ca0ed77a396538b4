"""Workers as real processes: asked to stop, started before their database. Who kills them is tests/chaos."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
from sqlalchemy import insert, select

from service import db
from service.delivery import books
from service.delivery.models import Batch, BatchState
from service.subscribers.models import State, Subscriber, Subscription
from tests import fakes, make, processes
from tests.chaos.parts import Wire
from tests.conftest import SECRET

CELERY = ("celery", "-A", "worker.app")


@pytest.fixture
def sink() -> Iterator[fakes.Sink]:
    with fakes.Sink() as server:
        yield server


@pytest.fixture
def env(postgres: Callable[[str], str], valkey: str, sink: fakes.Sink, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": postgres("killed_worker"),
        "REDIS_URL": f"{valkey.rpartition('/')[0]}/7",
        "SMTP_URL": sink.url,
        "BASE_URL": "http://localhost:8000",
        "SECRET_KEY": SECRET,
        "MAIL_FROM": "Vinkje <nieuws@vinkje.example>",
        "ORGANISATION": "Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
        "DATA_DIR": str(tmp_path),
        "TICK_SECONDS": "1",
        "LEASE_SECONDS": "3",
    }


def round_of(readers: int) -> int:
    """An approved issue whose hour has come: the tick will find it."""
    now = datetime.now(UTC)
    before = now - timedelta(days=1)
    with db.transaction() as session:
        theme = make.theme(session)
        people = [
            {"email": f"lezer{n}@gemeente.example", "email_key": f"lezer{n}@gemeente.example", "language": "nl"}
            for n in range(readers)
        ]
        session.execute(insert(Subscriber).values(created_at=before), people)
        columns = {"theme_id": theme.id, "state": State.ACTIVE, "requested_at": before, "confirmed_at": before}
        session.execute(
            insert(Subscription), [{"subscriber_id": one, **columns} for one in session.scalars(select(Subscriber.id))]
        )
        return make.approved(session, now=now).id


@contextlib.contextmanager
def running(env: dict[str, str], folder: Path, *names: str) -> Iterator[dict[str, processes.Process]]:
    commands = {
        "first": (*CELERY, "worker", "-Q", "newsletter", "-c", "1", "-n", "first@%h"),
        "clock": (*CELERY, "worker", "-Q", "confirmation,clock", "-c", "1", "-n", "clock@%h"),
        "beat": (*CELERY, "beat"),
    }
    started = {name: processes.Process(commands[name], env, folder / f"{name}.log") for name in names}
    try:
        yield started
    finally:
        for process in started.values():
            process.kill()


def test_a_worker_that_is_asked_to_stop_finishes_its_mail_and_returns_the_rest(
    house: flask.Flask, env: dict[str, str], sink: fakes.Sink, tmp_path: Path
) -> None:
    sink.pause = 0.1
    issue_id = round_of(400)
    with running(env, tmp_path, "first", "clock", "beat") as started:
        sink.wait(50, 60)
        assert started["first"].stop(seconds=10) == 0

    with db.transaction() as session:
        found = books.of(session=session, issue_id=issue_id)
        batch = session.scalars(select(Batch)).one()
    assert found.accepted == sink.taken.total() < 400
    assert (found.waiting, found.balance) == (400 - found.accepted, True)
    assert batch.state is BatchState.WAITING


def test_beat_stops_when_it_is_asked_to_while_it_waits_for_redis(env: dict[str, str], tmp_path: Path) -> None:
    """Between a command and its answer, where the request to stop comes in the shape of a broken connection."""
    port = int(env["REDIS_URL"].rpartition(":")[2].partition("/")[0])
    with Wire(port) as wire:
        env["REDIS_URL"] = f"redis://127.0.0.1:{wire.port}/7"
        with running(env, tmp_path, "beat") as started:
            beat = started["beat"]

            def rings() -> int:
                return beat.text().count("Sending due task")

            processes.wait_until(lambda: rings() > 1, 30, "it doesn't ring")
            wire.cut()
            before = rings()
            processes.wait_until(lambda: rings() > before, 30, "it doesn't ring again")
            assert beat.stop(seconds=4) == 0  # it would wait for the answer for five


def test_a_worker_without_a_relay_says_so_at_once(env: dict[str, str]) -> None:
    """And doesn't wait for its database first."""
    done = processes.run(*CELERY, "worker", "-c", "1", env={**env, "SMTP_URL": ""})
    assert done.returncode == 2
    said = done.stderr.partition("vinkje can't start:\n")[2]
    assert said.startswith("  SMTP_URL: ")
    assert said.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_worker_that_starts_before_its_database_waits_for_it_and_says_so(
    postgres: Callable[[str], str], env: dict[str, str], tmp_path: Path
) -> None:
    late = {**env, "DATABASE_URL": env["DATABASE_URL"].replace("/killed_worker?", "/late?")}
    worker = processes.Process((*CELERY, "worker", "-c", "1", "-n", "early@%h"), late, tmp_path / "early.log")
    try:
        processes.wait_until(lambda: "no answer" in worker.text(), 30, "it doesn't say that it waits")
        postgres("late")
        processes.wait_until(lambda: "vinkje db upgrade" in worker.text(), 30, "it doesn't say what to do")
        processes.vinkje("db", "upgrade", env=late)
        processes.wait_until(lambda: "ready" in worker.text(), 30, "it doesn't start")
        answered = processes.run(*CELERY, "inspect", "ping", "-d", f"early@{socket.gethostname()}", env=late)
        assert answered.returncode == 0, answered.stdout + answered.stderr
        assert worker.stop() == 0
    finally:
        worker.kill()


WEB = ("gunicorn", "--bind", "127.0.0.1:0", "service.app:create_app()")


@pytest.mark.parametrize(
    ("missing", "status", "command"),
    [
        ("REDIS_URL", 4, WEB),
        ("SMTP_URL", 4, WEB),
        ("REDIS_URL", 2, (*CELERY, "worker", "-c", "1", "-n", "lonely@%h")),
        ("REDIS_URL", 2, (*CELERY, "beat")),
    ],
)
def test_a_process_of_several_says_at_once_what_it_misses(
    missing: str, status: int, command: tuple[str, ...], env: dict[str, str]
) -> None:
    """gunicorn's master stops too, rather than start its workers again without end."""
    done = processes.run(*command, env={**env, missing: ""})
    assert done.returncode == status, done.stdout + done.stderr
    said = done.stderr.partition("vinkje can't start:\n")[2].splitlines()
    assert said[0].startswith(f"  {missing}: ")
    assert "Traceback" not in done.stderr


def test_gunicorn_stops_at_a_wrong_setting(env: dict[str, str]) -> None:
    wrong = {**env, "BATCH_SIZE": "many"}
    done = processes.run(*WEB, env=wrong)
    assert done.returncode == 4
    assert "vinkje can't start:\n  BATCH_SIZE: " in done.stderr


def test_gunicorn_names_no_visitor_who_sends_what_it_can_not_read(env: dict[str, str], tmp_path: Path) -> None:
    port = processes.free_port()
    command = ("gunicorn", "--bind", f"127.0.0.1:{port}", "service.app:create_app()")
    web = processes.Process(command, env, tmp_path / "web.log")
    try:
        processes.wait_until(lambda: "Listening at" in web.text(), 30, "it doesn't start")
        with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=("127.3.4.5", 0)) as visitor:
            visitor.sendall(b"GET /confirm?saskia=smit%2540gemeente.example RUBBISH\r\n\r\n")
            assert b" 400 " in visitor.recv(100)
        processes.wait_until(lambda: "Invalid request" in web.text(), 30, "it doesn't say what was wrong")
        said = web.text()
        assert "Invalid request from ip=127.3.4.0/24" in said
        assert "127.3.4.5" not in said
        assert "gemeente" not in said
        assert "saskia" not in said
    finally:
        web.kill()
