"""The door for people: public pages and the newsroom."""

from __future__ import annotations

import flask

from service.web import (
    access,
    account,
    confirm,
    editors,
    faults,
    headers,
    health,
    invitation,
    issues,
    items,
    mailbox,
    newsroom,
    pages,
    preferences,
    rota,
    session,
    themes,
    unsubscribe,
    view,
)

# One line per room of pages; each module has a Blueprint named `blueprint`.
ROOMS = (
    pages,
    confirm,
    preferences,
    unsubscribe,
    health,
    mailbox,
    invitation,
    session,
    newsroom,
    items,
    rota,
    issues,
    editors,
    themes,
    account,
)


def register(app: flask.Flask) -> None:
    access.add(app)
    headers.add(app)
    view.add(app)
    faults.add(app)
    session.add(app)
    for room in ROOMS:
        app.register_blueprint(room.blueprint)
