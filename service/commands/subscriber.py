"""`vinkje subscriber …`"""

from __future__ import annotations

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
from service.commands.reasons import Reasons
from service.subscribers import addresses, csv_rows, importing
from service.subscribers.csv_rows import Refusal, Row

CHUNK = 1000
SOME_REFUSED = 4

group = AppGroup("subscriber", help="Who reads.")


@group.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_context
def import_file(context: click.Context, file: Path) -> None:
    """Take in readers who gave consent elsewhere.

    FILE is CSV in UTF-8 with the columns email, themes (slugs, “;” between), consented_at,
    consent_source and, when wanted, language. Lines that can't be taken are written with their number
    and the reason beside it: those of readers.csv to readers.refused.csv; to DATA_DIR when that can't be.
    Safe to run twice. Exit status 4: lines were refused, whole or in part.
    """
    try:
        with file.open(encoding=csv_rows.ENCODING, errors=csv_rows.BROKEN_BYTES) as source, Reasons(file) as reasons:
            counted = _import(source, reasons)
    except OSError as fault:
        raise click.FileError(str(fault.filename or file), fault.strerror) from None
    click.echo(
        f"{counted['added']} lines added, {counted['already']} already there, "
        f"{counted['partly']} added in part, {counted['refused']} refused."
    )
    if reasons.written:
        click.echo(f"The reasons stand in {' and '.join(map(str, reasons.written))}.")
    if counted["partly"] or counted["refused"]:
        context.exit(SOME_REFUSED)


def _import(source: TextIO, reasons: Reasons) -> Counter[str]:
    counted: Counter[str] = Counter()
    for lines in _chunks(source):
        with db.transaction() as session:
            taken = importing.take(session=session, now=datetime.now(UTC), lines=lines)
            reasons.keep(taken.refusals)
        counted.update(added=taken.added, already=taken.already, partly=taken.partly, refused=taken.refused)
    return counted


def _chunks(source: TextIO) -> Iterator[list[Row | Refusal]]:
    """Thousands of lines, with a bar on a terminal: in bytes, for nobody has counted the lines."""
    chosen = settings.current()
    lines = csv_rows.read(source, now=datetime.now(UTC), language=chosen.default_language, smtputf8=chosen.smtputf8)
    size = os.fstat(source.fileno()).st_size if source.seekable() else 0
    hidden = not size or not sys.stderr.isatty()
    with click.progressbar(length=size, label="Importing", file=sys.stderr, hidden=hidden) as bar:
        while chunk := list(islice(lines, CHUNK)):
            yield chunk
            if size:
                bar.update(source.buffer.tell() - bar.pos)


@group.command("unblock")
@click.argument("email")
def unblock(email: str) -> None:
    """Let EMAIL sign up again. Its owner said “never mail me again” before, and now asks you to undo that."""
    address = addresses.parse(email, smtputf8=True)
    with db.transaction() as session:
        if not addresses.unblock(session=session, email_key=address.key):
            raise errors.NotFound("This address isn’t blocked.")
    click.echo("The address can sign up again.")
