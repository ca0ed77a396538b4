"""What the kernel knows of processes: CPU, memory, open connections."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # in microseconds
ESTABLISHED, LISTENING = "01", "0A"


def cpu(leader: int) -> float:
    """Microseconds, user and system, of the process group's living processes and of all they have buried."""
    return sum(sum(float(stat[place]) for place in range(11, 15)) for _, stat in _group(leader)) * TICK


def cpu_in_kernel(leader: int) -> float:
    """The part of `cpu` that is the system's: copying to and from sockets, mostly."""
    return sum(float(stat[12]) + float(stat[14]) for _, stat in _group(leader)) * TICK


def cpu_with_children(parent: int) -> float:
    """As `cpu`, for a server whose children leave its group: PostgreSQL's do."""
    mine = [stat for pid, stat in _processes() if pid == parent or int(stat[1]) == parent]
    return sum(sum(float(stat[place]) for place in range(11, 15)) for stat in mine) * TICK


def cpu_of(pid: int) -> float:
    """As `cpu`, of one process that has no children."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (float(stat[11]) + float(stat[12])) * TICK


def peak_memory(leader: int) -> int:
    """Bytes: the most that any one process of the group has held at a time (VmHWM)."""
    most = 0
    for pid, _ in _group(leader):
        try:
            found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        except OSError:
            continue
        most = max(most, int(found[1]) * 1024 if found else 0)
    return most


def connections(port: int) -> int:
    """Open connections to a port on loopback, counted at the client's end."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    # A set: the kernel may show a line twice when others come and go while we read.
    return len({parts[1] for line in lines if (parts := line.split())[2].endswith(wanted) and parts[3] == ESTABLISHED})


def listens(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any((parts := line.split())[1].endswith(f":{port:04X}") and parts[3] == LISTENING for line in lines)


def _group(leader: int) -> Iterator[tuple[int, list[str]]]:
    return ((pid, stat) for pid, stat in _processes() if int(stat[2]) == leader)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of its `stat` from the state on: 1 is its parent, 2 its group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # it has gone
            yield int(entry.name), text.rpartition(")")[2].split()
