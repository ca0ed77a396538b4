"""One log line per request, by its rule: a path may hold a token (requirements 4.8). `fault` is the code of the
expected failure that ended it (service/errors.py): two of them may share a status.
"""

from __future__ import annotations

import time

import flask
import structlog

QUIET = ("static", "health.healthz", "issues.follow")

log = structlog.get_logger()


def add(app: flask.Flask) -> None:
    app.before_request(_start)
    app.after_request(_log)


def _start() -> None:
    flask.g.started = time.perf_counter()


def _log(response: flask.Response) -> flask.Response:
    request = flask.request
    say = log.debug if request.endpoint in QUIET else log.info
    say(
        "request",
        method=request.method,
        rule=str(request.url_rule or "-"),
        status=response.status_code,
        ms=round(1000 * (time.perf_counter() - flask.g.started)),
        **({"fault": flask.g.fault} if "fault" in flask.g else {}),
    )
    return response
