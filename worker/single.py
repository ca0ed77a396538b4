"""One message at a time, on a line of its own: a sign-up doesn't wait behind a round's connections."""

from __future__ import annotations

import re
from types import TracebackType

from service.delivery.outcomes import Phase
from service.settings import RelayAddress
from worker import relay
from worker.line import Message
from worker.lines import Lines
from worker.pipeline import Answer

BARE_DOT = re.compile(rb"^\.", re.MULTILINE)


class Relay:
    """Serves one thread. `hello` is the name we give in EHLO."""

    def __init__(self, address: RelayAddress, *, hello: str = "", cap: int = 500) -> None:
        self._lines = Lines(address, hello=hello, most=1, cap=cap)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()

    def deliver(self, *, sender: str, recipient: str, message: bytes) -> relay.Reply:
        """`message` has CRLF and isn't dot-stuffed. Gives the answer to its dot, or to what stopped it."""
        refused = relay.no_address(recipient)
        if refused is not None:
            return refused
        made = Message(0, sender, recipient, stuffed(message), len(message))
        with self._lines.in_use():
            reused = bool(self._lines.count)
            reply = self._try(made)
            if reused and reply.code in (0, 421) and reply.phase is Phase.MAIL:
                # The relay had hung up while the line was idle, or had enough of this one. Nothing was sent yet.
                reply = self._try(made)
        return reply

    def _try(self, message: Message) -> relay.Reply:
        lines = self._lines
        answers: list[Answer] = []
        while not lines.hungry:
            lines.want()
            answers = lines.turn(1.0)
            if lines.unreachable is not None:
                return lines.unreachable
        lines.put(lines.hungry[0], message)
        while not answers:
            lines.ready()
            lines.write()
            answers = lines.turn(1.0)
        return relay.reply(answers[0])


def stuffed(message: bytes) -> bytes:
    """With its dots doubled (RFC 5321 §4.5.2) and a line end at its end."""
    made = BARE_DOT.sub(b"..", message)
    return made if made.endswith(b"\r\n") else made + b"\r\n"
