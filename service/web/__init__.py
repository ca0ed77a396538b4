"""The door for people: public pages and the newsroom."""

from __future__ import annotations

import flask

from service.web import access, faults, headers, pages, view

# One line per room of pages; each module has a Blueprint named `blueprint`.
ROOMS = (pages,)


def register(app: flask.Flask) -> None:
    access.add(app)
    headers.add(app)
    view.add(app)
    faults.add(app)
    for room in ROOMS:
        app.register_blueprint(room.blueprint)
