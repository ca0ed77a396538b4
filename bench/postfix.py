"""Postfix's own measuring tools: smtp-sink takes mail and throws it away, smtp-source sends as fast as it can."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench import proc
from tests import processes

CACHE = Path(__file__).with_name(".cache")
PLACES = ("/usr/sbin", "/usr/local/sbin")
SESSIONS = 10
COUNTED = re.compile(rb"mesg=(\d+)")
MISSING = """\
The bench needs Postfix's smtp-sink and smtp-source, and finds neither them nor a way to fetch them:
  {why}
On Debian and Ubuntu: `apt-get install postfix` (choose "No configuration"), or `apt-get update`, after which the bench
unpacks the package in bench/.cache without installing it. Elsewhere: install Postfix, and have both on the PATH.\
"""


class Unavailable(Exception):
    """Says what to install."""


@dataclass(frozen=True)
class Tools:
    sink: str
    source: str
    libraries: str = ""
    version: str = ""

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), **({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})}


def find() -> Tools:
    """What is installed, or else Debian's package unpacked beside us. Raises Unavailable."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    sink, source = shutil.which("smtp-sink", path=path), shutil.which("smtp-source", path=path)
    if sink and source:
        return _tried(Tools(sink, source, version=_installed()))
    if not (CACHE / "usr/sbin/smtp-sink").exists():
        _unpack()
    folders = sorted({str(found.parent) for found in (CACHE / "usr/lib").rglob("*.so*")})
    version = (CACHE / "version").read_text().strip()
    programs = CACHE / "usr/sbin"
    return _tried(Tools(str(programs / "smtp-sink"), str(programs / "smtp-source"), os.pathsep.join(folders), version))


def _tried(tools: Tools) -> Tools:
    """Without arguments it shows its usage; without a library it says which."""
    done = subprocess.run([tools.source], env=tools.env, capture_output=True, text=True, check=False)
    if "usage" not in done.stderr:
        raise Unavailable(MISSING.format(why=done.stderr.strip() or f"{tools.source} doesn't start"))
    return tools


def _unpack() -> None:
    """With the libraries that this machine lacks; nothing is installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Unavailable(MISSING.format(why="no apt-get here"))
    CACHE.mkdir(exist_ok=True)
    if not _apt("download", "postfix") and os.geteuid() == 0:
        _apt("update")
        _apt("download", "postfix")
    planned = _run("apt-get", "install", "--simulate", "--no-install-recommends", "postfix").stdout
    if libraries := re.findall(r"^Inst (lib\S+)", planned, re.MULTILINE):
        _apt("download", *libraries)
    packages = sorted(CACHE.glob("*.deb"))
    if not any(package.name.startswith("postfix_") for package in packages):
        raise Unavailable(MISSING.format(why="`apt-get download postfix` fails"))
    for package in packages:
        _run("dpkg", "-x", str(package), str(CACHE))
        if package.name.startswith("postfix_"):
            (CACHE / "version").write_text(package.name.split("_")[1])
        package.unlink()


def _apt(*arguments: str) -> bool:
    return _run("apt-get", *arguments).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=300, check=False)


def _installed() -> str:
    if not shutil.which("postconf"):
        return ""
    asked = subprocess.run(["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


class Sink:
    """smtp-sink on a port of its own. It counts its messages itself, in a file: that costs it one short write each,
    whoever sends.
    """

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.port = processes.free_port()
        self._log = folder / f"sink-{self.port}.txt"
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._command = [tools.sink, "-c", *as_nobody, f"127.0.0.1:{self.port}", "1024"]
        self._env = tools.env
        self._folder = folder

    def __enter__(self) -> Sink:
        with self._log.open("wb") as out:
            self._popen = subprocess.Popen(
                self._command, env=self._env, cwd=self._folder, stdout=out, stderr=subprocess.STDOUT
            )
        processes.wait_until(lambda: proc.listens(self.port), 10, f"smtp-sink doesn't start: {self._log.read_text()}")
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._popen.kill()
        self._popen.wait(10)
        self._log.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def count(self) -> int:
        """Messages taken so far."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - 200))
            found = COUNTED.findall(log.read())
        return int(found[-1]) if found else 0


def source_rate(
    tools: Tools, *, port: int, message: Path, count: int, sessions: int = SESSIONS, more: Sequence[str] = ()
) -> float:
    """Messages a second of smtp-source over `sessions` connections. It connects anew for each message; with `-d` among
    `more` it keeps them open, and is faster. `message` has LF.
    """
    command = [tools.source, *more, "-s", str(sessions), "-m", str(count), "-F", str(message), f"127.0.0.1:{port}"]
    started = time.monotonic()
    done = subprocess.run(command, env=tools.env, capture_output=True, text=True, timeout=600, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"smtp-source: {done.stderr.strip()}")
    return count / seconds
