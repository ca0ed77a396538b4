"""A relay that is far away: `python -m bench.delay PORT TARGET MILLISECONDS` passes bytes on, later.

Each direction waits half of the milliseconds, so a round trip costs that much more. Bytes keep their order, and as
many may be under way as TCP lets in: it is distance, not a narrow line.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
from contextlib import suppress

CHUNK = 256 * 1024
MOST = 4 * 1024 * 1024  # under way in one direction of one connection


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST // CHUNK)

    async def arrive() -> None:
        while True:
            at, data = await under_way.get()
            await asyncio.sleep(at - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def leave() -> None:
        while data := await reader.read(CHUNK):
            await under_way.put((loop.time() + seconds, data))
        await under_way.put((loop.time() + seconds, b""))

    with suppress(OSError):
        async with asyncio.TaskGroup() as both:
            both.create_task(arrive())
            both.create_task(leave())


async def serve(port: int, target: int, milliseconds: float) -> None:
    half = milliseconds / 2000

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target, limit=CHUNK)
        except OSError:
            writer.close()
            return
        for each in (writer, far_writer):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BaseExceptionGroup):
            await asyncio.gather(_carry(reader, far_writer, half), _carry(far_reader, writer, half))
        for each in (writer, far_writer):
            each.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=CHUNK, backlog=256)
    async with server:
        await server.serve_forever()


def main() -> None:
    port, target, milliseconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    # epoll rounds a pause up to a whole millisecond, twice a round trip; select doesn't.
    with (
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner,
    ):
        runner.run(serve(port, target, milliseconds))


if __name__ == "__main__":
    main()
