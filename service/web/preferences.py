"""The preference centre, behind the link in each mail. What that opens, and when no more: decision 0021."""

from __future__ import annotations

from datetime import UTC, datetime

import flask

from service import db, errors, i18n, links
from service.i18n import N_
from service.subscribers import addresses, consent, own_data, preferences, unsubscribe
from service.subscribers.models import Channel
from service.subscribers.preferences import Change
from service.web import faults, view

blueprint = flask.Blueprint("preferences", __name__, url_prefix="/preferences")

SAVED = N_("Your choice has been saved.")
LEFT = N_("You get no newsletter from us any more.")
ASKED = N_("We mail you a button. Press it, and you get the newsletter again. That way nobody else can sign you up.")


@blueprint.get("/sample")
def sample() -> str:
    """Where the links of previews and test mails lead (service/issues/editions.py)."""
    return flask.render_template("public/sample.html")


@blueprint.get("/<token>")
def show(token: str) -> flask.Response:
    return _page(token)


@blueprint.post("/<token>")
def save(token: str) -> flask.Response:
    subscriber_id, moved = links.read_preferences(token)
    now, form = datetime.now(UTC), flask.request.form
    if form.get("leave") == "all":
        return _leave(token, subscriber_id, now)
    if preferences.older(session=db.reading(), subscriber_id=subscriber_id, moved=moved):
        return _page(token)
    if form.get("letter") == "data":
        return _mail_link(subscriber_id, now)
    try:
        done = _change(subscriber_id, moved, now)
    except errors.NotFound:
        return _gone()
    except errors.Refused as fault:
        return _page(token, refused=fault)
    return _page(token, done=None if done is Change.OLDER else done)


def _leave(token: str, subscriber_id: int, now: datetime) -> flask.Response:
    with db.transaction() as session:
        unsubscribe.leave_all(session=session, now=now, subscriber_id=subscriber_id, channel=Channel.PREFERENCES)
    return _page(token, done=Change.SAVED)


def _change(subscriber_id: int, moved: int, now: datetime) -> Change:
    form = flask.request.form
    with db.transaction() as session:
        return preferences.change(
            session=session,
            now=now,
            subscriber_id=subscriber_id,
            slugs=set(form.getlist("themes")),
            language=form.get("language", ""),
            shown_in=_known(form.get("shown_in", "")),
            moved=moved,
        )


def _mail_link(subscriber_id: int, now: datetime) -> flask.Response:
    """The same page whether the mail goes out or there were too many (requirements 4.6)."""
    with db.transaction() as session:
        own_data.ask(session=session, now=now, subscriber_id=subscriber_id)
    shown = preferences.show(session=db.reading(), subscriber_id=subscriber_id)
    if shown is None:
        return _gone()
    view.speak(shown.subscriber.language)
    email = addresses.mask(shown.subscriber.email)
    return flask.make_response(flask.render_template("public/data_asked.html", email=email))


def _known(language: str) -> str:
    return language if language in i18n.LANGUAGES else ""


def _page(token: str, *, done: Change | None = None, refused: errors.Refused | None = None) -> flask.Response:
    subscriber_id, moved = links.read_preferences(token)
    shown = preferences.show(session=db.reading(), subscriber_id=subscriber_id)
    if shown is None:
        return _gone()
    view.speak(shown.subscriber.language)
    if shown.subscriber.moved != moved:
        return flask.make_response(flask.render_template("public/older.html", left=done is not None))
    language = view.language()
    has = [theme.slug for theme, has in shown.themes if has]
    offered = sorted((theme for theme, _ in shown.themes), key=lambda theme: theme.name(language).casefold())
    retired = view.translate("Not offered any more. Once you untick it, it’s gone.")
    body = flask.render_template(
        "public/preferences.html",
        email=addresses.mask(shown.subscriber.email),
        options=[(theme.slug, theme.name(language), retired if theme.retired_at else "") for theme in offered],
        chosen=flask.request.form.getlist("themes") if refused else has,
        reads=bool(has),
        mail_language=shown.subscriber.language,
        mail_languages=[(code, name, "") for code, name in i18n.NAMES.items()],
        wording=consent.wording(consent.PREFERENCES, language).text,
        status=view.translate(ASKED if done is Change.ASKED else SAVED if has else LEFT) if done else "",
        asked=done is Change.ASKED,
        errors=[(refused.field, faults.message(refused))] if refused else [],
    )
    return flask.make_response(body, faults.status(refused) if refused else 200)


def _gone() -> flask.Response:
    return flask.make_response(flask.render_template("public/gone.html"), faults.STATUS[errors.NotFound])
