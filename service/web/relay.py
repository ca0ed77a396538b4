"""The page on which an admin sees the mail server's state and changes what it may get."""

from __future__ import annotations

from collections.abc import Mapping

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, settings
from service.delivery import progress, steer
from service.delivery.progress import RelayState
from service.web import following, headers, session, view

blueprint = flask.Blueprint("relay", __name__, url_prefix=session.ROOM + "/relay")


@blueprint.get("")
def show() -> ResponseReturnValue:
    return _page(None, [])


@blueprint.post("")
def change() -> ResponseReturnValue:
    form = flask.request.form
    typed = {name: form.get(name, "") for name in ("connections", "rate")}
    try:
        with db.transaction() as work:
            steer.change(session=work, now=session.now(), **typed)
    except errors.Refused as refused:
        return _page(typed, [(refused.field, session.say(refused))]), 422
    flask.flash(view.translate("The limits are changed. Workers hear it within a second."))
    return flask.redirect(flask.url_for("relay.show"))


def _page(typed: Mapping[str, str] | None, problems: list[tuple[str, str]]) -> flask.Response:
    found, chosen = progress.relay(session=db.reading(), now=session.now()), settings.current()
    shown = flask.render_template(
        "newsroom/relay.html",
        relay=found,
        word=following.STATES[found.trouble],
        why=progress.WHY,
        typed=_set(found) if typed is None else typed,
        setting={"connections": chosen.relay_connections, "rate": chosen.relay_rate},
        errors=problems,
    )
    response = flask.make_response(shown)
    response.headers["Content-Security-Policy"] = headers.POLICY_FOLLOWS
    return response


def _set(found: RelayState) -> dict[str, str]:
    """What an operator set, as it would be typed in the page's language; "" where the setting holds."""
    rate = "" if found.own_rate is None else f"{found.own_rate:.2f}".rstrip("0").rstrip(".")
    return {
        "connections": "" if found.own_connections is None else str(found.own_connections),
        "rate": rate.replace(".", ",") if view.language() == "nl" else rate,
    }
