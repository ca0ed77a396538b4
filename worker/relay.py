"""The line to the relay: connect, STARTTLS, log in, reuse (requirements 1.9). An expected failure is a Reply.

smtplib greets, starts TLS and logs in; the transaction is worker/pipeline.py's. One Relay serves one thread.
"""

from __future__ import annotations

import functools
import re
import smtplib
import socket
import ssl
import time
from dataclasses import dataclass
from types import TracebackType

import structlog

from service import logs
from service.delivery import outcomes
from service.delivery.outcomes import Phase, Verdict
from service.settings import RelayAddress
from worker.pipeline import Answer, Envelope, Pipeline

MOST_MESSAGES = 500  # then a new connection, so that a farm of relays shares the work
IDLE_SECONDS = 20.0  # what is older may have been dropped by a firewall that tells nobody
# Seconds (RFC 5321 §4.5.3.2). TCP's own 30 is ours: who doesn't answer by then is down.
TCP, GREETING, COMMAND, DATA, BLOCK, DOT = 30, 300, 300, 120, 180, 600

PATIENCE: dict[Phase | None, int] = {Phase.DATA: DATA, Phase.DOT: DOT}

ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")
BARE_DOT = re.compile(rb"^\.", re.MULTILINE)
# What may not stand in a path, whoever let it through (RFC 5321 §4.1.2).
UNSAFE = re.compile(r"[\x00-\x20\x7f<>]")

log = structlog.get_logger()


@dataclass(frozen=True)
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


class Relay:
    """`hello` is the name we give in EHLO; "" takes the host's own."""

    def __init__(self, address: RelayAddress, *, hello: str = "") -> None:
        self._address = address
        self._hello = hello if hello.isascii() else ""
        self._line: _Line | None = None
        self._messages = 0
        self._used_at = 0.0

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def deliver(self, *, sender: str, recipient: str, message: bytes) -> Reply:
        """One message to one recipient. `message` has CRLF and isn't dot-stuffed. The answer to its dot,
        or to the command that stopped it.
        """
        if UNSAFE.search(recipient):
            return Reply(Phase.RCPT, 553, "5.1.3", "not sent: no address")
        reused = self._reuse()
        reply = self._try(sender, recipient, message)
        if reused and reply.code in (0, 421) and reply.phase is Phase.MAIL:
            # The relay had hung up while the line was idle, or had enough of this one. Nothing was sent yet.
            self._drop()
            reply = self._try(sender, recipient, message)
        if reply.code in (0, 421):
            self._drop()
        return reply

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.say_goodbye()

    def _reuse(self) -> bool:
        if self._line is None:
            return False
        if self._messages >= MOST_MESSAGES or time.monotonic() - self._used_at > IDLE_SECONDS:
            self.close()
        return self._line is not None

    def _try(self, sender: str, recipient: str, message: bytes) -> Reply:
        if self._line is None:
            opened = _open(self._address, self._hello)
            if isinstance(opened, Reply):
                return opened
            self._line, self._messages = opened, 0
        self._messages += 1
        reply = self._line.send_one(sender, recipient, message)
        self._used_at = time.monotonic()
        return reply

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()


class _Line(smtplib.SMTP):
    """One connection. Its own timeouts, and replies as data."""

    def __init__(self, address: RelayAddress, hello: str) -> None:
        self._implicit_tls = _tls(address) if address.implicit_tls else None
        super().__init__(address.host, address.port, local_hostname=hello or None, timeout=GREETING)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """smtplib's hook for another socket than a plain one."""
        made = socket.create_connection((host, port), TCP)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the end of a mail mustn't wait for an ACK
        if self._implicit_tls is not None:
            made = self._implicit_tls.wrap_socket(made, server_hostname=host)
        made.settimeout(timeout)
        return made

    def send_one(self, sender: str, recipient: str, message: bytes) -> Reply:
        local = self._cannot(recipient, message)
        if local is not None:
            return local
        self._pipeline.put(
            Envelope(
                key=0,
                mail=f"MAIL FROM:<{sender}>{self._options(recipient, message)}\r\n".encode(),
                rcpt=f"RCPT TO:<{recipient}>\r\n".encode(),
                content=_stuffed(message),
            )
        )
        answers: list[Answer] = []
        assert self.sock is not None  # a line that was closed is used no more
        try:
            while not answers:
                self._write(self.sock, b"".join(self._pipeline.output()))
                answers = self._read(self.sock)
        except OSError as fault:
            log.warning("relay_line_broken", phase=str(self._pipeline.awaited), fault=type(fault).__name__)
            answers = self._pipeline.lost()
        return _reply(answers[0].phase, answers[0].code, answers[0].text)

    def _write(self, sock: socket.socket, data: bytes) -> None:
        """Counts what is out: whether the dot was decides what a broken line means."""
        left = memoryview(data)
        while left:
            sock.settimeout(BLOCK)
            sent = sock.send(left)
            self._pipeline.wrote(sent)
            left = left[sent:]

    def _read(self, sock: socket.socket) -> list[Answer]:
        sock.settimeout(PATIENCE.get(self._pipeline.awaited, COMMAND))
        data = sock.recv(64 * 1024)
        return self._pipeline.receive(data) if data else self._pipeline.lost()

    @functools.cached_property
    def _pipeline(self) -> Pipeline:
        """Made after EHLO, TLS and log-in: what was offered before them doesn't count (RFC 3207 §4.2)."""
        return Pipeline(grouping=self.has_extn("pipelining"))

    def say_goodbye(self) -> None:
        try:
            if self.sock is not None:
                self.sock.settimeout(5)
            self.docmd("QUIT")
        except (smtplib.SMTPException, OSError):
            pass  # it has hung up already
        finally:
            self.close()

    def _cannot(self, recipient: str, message: bytes) -> Reply | None:
        if not recipient.isascii() and not self.has_extn("smtputf8"):
            return Reply(Phase.RCPT, 553, outcomes.NO_SMTPUTF8, "not sent: no SMTPUTF8")
        most = self.esmtp_features.get("size", "")
        if most.isdigit() and 0 < int(most) < len(message):
            return Reply(Phase.DATA, 552, "5.3.4", "not sent: too large for the relay")
        return None

    def _options(self, recipient: str, message: bytes) -> str:
        """SMTPUTF8 only when it is needed (RFC 6531 §3.4)."""
        size = f" SIZE={len(message)}" if self.has_extn("size") else ""
        return size if recipient.isascii() else f"{size} BODY=8BITMIME SMTPUTF8"


def _open(address: RelayAddress, hello: str) -> _Line | Reply:
    """A line that is ready for MAIL, or why there is none."""
    line: _Line | None = None
    phase = Phase.CONNECT
    try:
        line = _Line(address, hello)
        line.ehlo_or_helo_if_needed()
        if not address.implicit_tls and address.starttls != "never":
            if line.has_extn("starttls"):
                line.starttls(context=_tls(address))
                line.ehlo()
            elif address.starttls == "required":
                raise smtplib.SMTPNotSupportedError("no STARTTLS")
        phase = Phase.LOGIN
        if address.user:
            line.login(address.user, address.password)
        return line
    except smtplib.SMTPResponseException as refused:
        fault: Exception = refused
        reply = _reply(phase, refused.smtp_code, refused.smtp_error)
    except (smtplib.SMTPException, OSError) as broken:
        fault = broken
        reply = Reply(phase, 0, text=type(broken).__name__)
    why = f"{type(fault).__name__}: {logs.redact(str(fault))}"
    log.error("relay_unusable", phase=str(phase), code=reply.code, why=why)
    if line is not None:
        line.close()
    return reply


def _stuffed(message: bytes) -> bytes:
    """With its dots doubled (RFC 5321 §4.5.2) and a line end at its end."""
    stuffed = BARE_DOT.sub(b"..", message)
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _tls(address: RelayAddress) -> ssl.SSLContext:
    tls = ssl.create_default_context()
    if address.starttls == "opportunistic" and not address.implicit_tls:
        # Without a promise of TLS its certificate proves nothing; it keeps out who only listens.
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _reply(phase: Phase, code: int, text: bytes | str) -> Reply:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    enhanced = ENHANCED.match(said)
    believed = enhanced[0] if enhanced and enhanced[1] == str(code)[0] else ""
    return Reply(phase, code, believed, logs.redact(said)[:200])
