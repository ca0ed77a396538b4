"""Pages on which an admin adds and retires themes."""

from __future__ import annotations

from collections.abc import Mapping

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, themes
from service.web import session, view

blueprint = flask.Blueprint("themes", __name__, url_prefix=session.ROOM + "/themes")


@blueprint.get("")
def listing() -> str:
    return _page({}, [])


@blueprint.post("")
def add() -> ResponseReturnValue:
    form = flask.request.form
    values = {"slug": form.get("slug", ""), "name_nl": form.get("nl", ""), "name_en": form.get("en", "")}
    try:
        with db.transaction() as work:
            themes.add(session=work, **values)
    except errors.Refused as refused:
        every = themes.problems(session=db.reading(), **values) or [refused]
        return _page(form, [(one.field, session.say(one)) for one in every]), 422
    flask.flash(view.translate("The theme is added. Readers can choose it from now on."))
    return _back()


@blueprint.get("/<slug>/retire")
def ask_retire(slug: str) -> str:
    theme = themes.by_slug(session=db.reading(), slug=slug)
    return flask.render_template(
        "newsroom/ask.html",
        heading=view.translate("Retire “%(name)s”?", name=theme.name(view.language())),
        advice=view.translate("Nobody can choose it any more. Who has it keeps it. You can’t open it again."),
        action=flask.url_for("themes.retire", slug=slug),
        button=view.translate("Retire this theme"),
        back=flask.url_for("themes.listing"),
    )


@blueprint.post("/<slug>/retire")
def retire(slug: str) -> ResponseReturnValue:
    with db.transaction() as work:
        themes.retire(session=work, slug=slug, now=session.now())
    flask.flash(view.translate("The theme is retired."))
    return _back()


def _page(typed: Mapping[str, str], problems: list[tuple[str, str]]) -> str:
    return flask.render_template(
        "newsroom/themes.html", themes=themes.every(session=db.reading()), typed=typed, errors=problems
    )


def _back() -> ResponseReturnValue:
    return flask.redirect(flask.url_for("themes.listing"))
