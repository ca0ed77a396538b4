"""Behind the link in the confirmation mail. Looking changes nothing: scanners look too (requirements 4.1)."""

from __future__ import annotations

from datetime import UTC, datetime

import flask

from service import db, links
from service.subscribers import addresses, confirmation, consent
from service.subscribers.models import Confirmation
from service.web import view

blueprint = flask.Blueprint("confirm", __name__, url_prefix="/confirm")

EXPIRED = 410


@blueprint.get("/<token>")
def ask(token: str) -> str | tuple[str, int]:
    found = _find(token)
    if found is None or not confirmation.open_at(found, datetime.now(UTC)):
        return _expired()
    if _blocked(found):
        return flask.render_template("public/blocked.html")
    if found.confirmed_at is not None:
        return _done(found, confirmation.Answer.ALREADY)
    return flask.render_template(
        "public/confirm.html",
        email=found.subscriber.email,
        names=_names(found),
        wording=consent.wording(consent.CONFIRM, view.language()).text,
    )


@blueprint.post("/<token>")
def press(token: str) -> str | tuple[str, int]:
    (confirmation_id,) = links.read(links.Purpose.CONFIRM, token)
    with db.transaction() as session:
        answer = confirmation.confirm(
            session=session, now=datetime.now(UTC), confirmation_id=confirmation_id, shown_in=view.language()
        )
    found = _find(token)
    if found is None or answer is confirmation.Answer.EXPIRED:
        return _expired()
    return flask.render_template("public/blocked.html") if _blocked(found) else _done(found, answer)


def _find(token: str) -> Confirmation | None:
    (confirmation_id,) = links.read(links.Purpose.CONFIRM, token)
    found = confirmation.find(session=db.reading(), confirmation_id=confirmation_id)
    if found is not None:
        view.speak(found.language)
    return found


def _blocked(found: Confirmation) -> bool:
    """They confirmed, and said "never again" after it: then the form can't bring them back."""
    return addresses.blocked(session=db.reading(), email_key=found.subscriber.email_key)


def _names(found: Confirmation) -> list[str]:
    language = view.language()
    return [theme.name(language) for theme in confirmation.themes_of(session=db.reading(), confirmation=found)]


def _done(found: Confirmation, answer: confirmation.Answer) -> str:
    return flask.render_template(
        "public/confirmed.html",
        already=answer is confirmation.Answer.ALREADY,
        names=_names(found),
        preferences=links.preferences(found.subscriber_id, found.subscriber.moved),
    )


def _expired() -> tuple[str, int]:
    hours = int(confirmation.LIFE.total_seconds() // 3600)
    return flask.render_template("public/expired.html", hours=hours), EXPIRED
