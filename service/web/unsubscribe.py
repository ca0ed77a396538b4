"""Leaving by link: by one click from the mail program (RFC 8058), or by a button on a page."""

from __future__ import annotations

from datetime import UTC, datetime

import flask

from service import db, links, themes
from service.subscribers import preferences, unsubscribe
from service.subscribers.models import Channel
from service.web import view

blueprint = flask.Blueprint("unsubscribe", __name__, url_prefix="/unsubscribe")


@blueprint.get("/sample")
def sample() -> str:
    """Where the links of previews and test mails lead (service/issues/editions.py)."""
    return flask.render_template("public/sample.html")


@blueprint.get("/<token>")
def ask(token: str) -> str:
    return _page(token, left="")


@blueprint.post("/<token>")
def leave(token: str) -> str | flask.Response:
    """The token is the authorisation: no cookie, no CSRF token, never a redirect, 200 also when repeated
    (RFC 8058 §3.1). A POST here can only mean "I want out", so one with an unknown body ends the theme too.
    """
    subscriber_id, theme_id, _ = links.read_unsubscribe(token)
    form = flask.request.form
    one_click = "List-Unsubscribe" in form
    everything = form.get("scope") == "all" and not one_click
    channel = Channel.ONE_CLICK if one_click else Channel.UNSUBSCRIBE_PAGE
    now = datetime.now(UTC)
    with db.transaction() as session:
        if everything:
            unsubscribe.leave_all(session=session, now=now, subscriber_id=subscriber_id, channel=channel)
        else:
            unsubscribe.leave(session=session, now=now, subscriber_id=subscriber_id, theme_id=theme_id, channel=channel)
    if one_click:
        return flask.Response("Unsubscribed.\n", mimetype="text/plain")
    return _page(token, left="all" if everything else "theme")


def _page(token: str, *, left: str) -> str:
    """`left` is what the reader just left: "theme", "all" or ""."""
    subscriber_id, theme_id, moved = links.read_unsubscribe(token)
    session = db.reading()
    shown = preferences.show(session=session, subscriber_id=subscriber_id)
    if shown is None:
        return flask.render_template("public/gone.html")
    view.speak(shown.subscriber.language)
    language = view.language()
    theme = session.get(themes.Theme, theme_id)
    held = [(each.id, each.name(language)) for each, has in shown.themes if has]
    kept = sorted((name for number, name in held if number != theme_id), key=str.casefold)
    older = shown.subscriber.moved != moved  # then the page shows the way out and nothing else (decision 0021)
    return flask.render_template(
        "public/unsubscribe.html",
        left=left,
        theme=theme.name(language) if theme else "",
        reads_this=theme_id in [number for number, _ in held],
        reads_more=bool(kept),
        kept=[] if older else kept,
        preferences="" if older else links.preferences(subscriber_id, moved),
    )
