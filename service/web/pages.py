"""The public pages."""

from __future__ import annotations

import flask

blueprint = flask.Blueprint("public", __name__)


@blueprint.get("/")
def signup() -> str:
    return flask.render_template("public/signup.html")


@blueprint.get("/privacy")
def privacy() -> str:
    return flask.render_template("public/signup.html")
