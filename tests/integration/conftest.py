"""For tests that come in by the web door."""

from __future__ import annotations

import contextvars
from typing import Any

import flask
import flask.testing
import pytest
from werkzeug.test import TestResponse


class Visitor(flask.testing.FlaskClient):
    """Each request has an application context of its own, as in a server, while the test holds one too."""

    def open(self, *args: Any, **values: Any) -> TestResponse:
        # buffered: the whole answer is read, and its file closed.
        return contextvars.Context().run(super().open, *args, **{"buffered": True, **values})


@pytest.fixture
def visitor(app: flask.Flask) -> Visitor:
    return Visitor(app, app.response_class, use_cookies=True)
