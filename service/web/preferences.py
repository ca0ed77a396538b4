"""The preference centre. The link is the key: who has the mail may change what is mailed."""

from __future__ import annotations

from datetime import UTC, datetime

import flask

from service import db, errors, i18n, links
from service.i18n import N_
from service.subscribers import addresses, consent, own_data, preferences, unsubscribe
from service.subscribers.models import Channel
from service.web import faults, view

blueprint = flask.Blueprint("preferences", __name__, url_prefix="/preferences")

SAVED = N_("Your choice has been saved.")
LEFT = N_("You get no newsletter from us any more.")


@blueprint.get("/sample")
def sample() -> str:
    """Where the links of previews and test mails lead (service/issues/editions.py)."""
    return flask.render_template("public/sample.html")


@blueprint.get("/<token>")
def show(token: str) -> flask.Response:
    return _page(token)


@blueprint.post("/<token>")
def save(token: str) -> flask.Response:
    (subscriber_id,) = links.read(links.Purpose.PREFERENCES, token)
    if flask.request.form.get("letter") == "data":
        return _mail_link(subscriber_id, datetime.now(UTC))
    try:
        _change(subscriber_id, datetime.now(UTC))
    except errors.NotFound:
        return _gone()
    except errors.Refused as fault:
        return _page(token, refused=fault)
    return _page(token, saved=True)


def _change(subscriber_id: int, now: datetime) -> None:
    form = flask.request.form
    with db.transaction() as session:
        if form.get("leave") == "all":
            unsubscribe.leave_all(session=session, now=now, subscriber_id=subscriber_id, channel=Channel.PREFERENCES)
        else:
            preferences.change(
                session=session,
                now=now,
                subscriber_id=subscriber_id,
                slugs=set(form.getlist("themes")),
                language=form.get("language", ""),
                shown_in=_known(form.get("shown_in", "")),
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


def _page(token: str, *, saved: bool = False, refused: errors.Refused | None = None) -> flask.Response:
    (subscriber_id,) = links.read(links.Purpose.PREFERENCES, token)
    shown = preferences.show(session=db.reading(), subscriber_id=subscriber_id)
    if shown is None:
        return _gone()
    view.speak(shown.subscriber.language)
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
        status=view.translate(SAVED if has else LEFT) if saved else "",
        errors=[(refused.field, faults.message(refused))] if refused else [],
    )
    return flask.make_response(body, faults.status(refused) if refused else 200)


def _gone() -> flask.Response:
    return flask.make_response(flask.render_template("public/gone.html"), faults.STATUS[errors.NotFound])
