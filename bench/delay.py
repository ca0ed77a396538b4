"""A relay that is far away: `python -m bench.delay PORT TARGET MILLISECONDS` passes bytes on, the answers later.

All of a round trip's time is spent on the way back: whoever waits for an answer can't tell, and what goes there, the
large part, costs this process two system calls and no clock. Bytes keep their order, and as many may be under way as
come: it is distance, not a narrow line.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections import deque
from contextlib import suppress

CHUNK = 256 * 1024


class Connection:
    """Of a sender (`near`) and the relay (`far`)."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        for each in (near, far):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting = bytearray()  # for room at the relay
        self.over = False


class Proxy:
    def __init__(self, port: int, target: int, milliseconds: float) -> None:
        self._target, self._seconds = target, milliseconds / 1000
        self._listening = socket.create_server(("127.0.0.1", port), backlog=256)
        self._listening.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        # The delay is the same for all, so what came first is due first.
        self._under_way: deque[tuple[float, Connection, bytes]] = deque()

    def serve(self) -> None:
        while True:
            for key, events in self._selector.select(self._until_due()):
                if key.data is None:
                    self._accept()
                elif key.fileobj is key.data.far and events & selectors.EVENT_READ:
                    self._answer(key.data)
                else:
                    self._pass_on(key.data, reading=key.fileobj is key.data.near)
            self._deliver()

    def _until_due(self) -> float | None:
        """To the nearest millisecond, as epoll counts them: half of the answers come a bit early, half a bit late."""
        if not self._under_way:
            return None
        return max(0, round(1000 * (self._under_way[0][0] - time.monotonic()))) / 1000

    def _accept(self) -> None:
        near, _ = self._listening.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            near.close()
            return
        made = Connection(near, far)
        self._selector.register(near, selectors.EVENT_READ, made)
        self._selector.register(far, selectors.EVENT_READ, made)

    def _pass_on(self, connection: Connection, *, reading: bool) -> None:
        if connection.over:
            return
        try:
            if reading:
                data = connection.near.recv(CHUNK)
                if not data:
                    self._close(connection)
                    return
                connection.waiting += data
            sent = connection.far.send(connection.waiting)
            del connection.waiting[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        room = selectors.EVENT_WRITE if connection.waiting else 0
        self._selector.modify(connection.far, selectors.EVENT_READ | room, connection)

    def _answer(self, connection: Connection) -> None:
        if connection.over:
            return
        try:
            data = connection.far.recv(CHUNK)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection.far)
        self._under_way.append((time.monotonic() + self._seconds, connection, data))

    def _deliver(self) -> None:
        soon = time.monotonic() + 0.0005
        while self._under_way and self._under_way[0][0] <= soon:
            _, connection, data = self._under_way.popleft()
            if connection.over:
                continue
            if not data:
                self._close(connection)
                continue
            sent = 0
            with suppress(OSError):  # a sender that went hears nothing; it is seen when we read
                sent = connection.near.send(data)
            if sent < len(data):  # no room for it yet
                self._under_way.appendleft((soon, connection, data[sent:]))
                break

    def _close(self, connection: Connection) -> None:
        connection.over = True
        for each in (connection.near, connection.far):
            with suppress(KeyError, ValueError):
                self._selector.unregister(each)
            each.close()


def main() -> None:
    port, target, milliseconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with suppress(KeyboardInterrupt):
        Proxy(port, target, milliseconds).serve()


if __name__ == "__main__":
    main()
