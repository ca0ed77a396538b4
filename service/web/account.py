"""An editor's own account: language, password, signing out everywhere."""

from __future__ import annotations

import flask
from flask.typing import ResponseReturnValue

from service import db, errors
from service.newsroom import editors, sessions
from service.web import session, view

blueprint = flask.Blueprint("account", __name__, url_prefix=session.ROOM + "/account")


@blueprint.get("")
def show() -> str:
    return _page([])


@blueprint.post("/language")
def change_language() -> ResponseReturnValue:
    editor_id, chosen = session.editor().id, flask.request.form.get("speak", "")
    try:
        with db.transaction() as work:
            editors.change_language(session=work, editor_id=editor_id, language=chosen)
    except errors.Refused as refused:
        return _page([("speak", session.say(refused))]), 422
    view.speak(chosen)
    flask.flash(view.translate("Your language is changed."))
    return _back()


@blueprint.post("/password")
def change_password() -> ResponseReturnValue:
    form, editor_id = flask.request.form, session.editor().id
    try:
        with db.transaction() as work:
            editors.change_password(
                session=work,
                now=session.now(),
                editor_id=editor_id,
                current=form.get("current", ""),
                password=form.get("password", ""),
                token=session.token(),
            )
    except errors.Refused as refused:
        return _page([(refused.field, session.say(refused))]), 422
    flask.flash(view.translate("Your password is changed. Your other sessions have ended."))
    return _back()


@blueprint.post("/sessions")
def sign_out_everywhere() -> ResponseReturnValue:
    editor_id = session.editor().id
    with db.transaction() as work:
        sessions.revoke_all(session=work, now=session.now(), editor_id=editor_id)
    flask.session.clear()
    flask.flash(view.translate("You are signed out everywhere."))
    return flask.redirect(flask.url_for("session.login"))


def _page(problems: list[tuple[str, str]]) -> str:
    count = sessions.count(session=db.reading(), now=session.now(), editor_id=session.editor().id)
    return flask.render_template("newsroom/account.html", errors=problems, sessions=count)


def _back() -> ResponseReturnValue:
    return flask.redirect(flask.url_for("account.show"))
