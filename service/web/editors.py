"""Pages on which an admin invites editors, changes what they may do, and ends their access."""

from __future__ import annotations

from collections.abc import Mapping

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, i18n
from service.newsroom import editors
from service.newsroom.models import Role
from service.web import session, view

# The form's own name for the editor's language: `language` is the page's.
FIELDS = {"language": "speaks"}

blueprint = flask.Blueprint("editors", __name__, url_prefix=session.ROOM + "/editors")


@blueprint.get("")
def listing() -> str:
    return _page({}, [])


@blueprint.post("")
def invite() -> ResponseReturnValue:
    form = flask.request.form
    role = _role(form.get("role", ""))
    if role is None:
        return _page(form, [("role", view.translate("Choose a role."))]), 422
    try:
        with db.transaction() as work:
            email = editors.invite(
                session=work,
                now=session.now(),
                email=form.get("email", ""),
                name=form.get("name", ""),
                role=role,
                language=form.get("speaks", i18n.LANGUAGES[0]),
                by=session.editor().id,
            ).email
    except errors.Refused as refused:
        return _page(form, [(FIELDS.get(refused.field, refused.field), session.say(refused))]), 422
    except errors.Throttled as throttled:
        return _too_often(form, throttled)
    return _invited(email)


@blueprint.post("/<int:editor_id>/role")
def change_role(editor_id: int) -> ResponseReturnValue:
    role = _role(flask.request.form.get("role", ""))
    if role is None:
        return _page({}, [("", view.translate("Choose a role."))]), 422
    try:
        with db.transaction() as work:
            editors.change_role(session=work, editor_id=editor_id, role=role)
    except errors.Conflict as conflict:
        return _page({}, [("", session.say(conflict))]), 409
    flask.flash(view.translate("The role is changed."))
    return _back()


@blueprint.get("/<int:editor_id>/invitation")
def ask_reinvite(editor_id: int) -> str:
    editor = editors.find(session=db.reading(), editor_id=editor_id)
    return flask.render_template(
        "newsroom/ask.html",
        heading=view.translate("Mail %(name)s a new invitation?", name=editor.name),
        advice=view.translate("They are signed out at once, and sign in again once they have chosen a new password."),
        action=flask.url_for("editors.reinvite", editor_id=editor_id),
        button=view.translate("Send the invitation"),
        back=flask.url_for("editors.listing"),
    )


@blueprint.post("/<int:editor_id>/invitation")
def reinvite(editor_id: int) -> ResponseReturnValue:
    try:
        with db.transaction() as work:
            email = editors.reinvite(session=work, now=session.now(), editor_id=editor_id, by=session.editor().id).email
    except errors.Conflict as conflict:
        return _page({}, [("", session.say(conflict))]), 409
    except errors.Throttled as throttled:
        return _too_often({}, throttled)
    return _invited(email)


@blueprint.get("/<int:editor_id>/end")
def ask_end(editor_id: int) -> str:
    editor = editors.find(session=db.reading(), editor_id=editor_id)
    return flask.render_template(
        "newsroom/ask.html",
        heading=view.translate("End access for %(name)s?", name=editor.name),
        advice=view.translate("They are signed out at once and can’t sign in any more. What they wrote stays."),
        action=flask.url_for("editors.end", editor_id=editor_id),
        button=view.translate("End access"),
        back=flask.url_for("editors.listing"),
    )


@blueprint.post("/<int:editor_id>/end")
def end(editor_id: int) -> ResponseReturnValue:
    try:
        with db.transaction() as work:
            editors.leave(session=work, now=session.now(), editor_id=editor_id)
    except errors.Conflict as conflict:
        return _page({}, [("", session.say(conflict))]), 409
    flask.flash(view.translate("The access is ended."))
    return _back()


def _invited(email: str) -> ResponseReturnValue:
    flask.flash(view.translate("An invitation is on its way to %(email)s. It is valid for seven days.", email=email))
    return _back()


def _too_often(typed: Mapping[str, str], throttled: errors.Throttled) -> ResponseReturnValue:
    return _page(typed, [("", session.say(throttled))]), 429, {"Retry-After": str(throttled.seconds)}


def _role(value: str) -> Role | None:
    return next((role for role in Role if role == value), None)


def _page(typed: Mapping[str, str], problems: list[tuple[str, str]]) -> str:
    return flask.render_template(
        "newsroom/editors.html",
        editors=editors.every(session=db.reading()),
        typed=typed,
        errors=problems,
        roles=list(Role),
    )


def _back() -> ResponseReturnValue:
    return flask.redirect(flask.url_for("editors.listing"))
