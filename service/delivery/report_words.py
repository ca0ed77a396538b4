"""What the text of a report means, where its status says too little. Pure.

Codes decide by the same table as a relay's own answers (outcomes.py); words come after codes, and a report that says
nothing we know is taken as a mail that didn't arrive, not as a dead address.
"""

from __future__ import annotations

import re

from service.delivery import outcomes
from service.delivery.outcomes import Phase, Verdict

ENHANCED = re.compile(r"(?<![\d.])([45])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\d)")
PLAIN = re.compile(r"(?<![\d.])([45][0-5]\d)(?=[ -])")
NULL_MX = re.compile(r"(?i)\b556\b|null ?mx")
EXPIRED = re.compile(r"(?i)timed out|time-?out|timeout|expired|too long|gr[ae]y-?list|try again|temporar")
FULL = re.compile(
    r"(?i)quota|(mailbox|inbox|box|postfach|bo[iî]te\b.{0,30}) (is |est |ist )?(full|pleine|voll\b|vol\b)|full mailbox|"
    r"insufficient (system )?storage|disabled|inactive|suspended|not active"
)
UNKNOWN = re.compile(
    r"(?i)user[ -]?unknown|unknown[ -]user|(unknown|no such|invalid|bad|non-?existent) "
    r"(local |destination |e-?mail |mail)?(user|recipient|address|mailbox|account|person|part|domain)|"
    r"no mailbox here|not our customer|not a valid|mailbox (not found|unavailable|does not)|"
    r"(does|do|did) ?n[o']t (exist|have an? .{0,40}account)|unrouteable|"
    r"(user|recipient|address|account|mailbox|domain)\b.{0,60} (was |is |be )?(not found|n[o']t be found|unknown)|"
    r"no longer (exists|valid|in use|works)|has moved|"
    r"onbekend|bestaat niet|unbekannt|existiert nicht|inconnu|n'existe pas"
)
REFUSED = re.compile(
    r"(?i)spam|blocked|block ?list|black ?list|denylist|reputation|polic|dmarc|\bspf\b|dkim|denied|"
    r"not (authori[sz]ed|permitted|allowed)|too (large|big)|message size|size limit|exceeds|virus|content|"
    r"unsolicited|bulk"
)
RCPT = re.compile(r"(?i)\brcpt\b|does not like recipient|reply to rcpt")
CONTENT = re.compile(r"(?i)end of data|after data|\bdata command|after i sent the message|message body")


def verdict(*, status: str, said: str, around: str) -> tuple[Verdict | None, str]:
    """None when nothing is known. `said`: the failing server's words; `around`: the whole report's.

    Also the status it goes by, or "".
    """
    if NULL_MX.search(said):
        return Verdict.DEAD, status
    told = [found.group() for found in (ENHANCED.match(status), ENHANCED.search(said)) if found]
    status = next((each for each in told if not vague(each)), told[0] if told else "")
    if status and not vague(status):
        return of_status(status), status
    return by_words(said, around, permanent=not status.startswith("4")) or (
        of_status(status) if status else None
    ), status


def vague(status: str) -> bool:
    """ "Other or undefined" (RFC 3463 §3), but for content and policy, which are ours whatever they are."""
    return status.endswith(".0") and status.split(".")[1] not in ("6", "7")


def of_status(status: str) -> Verdict:
    return outcomes.classify(450 if status.startswith("4") else 550, status, Phase.RCPT)


def by_words(said: str, around: str, *, permanent: bool) -> Verdict | None:
    plain = PLAIN.search(said)
    code = int(plain.group()) if plain else 0
    if not permanent or 400 <= code < 500:
        return Verdict.LATER
    for pattern, meaning in (
        (FULL, Verdict.REFUSED),
        (UNKNOWN, Verdict.DEAD),
        (EXPIRED, Verdict.LATER),
        (REFUSED, Verdict.OURS),
    ):
        if pattern.search(said):
            return meaning
    if code and CONTENT.search(around):
        return outcomes.classify(code, "", Phase.DOT)
    if code and RCPT.search(around):
        return outcomes.classify(code, "", Phase.RCPT)
    return None
