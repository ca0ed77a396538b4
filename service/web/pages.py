"""The open pages: sign-up and robots.txt. They need no cookie and no script, so any site can embed the form.
With PROOF_OF_WORK a script helps; without it limits are tighter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import flask
from flask.typing import ResponseReturnValue

from service import db, errors, settings, themes
from service.subscribers import addresses, confirmation, consent, intake, proof
from service.web import faults, forms, headers, view

blueprint = flask.Blueprint("public", __name__)

HOURS = int(confirmation.LIFE.total_seconds() // 3600)
CLOSED_TO_ROBOTS = (
    *(f"/{door}/" for door in ("confirm", "preferences", "unsubscribe", "data", "address", "block")),
    *("/newsroom", "/mailbox", "/subscribe"),
)


@dataclass(frozen=True)
class Entry:
    """What the visitor filled in, as typed."""

    email: str = ""
    slugs: tuple[str, ...] = ()
    started: str = ""
    proof: str = ""
    trapped: bool = False


@blueprint.get("/", endpoint="signup")
@blueprint.get("/subscribe", endpoint="subscribe")
def show_form() -> ResponseReturnValue:
    return _form(Entry(started=forms.started(datetime.now(UTC))))


@blueprint.post("/subscribe")
def take_form() -> ResponseReturnValue:
    """Everybody gets the same page, with the address as typed so that a slip shows: a redirect would need a
    cookie, or the address in its URL, to do so. Who fills in the trap gets it too, and nothing happens.
    """
    now = datetime.now(UTC)
    entry = _read()
    if not entry.trapped:
        refused = _refused(entry, now)
        if refused:
            return _form(entry, refused), faults.STATUS[errors.Refused]
        try:
            _sign_up(entry, now)
        except errors.Refused as fault:
            return _form(entry, [fault]), faults.STATUS[errors.Refused]
    return flask.render_template("public/sent.html", email=entry.email.strip(), hours=HOURS)


@blueprint.get("/robots.txt")
def robots() -> flask.Response:
    lines = ("User-agent: *", *(f"Disallow: {path}" for path in CLOSED_TO_ROBOTS), "")
    return flask.Response("\n".join(lines), mimetype="text/plain")


def _read() -> Entry:
    form = flask.request.form
    return Entry(
        email=form.get("email", ""),
        slugs=tuple(form.getlist("themes")),
        started=form.get("started", ""),
        proof=form.get(forms.PROOF, ""),
        trapped=bool(form.get(forms.TRAP)),
    )


def _refused(entry: Entry, now: datetime) -> list[errors.Refused]:
    """Everything that's wrong at once (requirements 6.1); `ask` checks it all again."""
    found: list[errors.Refused] = []
    try:
        if not entry.slugs:
            raise errors.Refused("themes", "Tick at least one theme.")
        themes.chosen(session=db.reading(), slugs=entry.slugs)
    except errors.Refused as fault:
        found.append(fault)
    try:
        addresses.parse(entry.email, smtputf8=settings.current().smtputf8)
    except errors.Refused as fault:
        found.append(fault)
    shown_for = forms.age(entry.started, now)
    if not found and shown_for is not None and shown_for.total_seconds() < settings.current().form_min_seconds:
        found.append(
            errors.Refused("", "That was faster than a person can fill in a form. Please press the button once more.")
        )
    return found


def _sign_up(entry: Entry, now: datetime) -> None:
    shown_for = forms.age(entry.started, now)
    asked_for = settings.current().proof_of_work
    with db.transaction() as session:
        intake.ask(
            session=session,
            now=now,
            email=entry.email,
            slugs=entry.slugs,
            language=view.language(),
            network=forms.network(),
            elsewhere=shown_for is None or shown_for > forms.FRESH,
            unproven=asked_for and not proof.spend(session=session, now=now, solution=entry.proof),
        )


def _form(entry: Entry, refused: list[errors.Refused] | None = None) -> flask.Response:
    language = view.language()
    offered = sorted(themes.open_themes(session=db.reading()), key=lambda theme: theme.name(language).casefold())
    shown = flask.render_template(
        "public/signup.html",
        entry=entry,
        trap=forms.TRAP,
        proof=forms.PROOF if settings.current().proof_of_work else "",
        options=[(theme.slug, theme.name(language), "") for theme in offered],
        wording=consent.wording(consent.FORM, language).text,
        errors=[(fault.field, faults.message(fault)) for fault in refused or ()],
    )
    response = flask.make_response(shown)
    if settings.current().proof_of_work:
        response.headers["Content-Security-Policy"] = headers.POLICY_FOLLOWS
    return response
