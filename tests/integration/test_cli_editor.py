"""`vinkje editor password`: the way back in when no admin can help."""

from __future__ import annotations

import flask
import pytest

from service import db, settings
from service.newsroom import sessions
from tests.integration.newsroom import PASSWORD, editor
from tests.integration.operator import done, refused, vinkje
from tests.make import NOW

NEW = "vink in de perenboom"


@pytest.fixture
def _in_environment(monkeypatch: pytest.MonkeyPatch, app: flask.Flask) -> None:
    chosen = settings.current().model_copy(update={"vinkje_password": NEW})
    monkeypatch.setattr(settings, "_in_use", [chosen])


def sign_in(password: str) -> str:
    with db.transaction() as session:
        return sessions.sign_in(
            session=session, now=NOW, email="chief@gemeente.example", password=password, network="192.0.2.0/24"
        )


@pytest.mark.usefixtures("_in_environment")
def test_the_last_admin_who_forgot_the_password_is_let_in_again(app: flask.Flask) -> None:
    editor()
    token = sign_in(PASSWORD)
    said = done(app, "editor", "password", "Chief@gemeente.example")
    assert said == "Carla Visser has a new password.\n"
    assert sessions.find(session=db.reading(), now=NOW, token=token) is None
    assert sign_in(NEW)


@pytest.mark.usefixtures("_in_environment")
@pytest.mark.parametrize("email", ["niemand@gemeente.example", "geen adres"])
def test_who_is_no_editor_is_named_on_one_line(app: flask.Flask, email: str) -> None:
    assert refused(app, "editor", "password", email).startswith("vinkje: ")


def test_without_a_terminal_the_password_must_come_from_the_environment(app: flask.Flask) -> None:
    editor()
    result = vinkje(app, "editor", "password", "chief@gemeente.example")
    assert result.exit_code == 2
    assert "VINKJE_PASSWORD" in result.stderr
    assert sign_in(PASSWORD)
