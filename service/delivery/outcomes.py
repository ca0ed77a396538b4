"""What a relay's answer means for a recipient. Pure: no database, no clock (requirements 1.9, 1.10)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from service.delivery.models import Doubt, Outcome

# Growing pauses after a 4xx; the last one repeats until GIVE_UP after the first try (requirements 1.9: 24-48 h).
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 60, 240))
GIVE_UP = timedelta(hours=48)
# Refusals of our making in a row. Fewer than FEW, when the relay took mails for others before, don't stop a round;
# after MOST nobody more is tried in search of a reader whose mail is taken.
FEW_REFUSALS, MOST_REFUSALS = 5, 20


class Phase(StrEnum):
    """How far a message had come when the answer came."""

    CONNECT = "connect"
    LOGIN = "login"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    UNCERTAIN = "uncertain"  # the line broke between dot and reply: it may have gone out
    LATER = "later"  # 4xx for this recipient
    DEAD = "dead"  # this address exists no more
    REFUSED = "refused"  # 5xx about the recipient, which says nothing about next week
    OURS = "ours"  # 5xx that is the operator's fault, unless it stays alone
    STOP = "stop"  # the relay won't have us at all
    NOBODY = "nobody"  # 421, a broken line, a relay that is down: charged to nobody


DEAD_STATUS = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})
DEAD_CODES = frozenset({550, 551, 553, 556})  # to RCPT, when no enhanced code says it better
OUR_STATUS = frozenset({"5.1.7", "5.1.8", "5.2.3", "5.3.4"})
OUR_SUBJECTS = frozenset({"5", "6", "7"})  # protocol, content, policy (RFC 3463 §3.6-3.8)
TOO_MANY = frozenset({"", "5.5.3"})  # 552 to RCPT is "too many recipients": treat as 452 (RFC 5321 §4.5.3.1.10)
TOO_FAST = "4.7.28"  # we send too much (requirements 1.10)
# The relay can't take an address outside ASCII (RFC 6531 §3.2). A row of such readers says nothing
# about the others, so it must not stop the run as the rest of 5.6.x does.
NO_SMTPUTF8 = "5.6.7"


def classify(code: int, enhanced: str, phase: Phase) -> Verdict:
    """`code` 0 stands for a broken line; `enhanced` is "" or as in "5.1.1" (RFC 3463).

    Decides on the first digit (RFC 5321 §4.3.2). An enhanced code of another class is not believed.
    """
    if 200 <= code < 300:
        return Verdict.ACCEPTED if phase is Phase.DOT else Verdict.NOBODY
    if code < 400:
        return Verdict.UNCERTAIN if phase is Phase.DOT else Verdict.NOBODY
    if code < 500:
        about_reader = code != 421 and enhanced != TOO_FAST and phase in (Phase.RCPT, Phase.DATA, Phase.DOT)
        return Verdict.LATER if about_reader else Verdict.NOBODY
    if phase in (Phase.CONNECT, Phase.LOGIN, Phase.MAIL):
        return Verdict.STOP  # "concerns the sender, must not be charged to the recipient"
    if code == 552 and phase is Phase.RCPT and enhanced in TOO_MANY:
        return Verdict.LATER
    return _permanent(code, enhanced, phase)


def _permanent(code: int, enhanced: str, phase: Phase) -> Verdict:
    if not enhanced.startswith("5."):
        return _plain(code, phase)
    if enhanced in DEAD_STATUS:
        return Verdict.DEAD
    if enhanced == NO_SMTPUTF8:
        return Verdict.REFUSED
    if enhanced in OUR_STATUS or enhanced.split(".")[1] in OUR_SUBJECTS:
        return Verdict.OURS
    return Verdict.REFUSED


def _plain(code: int, phase: Phase) -> Verdict:
    if phase is not Phase.RCPT:
        return Verdict.OURS  # it had taken the recipient: what it minds is the message
    return Verdict.DEAD if code in DEAD_CODES else Verdict.OURS


class Reader(NamedTuple):
    """One recipient of a batch. `attempts` and `first_at` are of earlier deferrals, `moved` is the subscriber's."""

    subscriber_id: int
    email: str
    email_key: str
    language: str
    attempts: int = 0
    first_at: datetime | None = None
    moved: int = 0

    @property
    def domain(self) -> str:
        return self.email_key.rpartition("@")[2]


class Result(NamedTuple):
    """What is recorded of one try. `status` is code and enhanced code, as in "550 5.1.1", or a Doubt."""

    reader: Reader
    outcome: Outcome
    at: datetime
    status: str
    dead: bool = False
    retry_at: datetime | None = None
    uncertain_at: datetime | None = None


RECORDED = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.DEAD: Outcome.REJECTED,
    Verdict.REFUSED: Outcome.REJECTED,
    Verdict.OURS: Outcome.REJECTED,
}


def result(*, reader: Reader, verdict: Verdict, status: str, now: datetime) -> Result:
    """Of a verdict that is charged to the reader: not STOP, not NOBODY, and of a doubt see `doubtful`."""
    if verdict is not Verdict.LATER:
        return Result(reader, RECORDED[verdict], now, status, verdict is Verdict.DEAD)
    first_at = reader.first_at or now
    if now - first_at >= GIVE_UP:
        return Result(reader, Outcome.GIVEN_UP, now, status)
    pause = PAUSES[min(reader.attempts, len(PAUSES) - 1)]
    return Result(reader, Outcome.DEFERRED, now, status, retry_at=min(now + pause, first_at + GIVE_UP))


def untouched(*, reader: Reader, status: str, now: datetime) -> Result:
    """It was said to be going out and didn't: its turn comes again at once, and this try doesn't count."""
    return Result(reader._replace(attempts=reader.attempts - 1), Outcome.DEFERRED, now, status, retry_at=now)


def doubtful(*, reader: Reader, doubt: Doubt, now: datetime, resend: bool) -> Result:
    """Nobody can know whether it went out. `resend`: it is sent once more, so that it may come twice."""
    if resend and now - (reader.first_at or now) < GIVE_UP:
        return Result(reader, Outcome.DEFERRED, now, doubt, retry_at=now + PAUSES[0], uncertain_at=now)
    return Result(reader, Outcome.UNCERTAIN, now, doubt, uncertain_at=now)
