"""The door for people: public pages and the newsroom."""

from __future__ import annotations

import flask


def register(app: flask.Flask) -> None:
    pass
