"""The door for people: public pages and the newsroom."""

from __future__ import annotations

import flask
from werkzeug.routing import IntegerConverter, ValidationError

from service.web import (
    access,
    account,
    confirm,
    editors,
    embed,
    faults,
    headers,
    health,
    invitation,
    issues,
    items,
    mailbox,
    newsroom,
    own,
    pages,
    preferences,
    privacy,
    proof,
    relay,
    reports,
    rota,
    session,
    stats,
    themes,
    uncertain,
    unsubscribe,
    view,
)

LARGEST_ID = 2**31 - 1
# One line per room of pages; each module has a Blueprint named `blueprint`.
ROOMS = (
    pages,
    privacy,
    proof,
    confirm,
    preferences,
    own,
    unsubscribe,
    reports,
    health,
    mailbox,
    invitation,
    session,
    newsroom,
    items,
    rota,
    issues,
    uncertain,
    stats,
    editors,
    themes,
    embed,
    relay,
    account,
)


class Id(IntegerConverter):
    """What a row's id can be. A larger number is no page of ours, rather than a fault of the database."""

    regex = "[0-9]{1,10}"

    def to_python(self, value: str) -> int:
        number = int(value)
        if number > LARGEST_ID:
            raise ValidationError
        return number


def register(app: flask.Flask) -> None:
    app.url_map.converters["int"] = Id  # before the first rule
    access.add(app)
    headers.add(app)
    view.add(app)
    faults.add(app)
    session.add(app)
    for room in ROOMS:
        app.register_blueprint(room.blueprint)
