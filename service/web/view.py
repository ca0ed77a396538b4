"""What every template can use: the visitor's language, dates, addresses of static files, who we are.

Language: `?lang=`, then the form's hidden `language`, then what the page knows of its reader
(`speak`), then Accept-Language, then the default. Never a cookie.
"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import datetime
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path

import flask
from werkzeug.exceptions import HTTPException

from service import i18n, settings

STATIC = Path(__file__).parent / "static"


def add(app: flask.Flask) -> None:
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        _=translate,
        ngettext=_plural,
        long_date=_long_date,
        day_and_hour=_day_and_hour,
        hour=i18n.hour,
        duration=_duration,
        asset=_asset,
        number=_number,
    )
    app.context_processor(_variables)


def language() -> str:
    if "language" not in flask.g:
        flask.g.language = (
            _asked() or i18n.best_language(str(flask.request.accept_languages)) or settings.current().default_language
        )
    return str(flask.g.language)


def speak(known: str) -> None:
    """The language this page's reader chose earlier; what they ask for now still wins."""
    flask.g.language = _asked() or known


def translate(message: str, **params: object) -> str:
    return i18n.gettext(language(), message, **params)


def _asked() -> str | None:
    wanted = [flask.request.args.get("lang")]
    with contextlib.suppress(HTTPException):  # a form that can't be read also gets a page, in some language
        wanted.append(flask.request.form.get("language"))
    return next((tag for tag in wanted if tag in i18n.LANGUAGES), None)


def _here() -> str:
    """This page's own path, made from its rule: a path as it was asked for could lead elsewhere ("//…")."""
    endpoint, request = flask.request.endpoint, flask.request
    return flask.url_for(endpoint, **(request.view_args or {})) if endpoint else flask.url_for("public.signup")


def _plural(one: str, many: str, count: int, **params: object) -> str:
    return i18n.ngettext(language(), one, many, count, **params)


def _long_date(moment: datetime) -> str:
    return i18n.long_date(language(), moment)


def _day_and_hour(moment: datetime) -> str:
    return i18n.day_and_hour(language(), moment)


def _duration(seconds: float) -> str:
    return i18n.duration(language(), seconds)


def _number(count: float) -> str:
    return i18n.number(language(), count)


def _asset(filename: str) -> str:
    return flask.url_for("static", filename=filename, v=_hash(filename))


@lru_cache(maxsize=64)
def _hash(filename: str) -> str:
    return hashlib.sha256((STATIC / filename).read_bytes()).hexdigest()[:12]


def _variables() -> dict[str, object]:
    chosen = settings.current()
    name, _, address = chosen.organisation.partition(",")
    return {
        "language": language(),
        "here": _here(),
        "languages": i18n.NAMES,
        "sender": parseaddr(chosen.mail_from)[0] or name,
        "contact": parseaddr(chosen.mail_from)[1],
        "organisation": name.strip(),
        "postal_address": address.strip(),
    }
