"""What comes back to RETURN_ADDRESS: bounces, complaints, and much that is neither (requirements 1.3, 1.6, 1.7, 1.10).

Pure. Anybody can send anything here: what is found is a claim, and only the signature in an address says whom
it is about (decision 0015).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from email.message import Message
from enum import StrEnum

import flufl.bounce

from service.delivery import report_words
from service.delivery.outcomes import Verdict
from service.delivery.report_mail import FEEDBACK, STATUS, Fields, Mail, text


class Sort(StrEnum):
    HARD = "hard"  # the address is dead
    SOFT = "soft"  # this mail didn't arrive, the next may
    COMPLAINT = "complaint"
    FAULT = "fault"  # ours: policy, signature, content
    DELAYED = "delayed"  # still being tried
    AUTO_REPLY = "auto_reply"
    NOT_SPAM = "not_spam"
    UNSUBSCRIBE = "unsubscribe"  # a mail to the address in List-Unsubscribe
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Found:
    """`status` is an enhanced one, as in "5.1.1", or "". `addresses` may be ours, the most trustworthy first:
    whose they are is for links.read_return to say.
    """

    sort: Sort
    status: str = ""
    addresses: tuple[str, ...] = ()


LINE, LINES = 300, 500  # of what flufl.bounce gets to see
SORTS = {Verdict.DEAD: Sort.HARD, Verdict.OURS: Sort.FAULT}  # all others: SOFT
WORST = (Sort.HARD, Sort.FAULT, Sort.SOFT)
DAEMON = re.compile(r"(?i)mailer-?daemon|postmaster|mail ?delivery|mdaemon|mail administrator|microsoftexchange")
AWAY = re.compile(
    r"(?i)^\s*(out[ -]of[ -](the )?office|auto(matic|mated|matisch)?[ -:]*(reply|response|antwoord|antwort)|afwezig|"
    r"abwesen|absen[ct]e|r[ée]ponse automatique|on (leave|vacation|holiday)|vakantie|urlaub|automatische)"
)
HOTMAIL = re.compile(r"(?i)complaint about message from")  # Microsoft's older feedback, which is no ARF

# It writes down where it stumbles, and so would anybody who sends us a mail.
logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)


def parse(raw: bytes, *, returns: str) -> Found:
    """`returns`: RETURN_ADDRESS. Never raises: whatever can't be read is UNKNOWN."""
    try:
        mail = Mail(raw)
        addresses = mail.addresses(returns)
        sort, status = _sort(mail, addresses)
    except Exception:  # the standard library and flufl.bounce stumble over mails nobody thought of
        return Found(Sort.UNKNOWN)
    return Found(sort, status, addresses)


def _sort(mail: Mail, addresses: tuple[str, ...]) -> tuple[Sort, str]:
    complaint = _complaint(mail)
    if complaint:
        return complaint, ""
    groups = [block for block in mail.blocks(STATUS) if "action" in block]
    if groups:
        return _notified(groups, mail.prose())
    if _says_away(mail):
        return Sort.AUTO_REPLY, ""
    if _from_daemon(mail):
        return _bounced(mail) or (Sort.UNKNOWN, "")
    if _automatic(mail):
        return Sort.AUTO_REPLY, ""
    return _bounced(mail) or (_asks_to_leave(addresses), "")


def _complaint(mail: Mail) -> Sort | None:
    for block in mail.blocks((FEEDBACK,)):
        kind = block.get("feedback-type", "").strip().lower()
        if kind:
            return {"not-spam": Sort.NOT_SPAM, "auth-failure": Sort.UNKNOWN}.get(kind, Sort.COMPLAINT)
    if "x-hmxmroriginalrecipient" in mail.original() or HOTMAIL.match(mail.header("Subject")):
        return Sort.COMPLAINT
    return None


def _notified(groups: list[Fields], prose: str) -> tuple[Sort, str]:
    """A delivery status notification. Only `failed` is a bounce (RFC 3464 §2.3.3)."""
    failed = [_failed(block, prose) for block in groups if block["action"].lower().startswith(("fail", "error"))]
    if failed:
        return min(failed, key=lambda each: WORST.index(each[0]))
    if any(block["action"].lower().startswith("delayed") for block in groups):
        return Sort.DELAYED, ""
    return Sort.UNKNOWN, ""


def _failed(block: Fields, prose: str) -> tuple[Sort, str]:
    said = block.get("diagnostic-code", "")
    verdict, status = report_words.verdict(
        status=block.get("status", "").strip(), said=said or prose, around=prose + said
    )
    return _of(verdict), status


def _of(verdict: Verdict | None) -> Sort:
    return SORTS.get(verdict, Sort.SOFT) if verdict else Sort.SOFT


def _bounced(mail: Mail) -> tuple[Sort, str] | None:
    """By a mail server that doesn't write notifications as RFC 3464 has them."""
    temporary, permanent = flufl.bounce.all_failures(_plain(mail))
    if not (temporary or permanent or mail.header("X-Failed-Recipients")):
        return None
    if temporary and not permanent:
        return Sort.DELAYED, ""
    prose = mail.prose()[:8_000]
    verdict, status = report_words.verdict(status="", said=prose, around=prose)
    return _of(verdict), status


def _plain(mail: Mail) -> Message:
    """For flufl.bounce: it stumbles over headers that are missing or odd, and takes minutes over a long line."""
    whole = Message()
    whole["From"] = "mailer-daemon@example.invalid" if _from_daemon(mail) else "someone@example.invalid"
    whole["Content-Type"] = mail.message.get_content_type()
    whole["X-Mailer"] = mail.header("X-Mailer")[:80]
    for kind, part in mail.leaves:
        if mail.message.is_multipart():
            whole.attach(_leaf(kind, part))
        else:
            whole.set_payload(_leaf(kind, part).get_payload())
    return whole


def _leaf(kind: str, part: Message) -> Message:
    written = text(part) if kind in ("text/plain", "text/html") else ""
    leaf = Message()
    leaf["Content-Type"] = kind
    leaf["Content-Description"] = str(part.get("Content-Description", ""))[:80]
    leaf.set_payload("\n".join(line[:LINE] for line in written.split("\n")[:LINES]))
    return leaf


def _says_away(mail: Mail) -> bool:
    if any(mail.header(name) for name in ("X-Autoreply", "X-Autorespond", "X-Autogenerated", "X-Auto-Reply-From")):
        return True
    return "auto" in mail.header("Precedence").lower() or AWAY.match(mail.header("Subject")) is not None


def _from_daemon(mail: Mail) -> bool:
    return DAEMON.search(mail.header("From")) is not None or bool(mail.header("X-Failed-Recipients"))


def _automatic(mail: Mail) -> bool:
    """RFC 3834 §5, and what came before it."""
    told = mail.header("Auto-Submitted").partition(";")[0].strip().lower()
    return told not in ("", "no") or mail.header("Precedence").strip().lower() in ("bulk", "junk", "list")


def _asks_to_leave(addresses: tuple[str, ...]) -> Sort:
    first = addresses[0].rpartition("@")[0].rpartition("+")[2][:1] if addresses else ""
    return Sort.UNSUBSCRIBE if first in ("u", "U") else Sort.UNKNOWN
