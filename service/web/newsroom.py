"""The newsroom's first page: what goes out this week, what waits for a word, what is being written."""

from __future__ import annotations

from datetime import timedelta

import flask

from service import db, settings, themes
from service.issues import overview, rota
from service.newsroom import items
from service.newsroom.models import ItemState
from service.subscribers import signup
from service.web import privacy, session

blueprint = flask.Blueprint("newsroom", __name__, url_prefix=session.ROOM)


@blueprint.get("/")
def desk() -> str:
    reading, now = db.reading(), session.now()
    weeks = [rota.week_of(now), rota.week_of(now + timedelta(days=7))]
    return flask.render_template(
        "newsroom/desk.html",
        weeks=[(week, overview.of_week(session=reading, week=week)) for week in weeks],
        waiting=overview.waiting_for_a_chief(session=reading),
        drafts=items.some(session=reading, state=ItemState.DRAFT, limit=10),
        themes=themes.open_themes(session=reading),
        ready=items.waiting(session=reading),
        ceiling=settings.current().signups_per_hour
        if session.may("admin") and signup.full(session=reading, now=now)
        else 0,
        unsaid=privacy.unsaid() if session.may("chief") else [],
    )
