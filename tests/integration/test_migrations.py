"""Up and down again, on a database that is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import flask_migrate
import pytest
from sqlalchemy import JSON, Boolean, Column, Connection, DateTime, LargeBinary, MetaData, String, func, select

from service import app as service_app
from service import db, settings
from tests.conftest import NOW, SECRET

OLDEST = "0002"


@pytest.fixture(params=["sqlite", "postgresql"])
def old(
    request: pytest.FixtureRequest, postgres: Callable[[str], str], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[flask.Flask]:
    """The application on a database of an older version, which has a row in each table."""
    url = postgres("old") if request.param == "postgresql" else ""
    monkeypatch.setattr(settings, "_in_use", [])
    settings.use(settings.load(database_url=url, data_dir=data_dir, secret_key=SECRET))
    app = service_app.create_app()
    with app.app_context():
        flask_migrate.upgrade(directory=service_app.MIGRATIONS, revision=OLDEST)
        with db.db.engine.connect().execution_options(writes=True) as connection:
            fill(connection)
            connection.commit()
        yield app
        db.db.engine.dispose()


def fill(connection: Connection) -> None:
    """Each row points to the others, as all have the number 1."""
    found = MetaData()
    found.reflect(connection)
    for table in found.sorted_tables:
        if table.name != "alembic_version":
            connection.execute(table.insert().values({column.name: value(column) for column in table.columns}))


def value(column: Column[object]) -> object:
    if column.name == "state":
        return "left"  # an editor's: migration 0005 asks
    kinds: tuple[tuple[type, object], ...] = (
        (JSON, [1]), (Boolean, True), (DateTime, NOW), (String, "x"), (LargeBinary, b"x")
    )  # fmt: skip
    return next((sample for kind, sample in kinds if isinstance(column.type, kind)), 1)


def rows() -> dict[str, int]:
    """How many each table has."""
    found = MetaData()
    with db.db.engine.connect() as connection:
        found.reflect(connection)
        query = {table.name: select(func.count()).select_from(table) for table in found.sorted_tables}
        return {name: connection.scalar(count) or 0 for name, count in query.items()}


def test_a_database_in_use_goes_up_and_down_and_up_again(old: flask.Flask) -> None:
    before = rows()
    assert {"editors", "items", "notices", "editor_sessions", "subscribers", "batches", "placements"} <= before.keys()
    assert set(before.values()) == {1}

    flask_migrate.upgrade(directory=service_app.MIGRATIONS)
    up = rows()
    assert {name: up[name] for name in before} == before
    with db.db.engine.connect().execution_options(writes=True) as connection:
        letters = MetaData()
        letters.reflect(connection, only=["letters"])
        table = letters.tables["letters"]
        connection.execute(table.insert().values({column.name: value(column) for column in table.columns}))
        connection.commit()

    flask_migrate.downgrade(directory=service_app.MIGRATIONS, revision=OLDEST)
    assert rows() == before
    flask_migrate.upgrade(directory=service_app.MIGRATIONS)
    assert rows() == up
    with db.db.engine.connect() as connection:
        assert db.migration(connection).current
