"""The sign-up form as plain HTML, for an organisation to paste into its own site.

No script, no style and no picture of ours goes along: it takes on the looks of the page it stands on, and that page
loads nothing from here. What it sends is what our own form sends, but for the mark of when it was shown
(service/web/forms.py): so limits are tighter, and the evidence doesn't claim our words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import flask
from flask.typing import ResponseReturnValue

from service import db, i18n, links, settings, themes
from service.subscribers import consent, signup
from service.web import forms, headers, session, view

blueprint = flask.Blueprint("embed", __name__, url_prefix=session.ROOM + "/embed")

POLICY_HOLDS_FORM = headers.POLICY + "; frame-src 'self'"
POLICY_IS_FORM = "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox"


@dataclass(frozen=True)
class Wish:
    """What the form should be like."""

    language: str
    slugs: frozenset[str]


@blueprint.get("")
def show() -> ResponseReturnValue:
    offered, wish = themes.open_themes(session=db.reading()), _wish()
    chosen = [theme for theme in offered if theme.slug in wish.slugs]
    problems = [("themes", view.translate("Tick at least one theme."))] if offered and not chosen else []
    most = settings.current().signups_per_network_hour
    page = flask.render_template(
        "newsroom/embed.html",
        options=[(theme.slug, theme.name(view.language()), "") for theme in offered],
        tongues=[(code, name, "") for code, name in i18n.NAMES.items()],
        wish=wish,
        code=_code(wish.language, chosen) if chosen else "",
        origin=settings.current().base_url,
        most=most,
        most_elsewhere=max(1, most // signup.TIGHTER),
        errors=problems,
    )
    return page, 422 if problems else 200, {"Content-Security-Policy": POLICY_HOLDS_FORM}


@blueprint.get("/preview")
def preview() -> ResponseReturnValue:
    """The form alone on a page without any style: as it looks where nobody dresses it."""
    wish = _wish()
    chosen = [theme for theme in themes.open_themes(session=db.reading()) if theme.slug in wish.slugs]
    code = _code(wish.language, chosen) if chosen else ""
    page = flask.render_template("newsroom/embed_preview.html", language=wish.language, code=code)
    return page, 200, {"Content-Security-Policy": POLICY_IS_FORM}


def _wish() -> Wish:
    """Who asks for nothing gets all themes, in their own language."""
    asked = flask.request.args
    language = asked.get("language", "")
    if "language" in asked or "themes" in asked:
        slugs = frozenset(asked.getlist("themes"))
    else:
        slugs = frozenset(theme.slug for theme in themes.open_themes(session=db.reading()))
    return Wish(language if language in i18n.LANGUAGES else view.language(), slugs)


def _code(language: str, chosen: list[themes.Theme]) -> str:
    names = sorted(((theme.name(language), theme.slug) for theme in chosen), key=lambda pair: pair[0].casefold())
    return flask.render_template(
        "newsroom/_form.html",
        _=partial(i18n.gettext, language),
        language=language,
        action=links.page("subscribe"),
        privacy=links.page("privacy"),
        names=names,
        trap=forms.TRAP,
        wording=consent.wording(consent.FORM, language).text,
    ).strip()
