"""The many forms of bounces that aren't as RFC 3464 has them, as flufl.bounce knows them. Pure.

It is handed a mail that is made anew, with only what people read: over headers that are missing or odd it stumbles, and
over one long line it takes minutes.
"""

from __future__ import annotations

import logging
from email.message import Message
from enum import StrEnum

import flufl.bounce

from service.delivery.report_mail import PROSE, Mail, text

LINE, LINES = 200, 500

# It writes a traceback for every mail it stumbles over, and anybody can send us those.
logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)


class Form(StrEnum):
    BOUNCE = "bounce"
    WARNING = "warning"  # still being tried


def known(mail: Mail, *, daemon: bool) -> Form | None:
    """`daemon`: it says that a mail server wrote it."""
    temporary, permanent = flufl.bounce.all_failures(_anew(mail, daemon))
    if permanent:
        return Form.BOUNCE
    return Form.WARNING if temporary else None


def _anew(mail: Mail, daemon: bool) -> Message:
    whole = Message()
    whole["From"] = "mailer-daemon@example.invalid" if daemon else "someone@example.invalid"
    whole["Content-Type"] = mail.message.get_content_type()
    whole["X-Mailer"] = mail.header("X-Mailer")[:80]
    leaves = [_leaf(kind, part) for kind, part in mail.leaves]
    if mail.message.is_multipart():
        whole.set_payload(list(leaves))
    elif leaves:
        whole.set_payload(leaves[0].get_payload())
    return whole


def _leaf(kind: str, part: Message) -> Message:
    written = text(part) if kind in PROSE else ""
    leaf = Message()
    leaf["Content-Type"] = kind
    leaf["Content-Description"] = str(part.get("Content-Description", ""))[:80]
    leaf.set_payload("\n".join(line[:LINE] for line in written.split("\n")[:LINES]))
    return leaf
