"""What the outside world does to us. Fakes speak the real protocol."""

from __future__ import annotations

import contextlib
import email
import email.policy
import socket
import socketserver
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from aiosmtpd.smtp import Session as SmtpSession

CERTIFICATE = Path(__file__).with_name("localhost.pem")


def certificate() -> ssl.SSLContext:
    """Of a server on localhost that nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class _OnAnyPort(Controller):
    """aiosmtpd asks the port that it was given, also when that was 0."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd's own


@dataclass
class Caught:
    sender: str
    recipient: str
    content: bytes

    @property
    def message(self) -> EmailMessage:
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    def part(self, kind: str) -> str:
        """The decoded text of `plain` or `html`."""
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content())


@dataclass
class Relay:
    """An SMTP server on a loopback port.

    `answer_mail`, `answer_rcpt` and `answer_data` (after the dot) may give a reply line, such as
    "450 4.2.1 later", for an address; None accepts. "421 …" and "" (which hangs up) end the connection.
    `tls` offers STARTTLS with the certificate of `certificate()`; `login` asks for user and password after that.
    """

    port: int = 0
    caught: list[Caught] = field(default_factory=list)
    answer_mail: Callable[[str], str | None] = lambda address: None
    answer_rcpt: Callable[[str], str | None] = lambda address: None
    answer_data: Callable[[str], str | None] = lambda address: None
    tls: bool = False
    login: tuple[str, str] | None = None
    smtputf8: bool = True
    connections: int = 0

    def __post_init__(self) -> None:
        self._arrived = threading.Condition()
        self._controller = _OnAnyPort(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ready_timeout=10,
            enable_SMTPUTF8=self.smtputf8,
            tls_context=certificate() if self.tls or self.login else None,
            authenticator=self._check if self.login else None,
            auth_required=bool(self.login),
        )

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> Relay:
        self._controller.start()
        self.port = self._controller.port
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._controller.stop()

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's hook
        self, server: SMTP, session: SmtpSession, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if not session.ssl:
            self.connections += 1
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: SmtpSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answer_mail(address)
        if answer is not None:
            return self._say(server, answer)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: SmtpSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answer_rcpt(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
            return "250 2.1.5 OK"
        return self._say(server, answer)

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802
        address = envelope.rcpt_tos[0]
        answer = self.answer_data(address)
        if answer is not None:
            return self._say(server, answer)
        content: Any = envelope.content
        with self._arrived:
            self.caught.append(Caught(envelope.mail_from or "", address, content))
            self._arrived.notify_all()
        return "250 2.0.0 taken"

    def _check(self, server: SMTP, session: SmtpSession, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        assert self.login is not None
        user, password = self.login
        return AuthResult(success=(given.login, given.password) == (user.encode(), password.encode()), handled=False)

    def _say(self, server: SMTP, answer: str) -> str:
        if not answer or answer.startswith("421"):
            transport: Any = server.transport
            if answer:
                transport.write(answer.encode() + b"\r\n")
            transport.close()
        return answer or "421 gone"

    def wait(self, count: int, seconds: float = 30.0) -> list[Caught]:
        """The mails caught once there are `count`; fails after `seconds`."""
        with self._arrived:
            enough = self._arrived.wait_for(lambda: len(self.caught) >= count, seconds)
        assert enough, f"{len(self.caught)} of {count} mails came in {seconds} s"
        return list(self.caught)

    def to(self, address: str) -> list[Caught]:
        return [mail for mail in self.caught if mail.recipient == address]


class Sink:
    """A quick relay that only counts, for rounds of thousands: `taken` is how often each recipient had a mail.
    `pause` is how many seconds it thinks over each. `groups`: how many commands came together.
    """

    def __init__(self, *, pipelining: bool = False) -> None:
        self.pause = 0.0
        self.groups: list[int] = []
        self._hello = b"250-sink\r\n250 PIPELINING\r\n" if pipelining else b"250 sink\r\n"
        self.taken: Counter[str] = Counter()
        self._arrived = threading.Condition()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._serve)  # type: ignore[arg-type]
        self._server.daemon_threads = True
        self._server.block_on_close = False

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Sink:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count: int, seconds: float) -> None:
        with self._arrived:
            enough = self._arrived.wait_for(lambda: self.taken.total() >= count, seconds)
        assert enough, f"{self.taken.total()} of {count} mails came in {seconds} s"

    def _serve(self, connection: socket.socket, client: object, server: object) -> None:
        with connection, contextlib.suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"220 sink\r\n")
            recipient, heard, content = "", b"", False
            while data := connection.recv(256 * 1024):
                heard += data
                answers = []
                while (end := heard.find(b"\r\n.\r\n" if content else b"\r\n")) >= 0:
                    line, heard = heard[:end], heard[end + (5 if content else 2) :]
                    if content:
                        content = False
                        self._take(recipient)
                        answers.append(b"250 2.0.0 taken\r\n")
                        continue
                    verb = line[:4].upper()
                    if verb == b"RCPT":
                        recipient = line.decode().partition("<")[2].partition(">")[0]
                    content = verb == b"DATA"
                    answers.append({b"EHLO": self._hello, b"DATA": b"354 go on\r\n"}.get(verb, b"250 2.0.0 OK\r\n"))
                self.groups.append(len(answers))
                connection.sendall(b"".join(answers))
                if data.upper().startswith(b"QUIT"):
                    return

    def _take(self, recipient: str) -> None:
        time.sleep(self.pause)
        with self._arrived:
            self.taken[recipient] += 1
            self._arrived.notify_all()
