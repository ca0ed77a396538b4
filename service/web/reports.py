"""For a mail server or provider that hands over what came back, one mail a request (requirements 6.2: webhook).

    Vinkje-Signature: t=<seconds since 1970>,v1=<HMAC-SHA256 of "<t>.<body>" under REPORT_SECRET, in hex>

The signature is the authorisation: no cookie, no CSRF token. The same request again changes nothing: a report that
comes twice is one.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime, timedelta

import flask
from werkzeug.exceptions import RequestEntityTooLarge

from service import db, settings
from service.delivery import returned

HEADER = "Vinkje-Signature"
SIGNATURE = re.compile(r"t=([0-9]{1,12}), ?v1=([0-9a-f]{64})")
TOLERANCE = timedelta(minutes=5)

blueprint = flask.Blueprint("reports", __name__)


@blueprint.post("/reports")
def take() -> flask.Response:
    """The body is the mail as it came in (message/rfc822), of a megabyte at most."""
    secret = settings.current().report_secret
    if not secret:
        flask.abort(404)
    flask.request.max_content_length = returned.LARGEST
    try:
        raw, now = flask.request.get_data(), datetime.now(UTC)
    except RequestEntityTooLarge:
        return flask.Response("Larger than a megabyte.\n", 413, mimetype="text/plain")
    if not _signed(flask.request.headers.get(HEADER, ""), raw, secret, now):
        return flask.Response("Not signed.\n", 401, {"WWW-Authenticate": HEADER}, mimetype="text/plain")
    with db.transaction() as session:
        returned.take(session=session, now=now, raw=raw)
    return flask.Response("Taken.\n", mimetype="text/plain")


def _signed(said: str, raw: bytes, secret: str, now: datetime) -> bool:
    found = SIGNATURE.fullmatch(said)
    if found is None:
        return False
    expected = hmac.digest(secret.encode(), f"{found[1]}.".encode() + raw, "sha256").hex()
    age = abs(now.timestamp() - int(found[1]))
    return hmac.compare_digest(expected, found[2]) and age <= TOLERANCE.total_seconds()
