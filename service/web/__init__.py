"""The door for people: public pages and the newsroom."""

from __future__ import annotations

import flask

from service.web import access, confirm, faults, headers, health, pages, preferences, unsubscribe, view

# One line per room of pages; each module has a Blueprint named `blueprint`.
ROOMS = (
    pages,
    confirm,
    preferences,
    unsubscribe,
    health,
)


def register(app: flask.Flask) -> None:
    access.add(app)
    headers.add(app)
    view.add(app)
    faults.add(app)
    for room in ROOMS:
        app.register_blueprint(room.blueprint)
