"""Why lines of a file were refused, in a file beside it. None may get lost: without them nobody can mend the lines."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import click

from service import errors, folder, settings
from service.subscribers.csv_rows import Refusal

ENDING = ".refused.csv"
UNNAMED = "import"  # what comes through a pipe
PIPES = ("dev", "proc")  # where the shell keeps what is passed on, as in <(…): nothing is found there afterwards
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(value: str) -> str:
    """A spreadsheet must not run what it reads (requirements 6.2)."""
    return f"'{value}" if value.startswith(FORMULA) else value


class Reasons:
    """Beside `source`; else in DATA_DIR; else on standard error. Says so when it opens, if not beside."""

    def __init__(self, source: Path) -> None:
        named = source.is_file() and source.parts[1:2] not in [(name,) for name in PIPES]
        self._places = [source.with_suffix(ENDING)] if named else []
        self._places.append(settings.current().data_dir / f"{source.stem if named else UNNAMED}{ENDING}")
        self._beside = self._places[0] if named else None
        self._file: TextIO | None = None
        self.written: list[Path] = []

    def __enter__(self) -> Reasons:
        self._next()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def keep(self, refusals: Sequence[Refusal]) -> None:
        """Written when it returns, so that the lines around them can be taken after that."""
        while refusals and self._file is not None:
            path = Path(self._file.name)
            rows = [(str(one.line), plain(one.reason)) for one in refusals]
            try:
                csv.writer(self._file).writerows(rows if path in self.written else [("line", "reason"), *rows])
                self._file.flush()
            except OSError:  # the disk is full, perhaps; another may not be
                self._next()
            else:
                self.written = [*dict.fromkeys([*self.written, path])]
                return
        for one in refusals:
            click.echo(f"Line {one.line}: {one.reason}", err=True)

    def _next(self) -> None:
        """The next place that can be written to."""
        self._close()
        while self._places and self._file is None:
            path = self._places.pop(0)
            with contextlib.suppress(OSError, errors.SettingsRefused):
                if path != self._beside:
                    folder.make(path.parent)
                self._file = path.open("w", encoding="utf-8", newline="")
        if self._file is None:
            click.echo("Reasons for refused lines can be written nowhere: they are printed here.", err=True)
        elif path != self._beside:
            click.echo(f"Reasons for refused lines go to {path}.", err=True)

    def _close(self) -> None:
        """A file in which nothing stands isn't left."""
        if self._file is not None:
            path = Path(self._file.name)
            with contextlib.suppress(OSError):  # what a full disk didn't take is kept at the next place
                self._file.close()
            self._file = None
            if path not in self.written:
                with contextlib.suppress(OSError):
                    path.unlink()
