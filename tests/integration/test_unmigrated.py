"""A web process that is started before `vinkje db upgrade`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import pytest
import structlog

from service import app as service_app
from service import db, settings
from tests.conftest import SECRET


@pytest.fixture(params=["sqlite", "postgresql"])
def bare(
    request: pytest.FixtureRequest, postgres: Callable[[str], str], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[flask.Flask]:
    """The application on a database without tables."""
    url = postgres("bare") if request.param == "postgresql" else ""
    monkeypatch.setattr(settings, "_in_use", [])
    settings.use(settings.load(database_url=url, data_dir=data_dir, secret_key=SECRET))
    app = service_app.create_app()
    yield app
    with app.app_context():
        db.db.engine.dispose()


def test_a_visitor_is_asked_to_come_back_and_the_log_says_what_to_do(bare: flask.Flask) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = bare.test_client().get("/?lang=en")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"
    assert "reached for a moment" in answer.text
    told = [line["advice"] for line in logged if line["event"] == "database_behind"]
    assert told == ["run `vinkje db upgrade`"]
