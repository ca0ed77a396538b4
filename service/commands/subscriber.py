"""`vinkje subscriber …`"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

import click
from flask.cli import AppGroup

from service import db, errors, settings
from service.subscribers import addresses, csv_rows, importing
from service.subscribers.csv_rows import Refusal, Row

CHUNK = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r")

group = AppGroup("subscriber", help="Who reads.")


@group.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_file(file: Path) -> None:
    """Take in readers who gave consent elsewhere.

    FILE is CSV in UTF-8 with the columns email, themes (slugs, “;” between), consented_at,
    consent_source and, when wanted, language. Lines that can't be taken are written with their number
    and the reason beside it: those of readers.csv to readers.refused.csv. Safe to run twice. The exit status is 0,
    also when lines were refused: the last line says how many.
    """
    beside = file.with_suffix(".refused.csv")
    try:
        with (
            file.open(encoding=csv_rows.ENCODING, errors=csv_rows.BROKEN_BYTES) as source,
            beside.open("w", encoding="utf-8", newline="") as refused,
        ):
            counted = _import(source, refused)
    except OSError as fault:
        raise click.FileError(str(fault.filename or file), fault.strerror) from None
    finally:
        if beside.exists() and not beside.stat().st_size:
            beside.unlink()
    click.echo(
        f"{counted['added']} lines added, {counted['already']} already there, "
        f"{counted['partly']} added in part, {counted['refused']} refused."
    )
    if counted["partly"] or counted["refused"]:
        click.echo(f"The reasons stand in {beside}.")


def _import(source: TextIO, refused: TextIO) -> Counter[str]:
    counted: Counter[str] = Counter()
    writer = csv.writer(refused)
    for lines in _chunks(source):
        with db.transaction() as session:
            taken = importing.take(session=session, now=datetime.now(UTC), lines=lines)
        counted.update(added=taken.added, already=taken.already, partly=taken.partly, refused=taken.refused)
        if taken.refusals and not refused.tell():
            writer.writerow(("line", "reason"))
        writer.writerows((line.line, _plain(line.reason)) for line in taken.refusals)
        refused.flush()
    return counted


def _chunks(source: TextIO) -> Iterator[list[Row | Refusal]]:
    """Thousands of lines, with a bar on a terminal: in bytes, for nobody has counted the lines."""
    chosen = settings.current()
    lines = csv_rows.read(source, now=datetime.now(UTC), language=chosen.default_language, smtputf8=chosen.smtputf8)
    size = os.fstat(source.fileno()).st_size
    with click.progressbar(length=size, label="Importing", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        while chunk := list(islice(lines, CHUNK)):
            yield chunk
            bar.update(source.buffer.tell() - bar.pos)


def _plain(reason: str) -> str:
    """A spreadsheet must not run what it reads (requirements 6.2)."""
    return f"'{reason}" if reason.startswith(FORMULA) else reason


@group.command("unblock")
@click.argument("email")
def unblock(email: str) -> None:
    """Let EMAIL sign up again. Its owner said “never mail me again” before, and now asks you to undo that."""
    address = addresses.parse(email, smtputf8=True)
    with db.transaction() as session:
        if not addresses.unblock(session=session, email_key=address.key):
            raise errors.NotFound("This address isn’t blocked.")
    click.echo("The address can sign up again.")
