"""What goes wrong, as a page: expected failures by one table, HTTP's own, and the unforeseen."""

from __future__ import annotations

import flask
import structlog
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import HTTPException

from service import db, errors
from service.i18n import N_
from service.web import view

STATUS: dict[type[errors.VinkjeError], int] = {
    errors.Refused: 422,
    errors.NotFound: 404,
    errors.NotAllowed: 403,
    errors.Conflict: 409,
    errors.LinkRefused: 404,
    errors.Throttled: 429,
}

HEADINGS = {
    400: N_("We couldn’t read that"),
    403: N_("You can’t do this"),
    404: N_("This page isn’t here"),
    405: N_("That doesn’t work here"),
    409: N_("Something changed in the meantime"),
    413: N_("That’s too much to take in"),
    422: N_("Something isn’t right yet"),
    429: N_("That’s a bit too often"),
    500: N_("Something went wrong on our side"),
    503: N_("We can’t be reached for a moment"),
}
ADVICE = {
    400: N_("Please go back, reload the page and try again."),
    403: N_("Your role doesn’t allow this. Ask an administrator."),
    404: N_("Perhaps the address was typed wrong, or the page has moved."),
    405: N_("Please start again from the first page."),
    413: N_("Please send less text."),
    500: N_("It has been noted. Please try again in a few minutes."),
    503: N_("Please try again in a few minutes. What was saved before is still there."),
}

log = structlog.get_logger()


def add(app: flask.Flask) -> None:
    app.register_error_handler(errors.VinkjeError, expected)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(Exception, _unforeseen)


def message(fault: errors.VinkjeError) -> str:
    """The fault's own words in the visitor's language."""
    return view.translate(fault.message, **fault.params)


def status(fault: errors.VinkjeError) -> int:
    return next((code for kind, code in STATUS.items() if isinstance(fault, kind)), 500)


def expected(fault: errors.VinkjeError) -> flask.Response:
    flask.g.fault = fault.code
    code = status(fault)
    if code == 500:
        return _unforeseen(fault)
    if isinstance(fault, errors.LinkRefused):
        leaked = isinstance(fault, errors.LinkLeaked)
        response = flask.make_response(
            flask.render_template("public/link.html", reason=message(fault), leaked=leaked), code
        )
    else:
        response = _page(code, message(fault))
    if isinstance(fault, errors.Throttled):
        response.headers["Retry-After"] = str(fault.seconds)
    return response


def _http(fault: HTTPException) -> flask.Response | HTTPException:
    code = fault.code or 500
    if code < 400:
        return fault
    response = _page(code, view.translate(ADVICE.get(code, ADVICE[400 if code < 500 else 500])))
    for name, value in fault.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _database(fault: DBAPIError) -> flask.Response:
    """Away, or not yet migrated: both pass without a change of the request. Anything else is our mistake."""
    rule = str(flask.request.url_rule)
    if db.lacks_tables(fault):
        log.error("database_behind", rule=rule, advice="run `vinkje db upgrade`")
    elif isinstance(fault, OperationalError):
        log.error("database_away", rule=rule, fault=type(fault.orig).__name__)
    else:
        return _unforeseen(fault)
    response = _page(503, view.translate(ADVICE[503]))
    response.headers["Retry-After"] = "30"
    return response


def _unforeseen(fault: Exception) -> flask.Response:
    log.error("unforeseen", method=flask.request.method, rule=str(flask.request.url_rule or "-"), exc_info=fault)
    return _page(500, view.translate(ADVICE[500]))


def _page(code: int, advice: str) -> flask.Response:
    heading = view.translate(HEADINGS.get(code, HEADINGS[400 if code < 500 else 500]))
    # Who is signed in stays in the newsroom; but a page about our own trouble asks nothing of the database.
    page = "newsroom/fault.html" if code < 500 and flask.g.get("editor") else "fault.html"
    return flask.make_response(flask.render_template(page, heading=heading, advice=advice), code)
