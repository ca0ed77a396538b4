"""What concerns the person behind an address: their data, another address, never again.

Each link is mailed to the mailbox whose owner may follow it, and opens one door. Looking changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, i18n, links, themes
from service.privacy import erasure, export
from service.subscribers import address_change, addresses, blocking, confirmation, consent, own_data
from service.subscribers.address_change import Answer
from service.subscribers.models import Letter
from service.web import faults, held, view

blueprint = flask.Blueprint("own", __name__)

EXPIRED = 410
HOURS = int(address_change.LIFE.total_seconds() // 3600)


@blueprint.get("/data/<token>")
def show(token: str) -> ResponseReturnValue:
    letter = _fresh(token)
    if letter is None:
        return _expired("data")
    data = export.of(session=db.reading(), subscriber_id=letter.subscriber_id)
    names = {theme.slug: theme.name(view.language()) for theme in themes.every(session=db.reading())}
    until = letter.asked_at + own_data.LIFE
    return flask.render_template("public/data.html", token=token, held=held.words(data, names), until=i18n.hour(until))


@blueprint.get("/data/<token>/export")
def download(token: str) -> ResponseReturnValue:
    letter = _fresh(token)
    if letter is None:
        return _expired("data")
    data = export.of(session=db.reading(), subscriber_id=letter.subscriber_id)
    response = flask.Response(json.dumps(data, ensure_ascii=False, indent=2) + "\n", mimetype="application/json")
    response.headers.set("Content-Disposition", "attachment", filename=view.translate("my-data.json"))
    return response


@blueprint.get("/data/<token>/erase")
def ask_erase(token: str) -> ResponseReturnValue:
    letter = _fresh(token)
    if letter is None:
        return _expired("data")
    return flask.render_template("public/erase.html", token=token, email=letter.subscriber.email)


@blueprint.post("/data/<token>/erase")
def erase(token: str) -> ResponseReturnValue:
    now = datetime.now(UTC)
    letter = _fresh(token)
    if letter is None:
        return _expired("data")
    subscriber_id = letter.subscriber_id
    with db.transaction() as session:
        erasure.erase(session=session, now=now, subscriber_id=subscriber_id, by_owner=True)
    return flask.render_template("public/erased.html")


@blueprint.get("/data/<token>/address")
def address_form(token: str) -> ResponseReturnValue:
    letter = _fresh(token)
    return _address_form(token, letter) if letter else _expired("data")


@blueprint.post("/data/<token>/address")
def ask_address(token: str) -> ResponseReturnValue:
    now, typed = datetime.now(UTC), flask.request.form.get("email", "")
    letter = _fresh(token)
    if letter is None:
        return _expired("data")
    subscriber_id = letter.subscriber_id
    try:
        with db.transaction() as session:
            address_change.ask(session=session, now=now, subscriber_id=subscriber_id, email=typed)
    except errors.Refused as refused:
        return _address_form(token, letter, typed, refused), faults.status(refused)
    return flask.render_template("public/address_asked.html", token=token, email=typed.strip(), hours=HOURS)


@blueprint.get("/address/<token>")
def ask_change(token: str) -> ResponseReturnValue:
    letter = _letter(token)
    if letter is None:
        return _expired("address")
    return _changed(letter, Answer.ALREADY) if letter.used_at is not None else _asked(letter)


@blueprint.post("/address/<token>")
def change(token: str) -> ResponseReturnValue:
    (letter_id,) = links.read(links.Purpose.ADDRESS, token)
    now, language = datetime.now(UTC), view.language()
    shown = flask.request.form.getlist("shown", type=int)
    try:
        with db.transaction() as session:
            pressed = address_change.change(
                session=session, now=now, letter_id=letter_id, shown_in=language, shown=shown
            )
            if pressed.left_over is not None:
                erasure.erase_held(session=session, now=now, subscriber_id=pressed.left_over)
    except errors.Conflict as fault:
        letter = _letter(token)
        return (_asked(letter, faults.message(fault)), faults.status(fault)) if letter else _expired("address")
    letter = _letter(token)
    return _expired("address") if letter is None else _changed(letter, pressed.answer)


@blueprint.get("/block/<token>")
def ask_block(token: str) -> ResponseReturnValue:
    confirmation_id, letter_id = links.read_block(token)
    session, now = db.reading(), datetime.now(UTC)
    asked = blocking.find(session=session, now=now, confirmation_id=confirmation_id, letter_id=letter_id)
    if asked is None:
        return _expired("block")
    view.speak(asked.language)
    if addresses.blocked(session=session, email_key=addresses.key(asked.email)):
        return flask.render_template("public/blocked.html")
    names = _names(_gets(asked.reader_id)) if asked.reader_id is not None else []
    return flask.render_template("public/block.html", email=addresses.mask(asked.email), names=names)


@blueprint.post("/block/<token>")
def block(token: str) -> ResponseReturnValue:
    confirmation_id, letter_id = links.read_block(token)
    now = datetime.now(UTC)
    with db.transaction() as session:
        done = blocking.block(session=session, now=now, confirmation_id=confirmation_id, letter_id=letter_id)
    return flask.render_template("public/blocked.html") if done else _expired("block")


def _fresh(token: str) -> Letter | None:
    """The letter with this link to its reader's data; None when it works no longer."""
    (letter_id,) = links.read(links.Purpose.DATA, token)
    letter = own_data.find(session=db.reading(), now=datetime.now(UTC), letter_id=letter_id)
    if letter is not None:
        view.speak(letter.language)
    return letter


def _letter(token: str) -> Letter | None:
    (letter_id,) = links.read(links.Purpose.ADDRESS, token)
    letter = address_change.find(session=db.reading(), now=datetime.now(UTC), letter_id=letter_id)
    if letter is not None:
        view.speak(letter.language)
    return letter


def _gets(subscriber_id: int) -> Sequence[themes.Theme]:
    return confirmation.themes_held(session=db.reading(), subscriber_id=subscriber_id)


def _names(gets: Iterable[themes.Theme]) -> list[str]:
    return sorted((theme.name(view.language()) for theme in gets), key=str.casefold)


def _asked(letter: Letter, notice: str = "") -> str:
    gets = _gets(letter.subscriber_id)
    return flask.render_template(
        "public/address.html",
        old=addresses.mask(letter.subscriber.email),
        new=addresses.mask(letter.email),
        alike=addresses.alike(letter.subscriber.email, letter.email),
        names=_names(gets),
        shown=[theme.id for theme in gets],
        wording=consent.wording(consent.ADDRESS, view.language()).text,
        notice=notice,
    )


def _address_form(token: str, letter: Letter, typed: str = "", refused: errors.Refused | None = None) -> str:
    return flask.render_template(
        "public/address_form.html",
        token=token,
        email=letter.subscriber.email,
        typed=typed,
        errors=[(refused.field, faults.message(refused))] if refused else [],
    )


def _changed(letter: Letter, answer: Answer) -> str:
    owner = address_change.owner(session=db.reading(), letter=letter)
    return flask.render_template(
        "public/address_changed.html",
        already=answer is Answer.ALREADY,
        new=addresses.mask(letter.email),
        preferences=links.preferences(owner.id, owner.moved) if owner else "",
    )


def _expired(door: str) -> tuple[str, int]:
    return flask.render_template("public/stale.html", door=door, hours=HOURS), EXPIRED
