"""Who may enter the newsroom: signing in and out, and the one guard before every page of it.

Deny by default: a page that isn't in NEEDS opens for nobody. Only here is there a cookie.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import flask
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.datastructures import MultiDict

from service import db, errors, settings, throttle
from service.i18n import N_
from service.newsroom import sessions
from service.newsroom.models import Editor, Role
from service.web import faults, view

ROOM = "/newsroom"
OPEN = frozenset({"session.login", "session.sign_in"})
NEEDS: dict[str, Role] = {
    "session.sign_out": Role.WRITER,
    "newsroom.desk": Role.WRITER,
    "items.listing": Role.WRITER,
    "items.new": Role.WRITER,
    "items.write": Role.WRITER,
    "items.edit": Role.WRITER,
    "items.change": Role.WRITER,
    "items.withdraw": Role.WRITER,
    "rota.listing": Role.WRITER,
    "issues.show": Role.WRITER,
    "issues.follow": Role.WRITER,
    "issues.preview": Role.WRITER,
    "issues.test": Role.WRITER,
    "rota.plan": Role.CHIEF,
    "issues.assemble": Role.CHIEF,
    "issues.order": Role.CHIEF,
    "issues.drop": Role.CHIEF,
    "issues.approve": Role.CHIEF,
    "issues.reopen": Role.CHIEF,
    "issues.send": Role.CHIEF,
    "issues.pause": Role.CHIEF,
    "issues.resume": Role.CHIEF,
    "issues.cancel": Role.CHIEF,
    "issues.replan": Role.CHIEF,
    "uncertain.listing": Role.CHIEF,
    "uncertain.settle": Role.CHIEF,
    "uncertain.ask_all": Role.CHIEF,
    "uncertain.settle_all": Role.CHIEF,
    "stats.overview": Role.WRITER,
    "stats.theme": Role.WRITER,
    "stats.export": Role.WRITER,
    "stats.export_theme": Role.WRITER,
    "account.show": Role.WRITER,
    "account.change_language": Role.WRITER,
    "account.change_password": Role.WRITER,
    "account.sign_out_everywhere": Role.WRITER,
    "editors.listing": Role.ADMIN,
    "editors.invite": Role.ADMIN,
    "editors.change_role": Role.ADMIN,
    "editors.ask_reinvite": Role.ADMIN,
    "editors.reinvite": Role.ADMIN,
    "editors.ask_end": Role.ADMIN,
    "editors.end": Role.ADMIN,
    "themes.listing": Role.ADMIN,
    "themes.add": Role.ADMIN,
    "themes.ask_retire": Role.ADMIN,
    "themes.retire": Role.ADMIN,
    "embed.show": Role.CHIEF,
    "embed.preview": Role.CHIEF,
    "relay.show": Role.ADMIN,
    "relay.change": Role.ADMIN,
}
SECRET_FIELDS = frozenset({"csrf_token", "password", "current"})
# A path of our own and nothing else: no other host can hide in it.
PATH = re.compile(r"/newsroom(/[A-Za-z0-9_-]+)*/?")

blueprint = flask.Blueprint("session", __name__, url_prefix=ROOM)
csrf = CSRFProtect()


def add(app: flask.Flask) -> None:
    secure = settings.current().secure
    app.config.update(
        SESSION_COOKIE_NAME="__Host-vinkje" if secure else "vinkje",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SECRET_KEY_FALLBACKS=list(settings.current().secret_keys_previous),
        WTF_CSRF_CHECK_DEFAULT=False,  # public forms have no cookie: their links are the authorisation
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        WTF_CSRF_SSL_STRICT=False,  # it wants a Referer, and our pages send none
    )
    csrf.init_app(app)
    app.jinja_env.globals["may"] = may
    app.before_request(guard)


def guard() -> ResponseReturnValue | None:
    request = flask.request
    if request.endpoint is None or not str(request.url_rule).startswith(ROOM + "/"):
        return None
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise errors.NotAllowed("This form was sent from another site.")
    if request.endpoint in OPEN:
        return _checked_form()
    editor = _known()
    if editor is None:
        return _sign_in_first()
    flask.g.editor = editor
    view.speak(editor.language)
    needed = NEEDS.get(request.endpoint)
    if needed is None or not editor.role.covers(needed):
        raise errors.NotAllowed("Your role doesn’t allow this. Ask an administrator.")
    refused = _checked_form()
    if refused is None and request.method == "POST":
        _note_presence()
    return refused


def now() -> datetime:
    """The hour of this request."""
    if "now" not in flask.g:
        flask.g.now = datetime.now(UTC)
    moment: datetime = flask.g.now
    return moment


def editor() -> Editor:
    """Who is signed in. Only behind the guard."""
    found: Editor = flask.g.editor
    return found


def may(role: str) -> bool:
    """For templates: does the editor's role reach this far?"""
    return editor().role.covers(Role(role))


def say(fault: errors.VinkjeError) -> str:
    """As faults.message, with the names of states in the editor's language too."""
    params = {
        name: view.translate(str(value)) if name in ("state", "to") else value for name, value in fault.params.items()
    }
    return view.translate(fault.message, **params)


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    if _known() is not None:
        return flask.redirect(flask.url_for("newsroom.desk"))
    return _page([], "")


@blueprint.post("/login")
def sign_in() -> ResponseReturnValue:
    form = flask.request.form
    email, network = form.get("email", ""), throttle.network(flask.request.remote_addr or "")
    try:
        with db.transaction() as session:
            sessions.knock(session=session, now=now(), email=email, network=network)
        with db.transaction() as session:
            token = sessions.sign_in(
                session=session, now=now(), email=email, password=form.get("password", ""), network=network
            )
    except errors.Refused as refused:
        return _page([("email", say(refused))], email), 422
    except errors.Throttled as throttled:
        return _page([("", say(throttled))], email), 429, {"Retry-After": str(throttled.seconds)}
    flask.session.clear()  # nothing the browser brought survives: no session can be planted on it
    flask.session["token"] = token
    wanted = form.get("next", "")
    return flask.redirect(wanted if PATH.fullmatch(wanted) else flask.url_for("newsroom.desk"))


@blueprint.post("/logout")
def sign_out() -> ResponseReturnValue:
    with db.transaction() as session:
        sessions.sign_out(session=session, now=now(), token=token() or "")
    flask.session.clear()
    flask.flash(view.translate("You are signed out."))
    return flask.redirect(flask.url_for("session.login"))


def token() -> str | None:
    found = flask.session.get("token")
    return found if isinstance(found, str) else None


def _known() -> Editor | None:
    carried = token()
    if carried is None:
        return None
    found = sessions.find(session=db.reading(), now=now(), token=carried)
    return found.editor if found else None


def _note_presence() -> None:
    """By forms only: GET never changes anything."""
    with db.transaction() as session:
        sessions.touch(session=session, now=now(), token=token() or "")


def _sign_in_first() -> ResponseReturnValue:
    if flask.request.method in ("GET", "HEAD"):
        wanted = flask.request.path if PATH.fullmatch(flask.request.path) else None
        return flask.redirect(flask.url_for("session.login", next=wanted))
    return _kept(N_("You are signed out"), 401)


def _checked_form() -> ResponseReturnValue | None:
    try:
        csrf.protect()
    except CSRFError:
        if flask.request.endpoint == "session.sign_in":
            again = view.translate("This page was open for long. Please sign in once more.")
            return _page([("", again)], flask.request.form.get("email", "")), 400
        return _kept(N_("This page was open for too long"), 400)
    return None


def _kept(heading: str, status: int) -> ResponseReturnValue:
    """A form we couldn't take yet, with all that was typed and a button to send it again."""
    fields: MultiDict[str, str] = flask.request.form
    typed = [(name, value) for name, value in fields.items(multi=True) if name not in SECRET_FIELDS]
    return flask.render_template("newsroom/kept.html", heading=heading, typed=typed, signed_out=status == 401), status


def _page(problems: list[tuple[str, str]], email: str) -> str:
    request = flask.request
    wanted = request.form.get("next") or request.args.get("next", "")
    return flask.render_template(
        "newsroom/login.html", errors=problems, email=email, next=wanted, welcome="welcome" in request.args
    )


def status(fault: errors.VinkjeError) -> int:
    return faults.status(fault)
