"""The page behind an invitation's link: choose a password. The link is the authorisation, so no cookie."""

from __future__ import annotations

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, links
from service.newsroom import editors
from service.newsroom.models import Editor
from service.web import session, view

blueprint = flask.Blueprint("invitation", __name__, url_prefix="/invitation")


@blueprint.get("/<token>")
def show(token: str) -> str:
    editor_id, version = _read(token)
    editor = editors.invited(session=db.reading(), now=session.now(), editor_id=editor_id, version=version)
    return _page(editor, [])


@blueprint.post("/<token>")
def accept(token: str) -> ResponseReturnValue:
    editor_id, version = _read(token)
    password = flask.request.form.get("password", "")
    try:
        with db.transaction() as work:
            editors.accept(session=work, now=session.now(), editor_id=editor_id, version=version, password=password)
    except errors.Refused as refused:
        editor = editors.find(session=db.reading(), editor_id=editor_id)
        view.speak(editor.language)
        return _page(editor, [(refused.field, session.say(refused))]), 422
    return flask.redirect(flask.url_for("session.login", welcome=1))


def _read(token: str) -> tuple[int, int]:
    editor_id, version = links.read(links.Purpose.INVITATION, token)
    return editor_id, version


def _page(editor: Editor, problems: list[tuple[str, str]]) -> str:
    view.speak(editor.language)
    return flask.render_template("newsroom/invitation.html", editor=editor, errors=problems)
