"""Opens connections to the relay beside a loop that goes on: TCP, TLS and log-in may take long."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading

from service.delivery.outcomes import Phase
from service.settings import RelayAddress
from worker import relay

Opened = relay.Connection | relay.Reply


class Opener:
    """`bell` is readable once `arrived` has something. `pending`: asked for, and not given yet."""

    def __init__(self, address: RelayAddress, hello: str) -> None:
        self._address, self._hello = address, hello
        self._closed = False
        self._done: queue.SimpleQueue[Opened] = queue.SimpleQueue()
        self.bell, self._ringer = socket.socketpair()
        self.bell.setblocking(False)
        self.pending = 0

    def start(self) -> None:
        threading.Thread(target=self._connect, name="relay-connect", daemon=True).start()
        self.pending += 1  # after it: a thread that can't be had isn't waited for

    def arrived(self) -> list[Opened]:
        """Connections that are ready for MAIL, and why others weren't to be had."""
        with contextlib.suppress(OSError):
            self.bell.recv(1024)
        found: list[Opened] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._done.get_nowait())
        self.pending -= len(found)
        return found

    def close(self) -> None:
        """What comes later is closed when it comes."""
        self._closed = True
        self._forget()
        self.bell.close()
        self._ringer.close()

    def _connect(self) -> None:
        found: Opened = relay.Reply(Phase.CONNECT, 0, text="not opened")
        try:
            found = relay.connect(self._address, self._hello)
        finally:
            self._done.put(found)
            with contextlib.suppress(OSError):
                self._ringer.send(b".")
            if self._closed:
                self._forget()

    def _forget(self) -> None:
        for found in self.arrived():
            if isinstance(found, relay.Connection):
                found.close()
