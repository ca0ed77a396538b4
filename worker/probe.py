"""Is the relay well again? Asked by the tick, while rounds wait for it (service/delivery/breaker.py)."""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Callable
from datetime import datetime

import structlog

from service import db, settings
from service.delivery import breaker, outcomes
from service.delivery.models import Trouble
from service.delivery.outcomes import Phase
from worker import relay
from worker.pipeline import Answer

NO_LOGIN = ("SMTPNotSupportedError", "UnicodeEncodeError")  # it offers no AUTH that we know, or can't carry ours
PATIENCE = 20.0  # seconds; who needs longer isn't well

log = structlog.get_logger()


def probe(*, sender: str, clock: Callable[[], datetime]) -> None:
    """Connect, log in and name our sender, as a newsletter would; no mail is sent."""
    with db.transaction() as session:
        if not breaker.due(session=session, now=clock()):
            return
    reply = _try(sender)
    with db.transaction() as session:
        if reply is None:
            breaker.heal(session=session, now=clock())
        else:
            breaker.still(session=session, now=clock(), trouble=trouble(reply), status=reply.status, text=reply.text)


def trouble(reply: relay.Reply) -> Trouble:
    """What it means that a connection isn't to be had, or MAIL refused."""
    if reply.enhanced == outcomes.TOO_FAST:
        return Trouble.SLOW_DOWN
    if reply.phase is Phase.LOGIN and (reply.code or reply.text in NO_LOGIN):
        return Trouble.LOGIN
    return Trouble.REFUSES if reply.code >= 500 else Trouble.DOWN


def _try(sender: str) -> relay.Reply | None:
    """None when all is well."""
    chosen = settings.current()
    made = relay.connect(chosen.relay, chosen.mail_domain, patience=PATIENCE)
    if isinstance(made, relay.Reply):
        return made
    try:
        code, text = made.mail(sender)
        with contextlib.suppress(smtplib.SMTPException, OSError):
            made.quit()
        return None if 200 <= code < 300 else relay.reply(Answer(0, Phase.MAIL, code, text))
    except (smtplib.SMTPException, OSError) as fault:
        return relay.Reply(Phase.MAIL, 0, text=type(fault).__name__)
    finally:
        made.close()
