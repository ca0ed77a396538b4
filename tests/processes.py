"""Vinkje as an operator runs it: real processes with an environment, stopped and killed at will."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


def free_port() -> int:
    """For a server that is started later. Not one that the system may give to another meanwhile, who asks it for any:
    those begin at 32768 on Linux, and higher elsewhere.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(holds: Callable[[], object], seconds: float = 30.0, what: str = "", pause: float = 0.05) -> None:
    """Look again after each `pause` until `holds()` is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or holds}")
        time.sleep(pause)


class Process:
    """A command in a process group of its own; what it prints is kept in `log`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> None:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env={**passed, **env},
                cwd=cwd,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, how: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Signal the process (not its children) and give its exit status."""
        if self.running:
            self._popen.send_signal(how)
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop within {seconds} s:\n{self.text()[-2000:]}") from None

    def kill(self) -> None:
        """SIGKILL to the whole group, as when a machine loses power."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)


def run(
    *command: str, env: Mapping[str, str], cwd: Path = ROOT, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without raising for its exit status."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**passed, **env},
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def vinkje(*arguments: str, env: Mapping[str, str]) -> str:
    """An operator command that must succeed; gives what it printed."""
    done = run("vinkje", *arguments, env=env)
    assert done.returncode == 0, f"vinkje {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def bytes_of(path: Path) -> bytes:
    """Of a file of SQLite's, read by another process: one that we close ourselves takes our connections' locks with it
    (sqlite.org/howtocorrupt.html §2.2), and the next process that ends throws their log away.
    """
    return subprocess.run(["cat", str(path)], capture_output=True, check=True).stdout


def healthy(base_url: str) -> bool:
    try:
        return httpx2.get(f"{base_url}/healthz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


@contextmanager
def production(env: Mapping[str, str], folder: Path, *, workers: int = 1) -> Iterator[dict[str, Process]]:
    """gunicorn, `workers` newsletter workers, a confirmation worker and beat, as the compose file has them."""
    port = env["PORT"]
    celery = ("celery", "-A", "worker.app")
    commands: dict[str, Sequence[str]] = {
        "web": ("gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4", "service.app:create_app()"),
        "confirmation": (*celery, "worker", "-Q", "confirmation,clock", "-c", "1", "-n", "confirmation@%h"),
        "beat": (*celery, "beat"),
    }
    for number in range(workers):
        commands[f"newsletter{number}"] = (*celery, "worker", "-Q", "newsletter", "-c", "1", "-n", f"news{number}@%h")
    running: dict[str, Process] = {}
    try:
        for name, command in commands.items():
            running[name] = Process(command, env, folder / f"{name}.log")
        wait_until(lambda: healthy(f"http://127.0.0.1:{port}"), 40, f"web: {running['web'].text()[-1500:]}")
        yield running
    finally:
        for process in running.values():
            process.kill()
