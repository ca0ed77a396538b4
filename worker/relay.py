"""A connection to the relay: connect, STARTTLS, log in (requirements 1.9). An expected failure is a Reply.

smtplib greets, starts TLS and logs in; the transaction is worker/pipeline.py's.
"""

from __future__ import annotations

import functools
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass

import structlog

from service import logs
from service.delivery import outcomes
from service.delivery.outcomes import Phase, Verdict
from service.settings import RelayAddress
from worker.pipeline import Answer

# Seconds (RFC 5321 §4.5.3.2). TCP's own 30 is ours: who doesn't answer by then is down.
TCP, GREETING, COMMAND, DATA, BLOCK, DOT = 30, 300, 300, 120, 180, 600
PATIENCE: dict[Phase | None, int] = {Phase.DATA: DATA, Phase.DOT: DOT}

ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")
# What may not stand in a path, whoever let it through (RFC 5321 §4.1.2).
UNSAFE = re.compile(r"[\x00-\x20\x7f<>]")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reply:
    """The last answer to one message. `code` 0: the line broke. `text` holds no address."""

    phase: Phase
    code: int
    enhanced: str = ""
    text: str = ""

    @property
    def verdict(self) -> Verdict:
        return outcomes.classify(self.code, self.enhanced, self.phase)

    @property
    def status(self) -> str:
        """As in "550 5.1.1"."""
        return f"{self.code or ''} {self.enhanced}".strip()


class Connection(smtplib.SMTP):
    """A TCP connection with our own timeouts, and what the relay offers on it."""

    def __init__(self, address: RelayAddress, hello: str, patience: float) -> None:
        self._implicit_tls = _tls(address) if address.implicit_tls else None
        super().__init__(address.host, address.port, local_hostname=hello or None, timeout=patience)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """smtplib's hook for another socket than a plain one."""
        made = socket.create_connection((host, port), min(TCP, timeout))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the end of a mail mustn't wait for an ACK
        if self._implicit_tls is not None:
            made = self._implicit_tls.wrap_socket(made, server_hostname=host)
        made.settimeout(timeout)
        return made

    def cannot(self, recipient: str, size: int) -> Reply | None:
        """Why a message of `size` octets needn't be tried on this connection."""
        if not recipient.isascii() and not self.has_extn("smtputf8"):
            return Reply(Phase.RCPT, 553, outcomes.NO_SMTPUTF8, "not sent: no SMTPUTF8")
        if size > self.largest:
            return Reply(Phase.DATA, 552, "5.3.4", "not sent: too large for the relay")
        return None

    @functools.cached_property
    def largest(self) -> float:
        """How many octets a message may have (RFC 1870 §4)."""
        most = self.esmtp_features.get("size", "")
        return int(most) if most.isdigit() and int(most) else float("inf")


def no_address(recipient: str) -> Reply | None:
    """An answer to a recipient that would be another command."""
    return Reply(Phase.RCPT, 553, "5.1.3", "not sent: no address") if UNSAFE.search(recipient) else None


def connect(address: RelayAddress, hello: str, patience: float = GREETING) -> Connection | Reply:
    """A connection that is ready for MAIL, or why there is none. May take `patience` seconds a step.

    `hello` is the name we give in EHLO; "" takes the host's own.
    """
    made: Connection | None = None
    phase = Phase.CONNECT
    try:
        made = Connection(address, hello if hello.isascii() else "", patience)
        made.ehlo_or_helo_if_needed()
        if not address.implicit_tls and address.starttls != "never":
            if made.has_extn("starttls"):
                made.starttls(context=_tls(address))
                made.ehlo()
            elif address.starttls == "required":
                raise smtplib.SMTPNotSupportedError("no STARTTLS")
        phase = Phase.LOGIN
        if address.user:
            made.login(address.user, address.password)
        return made
    except smtplib.SMTPResponseException as refused:
        fault: Exception = refused
        said = refused.smtp_error
        text = said if isinstance(said, bytes) else str(said).encode()
        found = reply(Answer(0, phase, refused.smtp_code, text))
    except (smtplib.SMTPException, OSError, ValueError) as broken:  # a password that AUTH can't carry is a ValueError
        fault = broken
        in_words = broken.strerror if isinstance(broken, OSError) else None
        found = Reply(phase, 0, text=in_words or type(broken).__name__)
    why = f"{type(fault).__name__}: {logs.redact(str(fault))}"
    log.warning("relay_unusable", phase=str(phase), code=found.code, why=why)
    if made is not None:
        made.close()
    return found


def taken(answer: Answer) -> str:
    """The status of a message that the relay has taken, as in "250 2.0.0"; "" of any other."""
    if answer.phase is not Phase.DOT or not 200 <= answer.code < 300:
        return ""
    return _status(answer.code, answer.text[:12].partition(b" ")[0])


@functools.lru_cache(maxsize=64)
def _status(code: int, word: bytes) -> str:
    """Of millions that are taken nobody reads more than the code."""
    return reply(Answer(0, Phase.DOT, code, word)).status


def reply(answer: Answer) -> Reply:
    """An answer's code and enhanced code, and its text without addresses."""
    said = answer.text.decode("utf-8", "replace")
    enhanced = ENHANCED.match(said)
    believed = enhanced[0] if enhanced and enhanced[1] == str(answer.code)[0] else ""
    return Reply(answer.phase, answer.code, believed, logs.redact(said)[:200])


def _tls(address: RelayAddress) -> ssl.SSLContext:
    tls = ssl.create_default_context()
    if address.starttls == "opportunistic" and not address.implicit_tls:
        # Without a promise of TLS its certificate proves nothing; it keeps out who only listens.
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls
