"""The list of issues, and the form that plans one: a theme, a week, an hour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, i18n, themes
from service.issues import overview, rota
from service.web import session, view

WEEKS = 27  # offered for planning: half a year
PAGE = 50

blueprint = flask.Blueprint("rota", __name__, url_prefix=session.ROOM + "/issues")


@blueprint.get("")
def listing() -> str:
    args = flask.request.args
    return _listing({"theme": args.get("theme", ""), "week": args.get("week", "")}, [])


@blueprint.post("")
def plan() -> ResponseReturnValue:
    form = flask.request.form
    try:
        with db.transaction() as work:
            theme = next((t for t in themes.open_themes(session=work) if t.slug == form.get("theme")), None)
            typed = form.get("send_at", "").strip()
            issue_id = rota.plan(
                session=work,
                now=session.now(),
                theme_id=theme.id if theme else 0,
                week=form.get("week", ""),
                send_at=rota.parse_local(typed) if typed else None,
            ).id
    except errors.Refused as refused:
        return _listing(form, [(refused.field, session.say(refused))]), 422
    except errors.Conflict as conflict:
        return _listing(form, [("week", session.say(conflict))]), 409
    flask.flash(view.translate("The issue is planned."))
    return flask.redirect(flask.url_for("issues.show", issue_id=issue_id))


def _listing(typed: Mapping[str, str], problems: list[tuple[str, str]]) -> str:
    reading = db.reading()
    page = max(1, min(flask.request.args.get("page", 1, type=int), 10_000))
    ended = overview.ended(session=reading, start=(page - 1) * PAGE, limit=PAGE + 1)
    return flask.render_template(
        "newsroom/issues.html",
        coming=overview.coming(session=reading),
        ended=ended[:PAGE],
        more=len(ended) > PAGE,
        page=page,
        themes=[(theme.slug, theme.name(view.language())) for theme in themes.open_themes(session=reading)],
        weeks=_weeks(typed.get("week", "")),
        typed=typed,
        errors=problems,
    )


def _weeks(typed: str) -> list[tuple[str, str]]:
    """(value, words) of the weeks to choose from; another one that was typed is kept."""
    monday = rota.monday(rota.week_of(session.now()))
    mondays = [monday + timedelta(days=7 * number) for number in range(WEEKS)]
    offered = [(f"{day.isocalendar().year}-W{day.isocalendar().week:02d}", _week_in_words(day)) for day in mondays]
    known = any(week == typed for week, _ in offered)
    return offered if known or not typed else [(typed, typed), *offered]


def _week_in_words(monday: date) -> str:
    days = i18n.days(view.language(), monday, monday + timedelta(days=6))
    return view.translate("Week %(week)s: %(days)s", week=monday.isocalendar().week, days=days)
