"""The journal as a file, for one process that does all (worker/journal.py)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from service import errors, folder
from worker.journal import Unreadable

log = structlog.get_logger()


class FileJournal:
    """For one process that does all. What is written outlives the process, if not the machine's power."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "journal"
        self._path: Path | None = None
        self._file: int | None = None
        self._owed = bytearray()

    def begin(self, batch_id: int, fence: int) -> None:
        self._close()
        self._path = self._folder / f"{batch_id}.{fence}"
        self._owed.clear()

    def note(self, marks: bytes) -> bool:
        """What doesn't fit on a full disk comes first the next time, so that marks stay whole."""
        self._owed += marks
        if not self._owed:
            return True
        try:
            if self._file is None:
                assert self._path is not None
                folder.make(self._folder)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
            del self._owed[: os.write(self._file, self._owed)]
            return not self._owed
        except (OSError, errors.SettingsRefused) as fault:
            log.warning("journal_away", fault=type(fault).__name__)
            return False

    def drop(self) -> None:
        self._close()
        if self._path is not None:
            self._forget(self._path)

    def read(self, batch_id: int, fences: Iterable[int]) -> list[bytes]:
        found = []
        for fence in fences:
            try:
                found.append((self._folder / f"{batch_id}.{fence}").read_bytes())
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise Unreadable from fault
        return found

    def forget(self, batch_id: int, fences: Iterable[int]) -> None:
        for fence in fences:
            self._forget(self._folder / f"{batch_id}.{fence}")

    def _forget(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
