"""What a report means for the address it is about: by its codes, and by its words where the codes say too little. Pure.

The codes' table is that of a relay's own answers (outcomes.py). Words only come after it, and what says nothing we know
is a mail that didn't arrive, not a dead address.
"""

from __future__ import annotations

import re

from service.delivery import outcomes
from service.delivery.outcomes import Phase, Verdict

ENHANCED = re.compile(r"(?<![\d.])[45]\.[0-7]\.\d{1,3}(?![\d.]*\d)")  # RFC 3463 §2, and no version or network address
ANSWER = re.compile(r"(?<!\d)[45]\d\d[ -]#?(" + ENHANCED.pattern + ")")
NOTHING = "5.0.0"
CODE = re.compile(r"(?<![\d.])[45][0-5]\d(?=[ -])")
ANY_CODE = re.compile(r"(?<![\d.])[45][0-5]\d(?=[ :-])")
NULL_MX = re.compile(r"(?i)(?:^|[:;]|said) ?556[ -]|null ?mx|indicated no smtp service")  # RFC 7505

# At which command it was refused. One that shows several shows a refused RCPT before the DATA that had to fail.
PHASES = (
    (Phase.MAIL, re.compile(r"(?i)(after|reply to|response to|for) (initial connection|ehlo|helo|mail from)")),
    (Phase.RCPT, re.compile(r"(?i)\brcpt[ _]to\b|does not like recipient")),
    (Phase.DOT, re.compile(r"(?i)(end|after|sending) (of )?data|\bdata command|>>> data|i sent the message")),
)

WHO = (
    r"(user ?(id|name)?|recipient( name)?|addressee?|e-?mail|account|mailbox|domain|person|customer|"
    r"gebruiker|ontvanger|adres|postvak|benutzer|empf.{1,2}nger|adresse|postfach|konto|"
    r"utilisateur|destinataire|bo.{1,2}te|compte)"
)
GONE = (
    r"(unknown|not? (found|known|exist|listed|recogni[sz]ed|valid)|n[o'’]t (be )?(found|exist)|no longer|moved|"
    r"onbekend|bestaat niet|niet gevonden|unbekannt|existiert nicht|nicht gefunden|"
    r"inconnue?\b|n[’']existe pas|introuvable)"
)
UNKNOWN = re.compile(
    rf"(?i)\b{WHO}\b.{{0,60}}\b(?<!may )(?<!might ){GONE}|"
    rf"\b(unknown|no such|invalid|bad|non-?existent)( (local|final|delivery|destination|virtual|mail))*[ -]{WHO}|"
    r"no mailbox here|not our customer|not listed in|unrouteable|mailbox unavailable|have an? .{0,30}account\b"
)
LATER = re.compile(
    r"(?i)quota|insufficient|disabled|inactive|suspended|\blocked|frozen|temporar|try again|gr[ae]y-?list|expired|"
    r"time[d-]? ?out|\b(is|are|est|ist|mailbox|inbox|postfach|postvak) (full|pleine|voll?)\b|full mailbox|storage"
)
REFUSED = re.compile(
    r"(?i)spam|blocked|(block|black|deny)[ -]?list|banned|reputation|polic(y|ies)|dmarc|\bspf\b|dkim|virus|unsolicited|"
    r"denied|relaying|not (authori[sz]ed|permitted|allowed)|authenticat|reverse dns|\bptr\b|too (large|big)|exceeds|"
    r"message size|size limit|(reject|bad|message).{0,30}\bcontent|protocol|bulk (e-?)?mail"
)
ADDRESS = re.compile(r"https?://\S+|(?<!\S)\S+@\S+")  # the words in one mean nothing

Meaning = tuple[Verdict | None, str]


def meaning(*, status: str, said: str, around: str) -> Meaning:
    """The verdict, None when nothing is known, and the enhanced status it goes by, or "".

    `status`: what the report's writer makes of it. `said`: the words of the server that refused. `around`: all that
    the report says.
    """
    said = " ".join(said.rpartition(" -> ")[2].split())  # Exchange Online quotes the other server behind an arrow
    around = " ".join(around.split())
    told = found[0] if (found := ENHANCED.match(status.strip())) else ""
    if told.startswith("4"):
        return Verdict.LATER, told  # tried for days, and then given up
    if NULL_MX.search(said):
        return Verdict.DEAD, told
    answered, anywhere = ANSWER.search(said), ENHANCED.search(said)
    # The server's own code comes first: some writers make a 5.1.1 of every 550.
    codes = [answered[1] if answered else "", told, anywhere[0] if anywhere else ""]
    clear = next((code for code in codes if code and not _vague(code)), "")
    if clear:
        return _of_status(clear), clear
    status = next(filter(None, codes), "")
    return _by_words(said, around, status), status


def has_code(said: str) -> bool:
    """Did a server speak, or only a person?"""
    return ENHANCED.search(said) is not None or ANY_CODE.search(said) is not None


def _vague(status: str) -> bool:
    """Other or undefined (RFC 3463 §3); of content and policy that is ours all the same."""
    return status.endswith(".0") and status[2] not in "67"


def _of_status(status: str) -> Verdict:
    return outcomes.classify(450 if status.startswith("4") else 550, status, Phase.RCPT)


def _by_words(said: str, around: str, status: str) -> Verdict | None:
    code = int(found[0]) if (found := CODE.search(said)) else 0
    if status.startswith("4") or 400 <= code < 500:
        return Verdict.LATER
    words = ADDRESS.sub(" ", said)
    if LATER.search(words):
        return Verdict.REFUSED
    if (code or status) and REFUSED.search(words):  # without a code, no server said that
        return Verdict.OURS
    if UNKNOWN.search(words):
        return Verdict.DEAD
    if status and status != NOTHING:
        return _of_status(status)
    phase = next((phase for phase, signs in PHASES if signs.search(around)), None)
    return outcomes.classify(code, "", phase) if code and phase else None
