from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from sqlalchemy import select

from service import db, jobs, settings, themes
from tests import make
from tests.conftest import SECRET

Rung = list[tuple[str, tuple[int, ...]]]


def test_the_bell_rings_once_the_row_can_be_seen(app: flask.Flask, doorbells: Rung) -> None:
    with db.transaction() as session:
        jobs.enqueue(session, jobs.SEND_BATCH, 1)
        jobs.enqueue(session, jobs.TICK)
        session.flush()
        assert doorbells == []
    assert doorbells == [(jobs.SEND_BATCH, (1,)), (jobs.TICK, ())]
    with db.transaction():
        pass
    assert len(doorbells) == 2


def test_a_rollback_forgets_it(app: flask.Flask, doorbells: Rung) -> None:
    with contextlib.suppress(KeyError), db.transaction() as session:
        jobs.enqueue(session, jobs.SEND_BATCH, 1)
        raise KeyError
    with db.transaction():
        pass
    assert doorbells == []


def test_a_savepoint_neither_rings_nor_forgets(app: flask.Flask, doorbells: Rung) -> None:
    with db.transaction() as session:
        jobs.enqueue(session, jobs.SEND_BATCH, 1)
        with session.begin_nested():
            make.theme(session)
        assert doorbells == []
        with pytest.raises(KeyError), session.begin_nested():
            raise KeyError
    assert doorbells == [(jobs.SEND_BATCH, (1,))]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def own_broker(app: flask.Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process's broker is connected anew, and put back afterwards."""
    monkeypatch.setattr(settings, "_in_use", list(settings._in_use))
    monkeypatch.setattr(jobs, "_broker", [])
    yield
    for broker in jobs._broker:
        broker.close()


def connect(redis_url: str) -> None:
    settings.use(settings.current().model_copy(update={"redis_url": redis_url, "secret_key": SECRET}))


@pytest.mark.usefixtures("own_broker")
def test_a_broker_that_is_away_neither_fails_nor_delays_a_commit(closed_port: int) -> None:
    connect(f"redis://127.0.0.1:{closed_port}/0")
    started = time.monotonic()
    with db.transaction() as session:
        make.theme(session, "innovatie")
        for number in range(50):
            jobs.enqueue(session, jobs.SEND_BATCH, number)
    assert time.monotonic() - started < 2
    assert db.reading().scalar(select(themes.Theme.slug)) == "innovatie"


@pytest.mark.usefixtures("own_broker")
def test_a_broker_that_comes_back_is_rung_again(closed_port: int, valkey: str) -> None:
    connect(f"redis://127.0.0.1:{closed_port}/0")
    with db.transaction() as session:
        jobs.enqueue(session, jobs.SEND_BATCH, 1)
    jobs._broker.clear()
    connect(valkey)
    with db.transaction() as session:
        jobs.enqueue(session, jobs.SEND_BATCH, 2)
        jobs.enqueue(session, jobs.SEND_CONFIRMATION, 3)
    with jobs.broker().connection_for_read() as connection:
        arrived = {}
        for queue in ("newsletter", "confirmation"):
            message = connection.SimpleQueue(queue).get(timeout=5)
            message.ack()
            arrived[queue] = (message.headers["task"], message.payload[0])
    assert arrived == {"newsletter": (jobs.SEND_BATCH, [2]), "confirmation": (jobs.SEND_CONFIRMATION, [3])}


def test_every_job_has_a_queue() -> None:
    names = {value for name, value in vars(jobs).items() if name.isupper() and isinstance(value, str)}
    assert set(jobs.QUEUES) == names
    assert set(jobs.QUEUES.values()) == {"clock", "confirmation", "newsletter"}
