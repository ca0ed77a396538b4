"""SMTP pipelining as a pure machine: bytes and events in, bytes and answers out (RFC 2920, requirements 1.9).

A Pipeline speaks for one connection, from the moment that EHLO (after TLS) and log-in are done. The dot
of one message and MAIL, RCPT, DATA of the next travel in one group, so a message costs one round trip:

    → content of n, dot, MAIL n+1, RCPT n+1, DATA n+1
    ← 250 (dot n), 250, 250, 354

Replies are counted, never matched on their text (RFC 2920 §3.1). To a relay that doesn't offer PIPELINING
each command goes alone and waits for its reply. CHUNKING is left out: it gains nothing over this.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from service.delivery.outcomes import Phase

# What a reply begins with; anything else ends the line.
CODES = {str(code).encode(): code for code in range(200, 600)}
LONGEST_REPLY = 64 * 1024  # octets; RFC 5321 §4.5.3.1.5 says 512 a line, with many lines a reply


@dataclass(slots=True, eq=False)
class Envelope:
    """One message to one recipient. `mail` and `rcpt` are command lines with CRLF; `content` is dot-stuffed
    and ends with CRLF. `key` is the caller's own.
    """

    key: int
    mail: bytes
    rcpt: bytes
    content: bytes
    refusal: Answer | None = None


class Answer(NamedTuple):
    """What became of a message. `code` 0 stands for a broken line, or a relay that speaks no SMTP:
    at Phase.DOT it may have been accepted, at any other phase it was not.
    """

    key: int
    phase: Phase
    code: int
    text: bytes
    struck: bool = False  # the line ended while the relay was at this one: it may be the cause


# A reply to come: its phase, None to RSET; its message; how many octets are out when the first and the last one of
# what is written with it are.
_Awaited = tuple[Phase | None, Envelope | None, int, int]
# What is written in one go, and the replies to it.
_Command = tuple[tuple[Phase | None, ...], Envelope | None, bytes]
GROUP: tuple[Phase | None, ...] = (Phase.MAIL, Phase.RCPT, Phase.DATA)
DOT: tuple[Phase | None, ...] = (Phase.DOT,)


class Pipeline:
    """`put` a message while `hungry`; write what `output` gives and say so with `wrote`; hand over what was
    read with `receive`, and tell with `lost` that the line broke. Every message put comes back in one Answer.
    """

    def __init__(self, *, grouping: bool) -> None:
        self._grouping = grouping
        self._commands: deque[_Command] = deque()
        self._awaited: deque[_Awaited] = deque()
        self._current: Envelope | None = None  # its envelope is on its way, its content is not
        self._waiting: Envelope | None = None  # its envelope goes with the dot of `_current`
        self._answers: list[Answer] = []
        self._needs_reset = False
        self._buffer = b""
        self._queued = self._written = 0
        self.going: list[int] = []  # keys whose content `output` has given; the caller takes them out
        self.closed = False

    @property
    def hungry(self) -> bool:
        """One message ahead, where that saves a round trip."""
        return not self.closed and (self._waiting is None if self._grouping else self.idle)

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return self._current is None and self._waiting is None and not self._awaited and not self._commands

    @property
    def awaited(self) -> Phase | None:
        """What the next reply answers; None: RSET, or none is to come."""
        return self._awaited[0][0] if self._awaited else None

    def put(self, envelope: Envelope) -> None:
        """Only while `hungry`."""
        if self._current is None:
            self._begin(envelope)
        else:
            self._waiting = envelope

    def withdraw(self) -> int | None:
        """The key of a message of which the relay has heard nothing yet; it is forgotten."""
        waiting, self._waiting = self._waiting, None
        return waiting.key if waiting is not None else None

    def output(self) -> list[bytes]:
        """What may be written now, in pieces. Never content before its 354, nor a command after DATA."""
        commands, awaited = self._commands, self._awaited
        ready = len(commands) if self._grouping else min(len(commands), not awaited)
        pieces = []
        for _ in range(ready):
            phases, envelope, data = commands.popleft()
            start = self._queued
            self._queued = end = start + len(data)
            for phase in phases:
                awaited.append((phase, envelope, start, end))
            pieces.append(data)
            if phases is DOT and envelope is not None and envelope.refusal is None:
                self.going.append(envelope.key)
        return pieces

    def wrote(self, octets: int) -> None:
        self._written += octets

    def receive(self, data: bytes) -> list[Answer]:
        """Replies may come split at any octet, and several at once."""
        lines = (self._buffer + data).split(b"\n") if self._buffer else data.split(b"\n")
        self._buffer = lines.pop()
        begun: list[bytes] = []  # of a reply of several lines
        for line in lines:
            if line[3:4] == b"-":
                begun.append(line)
                continue
            code = CODES.get(line[:3], 0)
            if begun:
                code *= all(one[:3] == line[:3] for one in begun)
                line = b" ".join([line[:3], *(one[4:].strip() for one in begun), line[4:]])
                begun = []
            self._reply(code, line)
            if self.closed:
                return self._collect()
        if begun:  # its last line is still to come
            self._buffer = b"\n".join([*begun, self._buffer])
        if len(self._buffer) > LONGEST_REPLY:
            return self.lost()
        return self._collect()

    def lost(self) -> list[Answer]:
        """The line broke. Only a message whose dot was written whole can have been accepted."""
        if not self.closed:
            self._end(0, b"")
        return self._collect()

    def _reply(self, code: int, line: bytes) -> None:
        """`code` 0: it is no reply. `line` is all of it."""
        if code == 421 or code == 0 or not self._awaited:
            self._end(code if code == 421 else 0, line[4:].rstrip())
            return
        phase, envelope, _, _ = self._awaited.popleft()
        if envelope is None or phase is None:
            return  # RSET: a relay that can't take it says so again at MAIL
        if phase is Phase.DOT:
            self._answers.append(envelope.refusal or Answer(envelope.key, phase, code, line[4:].rstrip()))
        elif phase is Phase.DATA:
            self._after_data(envelope, code, line[4:].rstrip())
        elif not self._grouping or code >= 300:
            self._after_command(phase, envelope, code, line[4:].rstrip())

    def _after_command(self, phase: Phase, envelope: Envelope, code: int, text: bytes) -> None:
        if not 200 <= code < 300 and envelope.refusal is None:
            envelope.refusal = Answer(envelope.key, phase, code, text)
        if self._grouping:
            return
        if envelope.refusal is not None:
            self._refused(envelope.refusal)
        elif phase is Phase.MAIL:
            self._commands.append(((Phase.RCPT,), envelope, envelope.rcpt))
        else:
            self._commands.append(((Phase.DATA,), envelope, b"DATA\r\n"))

    def _after_data(self, envelope: Envelope, code: int, text: bytes) -> None:
        if not 300 <= code < 400:
            self._refused(envelope.refusal or Answer(envelope.key, Phase.DATA, code, text))
            return
        # Nobody to mail and yet a 354: a lone dot, and the failure that answers it (RFC 2920 §3.1).
        content = b".\r\n" if envelope.refusal else envelope.content + b".\r\n"
        self._commands.append((DOT, envelope, content))
        self._advance()

    def _refused(self, refusal: Answer) -> None:
        """No content will follow. The relay's buffers are in doubt: RSET before the next MAIL."""
        self._answers.append(refusal)
        self._needs_reset = True
        self._advance()

    def _advance(self) -> None:
        self._current, following = None, self._waiting
        self._waiting = None
        if following is not None:
            self._begin(following)

    def _begin(self, envelope: Envelope) -> None:
        self._current = envelope
        if self._needs_reset:
            self._needs_reset = False
            self._commands.append(((None,), None, b"RSET\r\n"))
        if self._grouping:
            self._commands.append((GROUP, envelope, envelope.mail + envelope.rcpt + b"DATA\r\n"))
        else:
            self._commands.append(((Phase.MAIL,), envelope, envelope.mail))

    def _end(self, code: int, text: bytes) -> None:
        """The connection is over; `code` 421 answers the first awaited reply, and nothing more will come."""
        self.closed = True
        told: set[int] = set()
        first = True
        for phase, envelope, start, end in self._awaited:
            if envelope is not None and phase is not None and id(envelope) not in told:
                told.add(id(envelope))
                if phase is Phase.DOT and not (first and code == 421) and self._written < end:
                    phase = Phase.DATA  # the dot wasn't out whole, so nothing was accepted
                struck = first and self._written > start
                self._answers.append(envelope.refusal or Answer(envelope.key, phase, code, text, struck))
            first = False
        for envelope in (self._current, self._waiting, *(command[1] for command in self._commands)):
            if envelope is not None and id(envelope) not in told:
                told.add(id(envelope))
                self._answers.append(envelope.refusal or Answer(envelope.key, Phase.MAIL, code, text))
        self._awaited.clear()
        self._commands.clear()
        self._current = self._waiting = None

    def _collect(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers
