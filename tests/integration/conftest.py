"""For tests that come in by the web door, and for rounds on their way."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import flask.testing
import pytest
import time_machine
from sqlalchemy import text
from werkzeug.test import TestResponse

from service import db
from tests import fakes
from tests.integration import trips
from tests.make import NOW


class Visitor(flask.testing.FlaskClient):
    """Each request has an application context of its own, as in a server, while the test holds one too."""

    def open(self, *args: Any, **values: Any) -> TestResponse:
        # buffered: the whole answer is read, and its file closed.
        return contextvars.Context().run(super().open, *args, **{"buffered": True, **values})


@pytest.fixture
def visitor(app: flask.Flask) -> Visitor:
    return Visitor(app, app.response_class, use_cookies=True)


@pytest.fixture
def clock(app: flask.Flask) -> Iterator[time_machine.Traveller]:
    """What doors and jobs take for now; it stands still at NOW until it is moved."""
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def begin(app: flask.Flask, relay: fakes.Relay, doorbells: list[tuple[str, tuple[int, ...]]]) -> Iterator[trips.Begin]:
    with trips.beginning(app, relay) as begun:
        yield begun


@pytest.fixture
def server_log(app: flask.Flask) -> Callable[[], str]:
    """What PostgreSQL wrote in its own log since the test began, in small letters; SQLite has none."""
    if db.db.engine.dialect.name == "sqlite":
        return lambda: ""
    with db.db.engine.connect() as connection:
        path = Path(connection.execute(text("SHOW data_directory")).scalar_one()) / "log"
        assert connection.execute(text("SHOW log_error_verbosity")).scalar_one() == "default"
    before = path.stat().st_size
    return lambda: path.read_bytes()[before:].decode(errors="replace").lower()
