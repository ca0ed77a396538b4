"""A CSV of readers, line by line: what each line says, or why it can't be taken. Nothing is stored here.

Each line stands alone, so that a quote left open or a broken byte spoils one line and no other.
Reasons never repeat what an address could stand in.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from service import errors, i18n, themes
from service.subscribers import addresses

ENCODING = "utf-8-sig"  # with or without BOM
BROKEN_BYTES = "surrogateescape"  # kept in place, so that their line can be told
REQUIRED = ("email", "themes", "consented_at", "consent_source")
COLUMNS = (*REQUIRED, "language")
DELIMITERS = (",", ";", "\t")
LONGEST_LINE = 10_000
LONGEST_SOURCE = 200
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # before that nobody consented to e-mail: a year of two digits


@dataclass(frozen=True)
class Row:
    line: int
    address: addresses.Address
    slugs: tuple[str, ...]
    language: str
    consented_at: datetime
    source: str


@dataclass(frozen=True)
class Refusal:
    line: int
    reason: str


def read(source: TextIO, *, now: datetime, language: str, smtputf8: bool) -> Iterator[Row | Refusal]:
    """Raises Refused when the first line doesn't name the columns. Open `source` with ENCODING and BROKEN_BYTES.

    `language` is for lines that name none.
    """
    delimiter, names = _header(_line(source))
    number = 1
    while text := _line(source):
        number += 1
        if not text.strip(" \t\r\n" + delimiter):
            continue
        try:
            yield _row(number, _fields(text, delimiter, names), now=now, language=language, smtputf8=smtputf8)
        except errors.Refused as refused:
            yield Refusal(number, str(refused))


def _line(source: TextIO) -> str:
    """The next line, cut off just after LONGEST_LINE; a file without line ends must not fill the memory."""
    text = source.readline(LONGEST_LINE + 1)
    rest = text
    while len(rest) > LONGEST_LINE and not rest.endswith("\n"):
        rest = source.readline(LONGEST_LINE + 1)
    return text


def _header(text: str) -> tuple[str, list[str]]:
    if not text.strip():
        raise errors.Refused("file", "The file is empty. Its first line must name the columns.")
    found = max(((delimiter, _names(text, delimiter)) for delimiter in DELIMITERS), key=_known)
    missing = [name for name in REQUIRED if name not in found[1]]
    if missing:
        raise errors.Refused(
            "file", "The first line must name the columns; missing: %(columns)s.", columns=", ".join(missing)
        )
    if any(found[1].count(name) > 1 for name in COLUMNS):
        raise errors.Refused("file", "The first line names a column twice.")
    return found


def _names(text: str, delimiter: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([text.rstrip("\n")], delimiter=delimiter), [])]


def _known(found: tuple[str, list[str]]) -> int:
    return len(set(found[1]) & set(COLUMNS))


def _fields(text: str, delimiter: str, names: list[str]) -> dict[str, str]:
    if len(text) > LONGEST_LINE:
        raise errors.Refused("line", "The line is too long.")
    if not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text):
        raise errors.Refused("line", "The line is not UTF-8.")
    try:
        cells = next(csv.reader([text.rstrip("\n")], delimiter=delimiter, strict=True))
    except csv.Error:
        raise errors.Refused("line", "The quotes in the line don’t match.") from None
    if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
        raise errors.Refused(
            "line", "The line has %(found)s fields instead of %(wanted)s.", found=len(cells), wanted=len(names)
        )
    return {name: cell.strip() for name, cell in zip(names, cells, strict=False)}


def _row(line: int, fields: dict[str, str], *, now: datetime, language: str, smtputf8: bool) -> Row:
    address = addresses.parse(fields["email"], smtputf8=smtputf8)
    slugs = tuple(dict.fromkeys(slug for part in fields["themes"].split(";") if (slug := part.strip())))
    if not slugs:
        raise errors.Refused("themes", "The line names no theme.")
    if any(not themes.SLUG.fullmatch(slug) for slug in slugs):
        raise errors.Refused("themes", "The themes are slugs with “;” between.")
    chosen = fields.get("language", "").lower() or language
    if chosen not in i18n.LANGUAGES:
        raise errors.Refused("language", "The language is nl or en.")
    source = fields["consent_source"]
    if not source or len(source) > LONGEST_SOURCE or not source.isprintable():
        raise errors.Refused("consent_source", "consent_source must say in 200 characters where consent was given.")
    return Row(line, address, slugs, chosen, _moment(fields["consented_at"], now), source)


def _moment(text: str, now: datetime) -> datetime:
    """A date means its first moment; without offset it's Dutch time."""
    try:
        typed = datetime.fromisoformat(text)
        moment = (typed if typed.tzinfo else typed.replace(tzinfo=i18n.HERE)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise errors.Refused("consented_at", "consented_at must be a date, as in 2026-03-31.") from None
    if not EARLIEST <= moment <= now:
        raise errors.Refused("consented_at", "consented_at is in the future or before 1990.")
    return moment
