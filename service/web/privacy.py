"""The privacy page (GDPR art. 13): made from the settings and from the table that a job applies every night, so that it
says what is so. tests/integration/test_privacy_page.py holds it to its words.
"""

from __future__ import annotations

import flask

from service import i18n, settings
from service.privacy import retention
from service.subscribers import consent, own_data
from service.web import view

blueprint = flask.Blueprint("privacy", __name__)

# What a reader can have agreed to here, in the order in which they meet it.
TEXTS = (consent.FORM, consent.CONFIRM, consent.PREFERENCES, consent.ADDRESS)


@blueprint.get("/privacy")
def show() -> str:
    chosen, language = settings.current(), view.language()
    caught = bool(flask.current_app.config.get("MAILBOX_DIR"))
    return flask.render_template(
        "public/privacy.html",
        rows=[retention.row(line=line, language=language) for line in retention.shown(trial=caught)],
        proof=chosen.proof_of_work,
        by_mail=bool(chosen.return_address),
        processors=chosen.processors,
        life=i18n.span(language, own_data.LIFE),
        texts=[consent.wording(name, language) for name in TEXTS],
    )
