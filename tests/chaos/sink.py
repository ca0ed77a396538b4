"""A relay to send rounds to: quick, in a process of its own, with faults that are switched while it runs.

It writes down every recipient before it answers, in a file that outlives it: one line for each event,
`seconds word recipient`, in which the word is `taken`, `hidden` (taken, but the line dropped before the reply),
`lost` (the line dropped before the reply, and not taken), `mixed` (not this recipient's mail) or the code
of a refusal. Control comes as JSON, a line each, on a second port.

    python -m tests.chaos.sink PORT CONTROL_PORT LIST SEED
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from functools import partial

HELLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 50000000\r\n250 ENHANCEDSTATUSCODES\r\n"
OK, TAKEN = b"250 2.1.0 OK\r\n", b"250 2.0.0 taken\r\n"
NO_READER = b"554 5.5.1 no valid recipients\r\n"


@dataclass
class Faults:
    """`at_first`, `unknown`: per cent of the recipients. `full`: 452 to one in so many messages. `tired`: 421 after so
    many messages on a line. `refuse`: 554 5.7.1 at "mail", "rcpt" or "dot". `drops`: so many lines are dropped
    after a dot, one in `drop_one_in` messages. `rate`: it takes no more messages a second; 0: as many as come.
    """

    at_first: int = 0
    unknown: int = 0
    full: int = 0
    tired: int = 0
    refuse: str = ""
    drops: int = 0
    drop_one_in: int = 100
    rate: float = 0.0


class House:
    """What all lines share."""

    def __init__(self, path: str, seed: int) -> None:
        self.faults = Faults()
        self.chance = random.Random(seed)
        self.messages = self.taken = self.open = 0
        self._deferred: set[str] = set()
        self._list = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._free_at = 0.0

    def write_down(self, events: list[tuple[str, str]]) -> None:
        at = f"{time.time():.4f}"
        os.write(self._list, "".join(f"{at} {word} {recipient}\n" for word, recipient in events).encode())
        self.taken += sum(word in ("taken", "hidden") for word, _ in events)

    def wait(self, messages: int) -> float:
        """Seconds until this many may be answered."""
        if not self.faults.rate:
            return 0.0
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + messages / self.faults.rate
        return self._free_at - now

    def defers(self, recipient: str, share: int) -> bool:
        """Each of these once."""
        if recipient in self._deferred or not share:
            return False
        if one_of(recipient, share, "at first"):
            self._deferred.add(recipient)
            return True
        return False

    def control(self, order: dict[str, object]) -> dict[str, object]:
        for name, value in order.items():
            setattr(self.faults, name, value)
        return {"taken": self.taken, "open": self.open, **asdict(self.faults)}


def one_of(recipient: str, share: int, salt: str) -> bool:
    """The same recipients in every process: a relay that restarts knows its users."""
    return zlib.crc32(f"{salt}{recipient}".encode()) % 100 < share


class Line(asyncio.Protocol):
    def __init__(self, house: House) -> None:
        self._house = house
        self._heard = bytearray()
        self._looked = 0  # so much of the content has no end
        self._content = False
        self._recipient = ""
        self._refusal = b""  # what the dot will hear
        self._messages = 0
        self._over = False
        self._replies: list[bytes] = []
        self._events: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._house.open += 1
        transport.write(b"220 sink ESMTP\r\n")

    def connection_lost(self, fault: Exception | None) -> None:
        self._house.open -= 1

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while not self._over and (self._take_content() if self._content else self._take_line()):
            pass
        answered = sum(word in ("taken", "hidden") for word, _ in self._events)
        batch = (b"".join(self._replies), self._events, self._over)
        self._replies, self._events = [], []
        pause = self._house.wait(answered)
        if pause > 0.001:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(pause, partial(self._answer, *batch))
        else:
            self._answer(*batch)

    def _answer(self, replies: bytes, events: list[tuple[str, str]], over: bool) -> None:
        """Who was taken is written down also when the sender is gone by now, as a relay's queue does."""
        if events:
            self._house.write_down(events)
        if self._transport.is_closing():
            return
        self._transport.write(replies)
        if over:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _take_line(self) -> bool:
        end = self._heard.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._heard[:end])
        del self._heard[: end + 2]
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            self._replies.append(HELLO if verb == b"EHLO" else OK)
        elif verb == b"MAIL":
            self._mail()
        elif verb == b"RCPT":
            self._rcpt(line.decode("utf-8", "replace").partition("<")[2].partition(">")[0])
        elif verb == b"DATA":
            self._data()
        elif verb == b"QUIT":
            self._hang_up(b"221 2.0.0 bye\r\n")
        else:
            self._recipient = ""
            self._replies.append(OK)
        return True

    def _take_content(self) -> bool:
        if self._heard.startswith(b".\r\n"):
            content, length = b"", 3
        else:
            end = self._heard.find(b"\r\n.\r\n", self._looked)
            if end < 0:
                self._looked = max(len(self._heard) - 4, 0)
                return False
            content, length = bytes(self._heard[:2000]), end + 5
        del self._heard[:length]
        self._looked, self._content = 0, False
        self._dot(content)
        return True

    def _mail(self) -> None:
        self._recipient, self._refusal = "", b""
        faults = self._house.faults
        if faults.tired and self._messages >= faults.tired:
            self._hang_up(b"421 4.3.2 enough on this connection\r\n")
        elif faults.refuse == "mail":
            self._replies.append(b"554 5.7.1 we take nothing from you\r\n")
        else:
            self._replies.append(OK)

    def _rcpt(self, recipient: str) -> None:
        house, faults = self._house, self._house.faults
        house.messages += 1
        self._messages += 1
        refusal = ""
        if faults.refuse in ("mail", "rcpt"):
            refusal = "554 5.7.1 we take nothing from you"
        elif one_of(recipient, faults.unknown, "unknown"):
            refusal = "550 5.1.1 no such user"
        elif house.defers(recipient, faults.at_first):
            refusal = "451 4.2.0 not at first"
        elif faults.full and house.messages % faults.full == 0:
            refusal = "452 4.3.1 full for a moment"
        if not refusal:
            self._recipient = recipient
            self._replies.append(OK)
            return
        self._events.append((refusal[:3], recipient))
        if refusal[:2] == "45" and house.chance.random() < 0.5:  # temporary ones come at any step
            self._recipient, self._refusal = recipient, f"{refusal}\r\n".encode()
            self._replies.append(OK)
        else:
            self._replies.append(f"{refusal}\r\n".encode())

    def _data(self) -> None:
        """A recipient was refused and DATA came in the same group: a relay may go on all the same (RFC 2920 §3.1)."""
        even = self._house.chance.random() < 0.5
        if self._refusal and even:
            self._replies.append(self._refusal)
        elif not self._recipient and even:
            self._replies.append(NO_READER)
        else:
            self._content = True
            self._replies.append(b"354 go on\r\n")

    def _dot(self, content: bytes) -> None:
        house, faults, recipient = self._house, self._house.faults, self._recipient
        if not recipient:
            self._replies.append(NO_READER)
        elif self._refusal:
            self._replies.append(self._refusal)
        elif faults.refuse == "dot":
            self._events.append(("554", recipient))
            self._replies.append(b"554 5.7.1 we take nothing from you\r\n")
        elif f"\r\nTo: {recipient}\r\n".encode() not in b"\r\n" + content:
            self._events.append(("mixed", recipient))
            self._replies.append(b"554 5.6.0 this is another's mail\r\n")
        elif faults.tired and self._messages >= faults.tired and house.chance.random() < 0.5:
            self._events.append(("421", recipient))
            self._hang_up(b"421 4.3.2 enough on this connection\r\n")
        elif faults.drops and house.chance.random() * faults.drop_one_in < 1:
            faults.drops -= 1
            self._events.append(("hidden" if faults.drops % 2 else "lost", recipient))
            self._over = True
        else:
            self._events.append(("taken", recipient))
            self._replies.append(TAKEN)

    def _hang_up(self, goodbye: bytes) -> None:
        self._replies.append(goodbye)
        self._over = True


async def _serve(port: int, control_port: int, path: str, seed: int) -> None:
    house = House(path, seed)
    loop = asyncio.get_running_loop()

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while order := await reader.readline():
                writer.write(json.dumps(house.control(json.loads(order))).encode() + b"\n")
                await writer.drain()
        writer.close()

    lines = await loop.create_server(lambda: Line(house), "127.0.0.1", port, backlog=512)
    orders = await asyncio.start_server(obey, "127.0.0.1", control_port)
    await asyncio.gather(lines.serve_forever(), orders.serve_forever())


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
