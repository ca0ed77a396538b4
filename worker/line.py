"""One connection to the relay as a non-blocking socket with its Pipeline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import NamedTuple

from service import settings
from worker import relay
from worker.pipeline import Answer, Envelope, Pipeline

CHUNK = 64 * 1024
RECORD = 16 * 1024  # of TLS. A longer piece may be out in part, and Python doesn't say how much


class Message(NamedTuple):
    """One message to one recipient. `content` is dot-stuffed and ends with CRLF; `size` counts it unstuffed
    (RFC 1870 §3). `key` is the caller's own.
    """

    key: int
    sender: str
    recipient: str
    content: bytes
    size: int


class Line:
    """For `cap` messages. `used_at` is when it was last written to or read from (monotonic)."""

    def __init__(self, connection: relay.Connection, cap: int) -> None:
        assert connection.sock is not None  # `connect` gives an open one
        self._connection = connection
        self.sock: socket.socket = connection.sock
        self.sock.setblocking(False)
        # Made after EHLO, TLS and log-in: what was offered before them doesn't count (RFC 3207 §4.2).
        self.pipeline = Pipeline(grouping=connection.has_extn("pipelining"))
        self._cap, self._messages = cap, 0
        self._sizes = connection.has_extn("size")
        # What comes back holds our headers and not the mail, and of failures only (RFC 3461 §4.1, §4.3).
        reported = connection.has_extn("dsn") and bool(settings.current().return_address)
        self._returned, self._notified = (" RET=HDRS", " NOTIFY=FAILURE") if reported else ("", "")
        self._most = connection.largest
        self._tls = isinstance(self.sock, ssl.SSLSocket)
        self.used_at = time.monotonic()
        self.watched = False  # for room to write
        self.was_busy = False
        self._output: list[bytes] = []
        self._left = memoryview(b"")

    @property
    def hungry(self) -> bool:
        return self.pipeline.hungry and not self.used_up

    @property
    def used_up(self) -> bool:
        """It has carried as many messages as it may."""
        return self._messages >= self._cap

    @property
    def blocked(self) -> bool:
        return bool(self._left)

    @property
    def has_output(self) -> bool:
        return bool(self._left) or bool(self._output)

    def put(self, message: Message) -> relay.Reply | None:
        """Gives why it can't be sent here, or None."""
        key, sender, recipient, content, size = message
        plain = recipient.isascii()
        if not plain or size > self._most or relay.UNSAFE.search(recipient):
            refused = relay.no_address(recipient) or self._connection.cannot(recipient, size)
            if refused is not None:
                return refused
        self._messages += 1
        said = f" SIZE={size}{self._returned}" if self._sizes else self._returned
        options = said if plain else f"{said} BODY=8BITMIME SMTPUTF8"  # only when it is needed (RFC 6531 §3.4)
        rcpt = f"RCPT TO:<{recipient}>{self._notified}\r\n".encode()
        self.pipeline.put(Envelope(key, f"MAIL FROM:<{sender}>{options}\r\n".encode(), rcpt, content))
        return None

    def collect(self) -> list[int]:
        """Take over what the pipeline wants written; gives the keys whose content is in it."""
        self._output += self.pipeline.output()
        going, self.pipeline.going = self.pipeline.going, []
        return going

    def write(self) -> bool:
        """As much as the connection takes now. False: it broke. Counts what is out: whether the dot was
        decides what a broken line means.
        """
        if self._output:
            output = b"".join(self._output)
            self._left = memoryview(b"".join((self._left, output)) if self._left else output)
            self._output = []
        self.was_busy = True
        self.used_at = time.monotonic()
        try:
            while self._left:
                sent = self.sock.send(self._left[:RECORD] if self._tls else self._left)
                self.pipeline.wrote(sent)
                self._left = self._left[sent:]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False
        return True

    def read(self) -> list[Answer]:
        """What came in; an end of the line is told to the pipeline."""
        answers: list[Answer] = []
        self.used_at = time.monotonic()
        try:
            while not self.pipeline.closed:
                self.was_busy = not self.pipeline.idle
                data = self.sock.recv(CHUNK)
                answers += self.pipeline.receive(data) if data else self.pipeline.lost()
                if not self._tls:
                    break  # TLS may hold more that the selector doesn't see
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            answers += self.pipeline.lost()
        return answers

    def overdue(self, now: float) -> bool:
        """The relay took longer than RFC 5321 §4.5.3.2 gives it."""
        if self.pipeline.idle:
            return False
        patience = relay.BLOCK if self.blocked else relay.PATIENCE.get(self.pipeline.awaited, relay.COMMAND)
        return now - self.used_at > patience

    def close(self, *, politely: bool) -> None:
        """Without waiting for the answer to QUIT: whatever was under way is settled by now."""
        with contextlib.suppress(OSError):
            if politely and not self._left and not self.pipeline.closed:
                self.sock.send(b"QUIT\r\n")
        self._connection.close()
