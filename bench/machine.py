"""Where a bench ran. Figures without a machine say nothing; the host's name says nothing either."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import psycopg
import redis

PACKAGES = ("celery", "kombu", "psycopg", "sqlalchemy", "flask", "gunicorn", "redis", "structlog")
ASKED_OF_POSTGRES = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "wal_level")


def described() -> dict[str, object]:
    return {
        "cpu": _found("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_found("/proc/meminfo", r"MemTotal:\s+(\d+) kB") or 0) / 1024**2, 1),
        "kernel": platform.release(),
    }


def load() -> float:
    """The last minute's load average."""
    return float(Path("/proc/loadavg").read_text().split()[0])


def versions(*, database_url: str, redis_url: str, postfix: str) -> dict[str, object]:
    with psycopg.connect(database_url) as connection:
        postgres = {name: str(connection.execute(f"SHOW {name}").fetchone()[0]) for name in ASKED_OF_POSTGRES}  # type: ignore[index]
    server = redis.Redis.from_url(redis_url)
    said = server.info("server")
    server.close()
    return {
        "vinkje": _commit(),
        "python": platform.python_version(),
        "postgresql": postgres,
        "valkey": str(said.get("valkey_version") or said.get("redis_version")),
        "postfix": postfix,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _found(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found[1].strip() if found else ""


def _commit() -> str:
    """The commit that was measured, with "+" when files had changed since."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return asked.stdout.strip()
