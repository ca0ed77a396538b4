"""The privacy page (GDPR art. 13): made from the settings and from the table that a job applies every night, so that it
says what is so. tests/integration/test_privacy_page.py holds it to its words.
"""

from __future__ import annotations

from email.utils import parseaddr

import flask

from service import i18n, settings
from service.i18n import N_
from service.privacy import caught, grounds, retention
from service.subscribers import consent, own_data
from service.web import view

blueprint = flask.Blueprint("privacy", __name__)

# What evidence can name, in the order in which a reader meets it.
TEXTS = (
    *(consent.FORM, consent.CONFIRM, consent.PREFERENCES, consent.ADDRESS, consent.ELSEWHERE, consent.IMPORT),
    *consent.EARLIER,
)
PLACES = {
    "form": N_("on the sign-up form"),
    "confirm": N_("on the page behind the mail to confirm"),
    "preferences": N_("on the page with your themes"),
    "address": N_("on the page to confirm another address"),
    "elsewhere": N_("for a form whose text we don’t know"),
    "import": N_("for who came from an older list"),
}
NOTHING = ("none", "no", "geen", "nee")  # of TRANSFERS: no data leave the European Economic Area; of PROCESSORS: nobody


@blueprint.get("/privacy")
def show() -> str:
    chosen, language = settings.current(), view.language()
    trial = bool(flask.current_app.config.get("MAILBOX_DIR")) or caught.held()
    transfers, processors = chosen.transfers.strip().rstrip("."), chosen.processors.strip().rstrip(".")
    return flask.render_template(
        "public/privacy.html",
        rows=[
            (retention.row(line=line, language=language), grounds.words(key=line.key, language=language))
            for line in retention.shown(trial=trial)
        ],
        proof=chosen.proof_of_work,
        by_mail=bool(chosen.return_address),
        processors=processors,
        nobody=processors.lower() in NOTHING,
        transfers=transfers,
        stays=transfers.lower() in NOTHING,
        officer=parseaddr(chosen.privacy_officer),
        life=i18n.span(language, own_data.LIFE),
        texts=[_text(name, language) for name in TEXTS],
    )


def unsaid() -> list[str]:
    """Settings that the page lacks where it counts: mail goes out, and others than this machine can come in."""
    chosen = settings.current()
    if not (chosen.smtp_url and chosen.secure):
        return []
    return [name.upper() for name in ("processors", "transfers") if not getattr(chosen, name).strip()]


def _text(name: str, language: str) -> tuple[str, str, str]:
    """Its name in the evidence, where it stands or stood, and its words."""
    wording = consent.wording(name, language)
    place = view.translate(PLACES[name.partition("-")[0]])
    if name in consent.EARLIER:
        place = view.translate("%(place)s, before a newer text", place=place)
    return wording.name, place, wording.text
