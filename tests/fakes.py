"""What the outside world does to us. Fakes speak the real protocol."""

from __future__ import annotations

import email
import email.policy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession


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

    `answer_rcpt` and `answer_data` may give a reply line, such as "450 4.2.1 later", for an address;
    None accepts. "421 …" and "" (which hangs up) end the connection.
    """

    port: int = 0
    caught: list[Caught] = field(default_factory=list)
    answer_rcpt: Callable[[str], str | None] = lambda address: None
    answer_data: Callable[[str], str | None] = lambda address: None

    def __post_init__(self) -> None:
        self._arrived = threading.Condition()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=10)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> Relay:
        self._controller.start()
        server: Any = self._controller.server
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._controller.stop()

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's hook
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
