"""The challenge that static/proof.js answers for the sign-up form. There only when PROOF_OF_WORK is on."""

from __future__ import annotations

from datetime import UTC, datetime

import flask

from service import settings
from service.subscribers import proof

blueprint = flask.Blueprint("proof", __name__)


@blueprint.get("/proof")
def challenge() -> flask.Response:
    if not settings.current().proof_of_work:
        flask.abort(404)
    return flask.jsonify(proof.challenge(now=datetime.now(UTC)))
