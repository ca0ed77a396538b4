"""Pages to write, preview, publish and withdraw items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict
from urllib.parse import urlsplit

import flask
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from service import db, errors, themes
from service.i18n import N_
from service.issues import overview
from service.newsroom import items, markup
from service.newsroom.models import Item, ItemState
from service.web import session, view

PAGE = 50
# The form's own name for the text's language: `language` is the page's.
FIELDS = {"language": "written_in"}


class Values(TypedDict):
    theme_id: int
    title: str
    body: str
    url: str
    language: str


blueprint = flask.Blueprint("items", __name__, url_prefix=session.ROOM + "/items")


@blueprint.get("")
def listing() -> str:
    reading, args = db.reading(), flask.request.args
    every = themes.every(session=reading)
    theme = next((theme for theme in every if theme.slug == args.get("theme")), None)
    state = next((state for state in ItemState if state == args.get("state")), None)
    page = max(1, min(args.get("page", 1, type=int), 10_000))
    found = items.some(
        session=reading,
        theme_id=theme.id if theme else None,
        state=state,
        start=(page - 1) * PAGE,
        limit=PAGE + 1,
    )
    return flask.render_template(
        "newsroom/items.html",
        items=found[:PAGE],
        more=len(found) > PAGE,
        page=page,
        themes=every,
        theme=theme,
        state=state,
        states=list(ItemState),
    )


@blueprint.get("/new")
def new() -> str:
    typed = {"written_in": session.editor().language, "theme": flask.request.args.get("theme", "")}
    return _form(None, typed)


@blueprint.post("/new")
def write() -> ResponseReturnValue:
    form = flask.request.form
    if form.get("do") == "preview":
        return _form(None, form, preview=True)
    try:
        with db.transaction() as work:
            item = items.write(session=work, now=session.now(), editor_id=session.editor().id, **_values(form))
            if form.get("do") == "publish":
                items.publish(session=work, now=session.now(), item_id=item.id)
            item_id = item.id
    except errors.Refused as refused:
        return _form(None, form, refused), 422
    return _done(item_id)


@blueprint.get("/<int:item_id>")
def edit(item_id: int) -> str:
    item = items.find(session=db.reading(), item_id=item_id)
    return _form(item, _typed(item), preview=True)


@blueprint.post("/<int:item_id>")
def change(item_id: int) -> ResponseReturnValue:
    form = flask.request.form
    if form.get("do") == "preview":
        return _form(items.find(session=db.reading(), item_id=item_id), form, preview=True)
    try:
        with db.transaction() as work:
            items.change(
                session=work,
                now=session.now(),
                item_id=item_id,
                version=form.get("version", 0, type=int),
                **_values(form),
            )
            if form.get("do") == "publish":
                items.publish(session=work, now=session.now(), item_id=item_id)
    except (errors.Refused, errors.Conflict) as fault:
        return _form(items.find(session=db.reading(), item_id=item_id), form, fault), session.status(fault)
    return _done(item_id)


@blueprint.post("/<int:item_id>/withdraw")
def withdraw(item_id: int) -> ResponseReturnValue:
    try:
        with db.transaction() as work:
            items.withdraw(session=work, now=session.now(), item_id=item_id)
    except errors.Conflict as fault:
        item = items.find(session=db.reading(), item_id=item_id)
        return _form(item, _typed(item), fault, preview=True), session.status(fault)
    flask.flash(view.translate("The item is withdrawn: it won’t go into an issue."))
    return flask.redirect(flask.url_for("items.edit", item_id=item_id))


def _values(form: Mapping[str, str]) -> Values:
    """What the domain wants, from what the form holds; an unknown theme is 0, which is refused there."""
    every = themes.every(session=db.reading())
    return {
        "theme_id": next((theme.id for theme in every if theme.slug == form.get("theme")), 0),
        "title": form.get("title", ""),
        "body": form.get("body", ""),
        "url": form.get("url", ""),
        "language": form.get("written_in", "nl"),
    }


def _typed(item: Item) -> dict[str, str]:
    return {
        "theme": item.theme.slug,
        "title": item.title,
        "body": item.body,
        "url": item.url,
        "written_in": item.language,
    }


def _done(item_id: int) -> ResponseReturnValue:
    published = flask.request.form.get("do") == "publish"
    said = N_("The item is saved and published.") if published else N_("The item is saved.")
    flask.flash(view.translate(said))
    return flask.redirect(flask.url_for("items.edit", item_id=item_id))


def _problems(typed: Mapping[str, str], fault: errors.VinkjeError | None, *, check: bool) -> list[tuple[str, str]]:
    """(field, words). `check`: a preview says what saving would refuse."""
    if fault is not None and not isinstance(fault, errors.Refused):
        return [("", session.say(fault))]
    if fault is None and not check:
        return []
    every = items.problems(session=db.reading(), **_values(typed)) or ([fault] if fault else [])
    return [(FIELDS.get(one.field, one.field), session.say(one)) for one in every]


def _read_on(url: str) -> str:
    """The words of the mail's link to the source."""
    host = (urlsplit(url).hostname or "").removeprefix("www.")
    return view.translate("Read on: %(where)s", where=host) if host else ""


def _form(
    item: Item | None,
    typed: Mapping[str, str],
    fault: errors.VinkjeError | None = None,
    *,
    preview: bool = False,
) -> str:
    """`item` is what is stored now, `typed` what stands in the fields."""
    problems = _problems(typed, fault, check=preview and flask.request.method == "POST")
    html = None
    if preview and "body" not in [field for field, _ in problems]:
        try:
            html = Markup(markup.to_html(typed.get("body", "")))  # noqa: S704  # cleaned by markup
        except errors.Refused as refused:
            problems.append(("body", session.say(refused)))
    chosen = typed.get("theme", "")
    offered = [
        (theme.slug, theme.name(view.language()))
        for theme in themes.every(session=db.reading())
        if not theme.retired_at or theme.slug == chosen
    ]
    clash = isinstance(fault, errors.Conflict) and flask.request.endpoint == "items.change"
    return flask.render_template(
        "newsroom/item.html",
        item=item,
        issue=overview.issue_of(session=db.reading(), item_id=item.id) if item else None,
        typed=typed,
        # After a clash the editor sees both texts, so the next save is on top of the newest one.
        version=typed.get("version") if not clash and typed.get("version") else item and item.version,
        errors=problems,
        html=html,
        read_on=_read_on(typed.get("url", "").strip()) if "url" not in [field for field, _ in problems] else "",
        themes=offered,
        clash=clash,
    )
