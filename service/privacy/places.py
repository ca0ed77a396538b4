"""Everywhere an address could stand: each table that the database has, each key in Redis, each file in DATA_DIR.

Nothing is named here, so that what is added later is searched too. Not searched: what isn't ours to read, such as
backups, the relay's queue and whatever keeps our logs (addresses are never logged: logs.py).
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import redis
import sqlalchemy
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    LargeBinary,
    String,
    TableClause,
    Text,
    and_,
    cast,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from service import errors, settings
from service.privacy.spellings import Spelled

# Types that hold no text. All others are read as text, also those that nobody has thought of yet.
NO_TEXT = (
    sqlalchemy.Integer,
    sqlalchemy.Numeric,
    sqlalchemy.Float,
    sqlalchemy.Boolean,
    sqlalchemy.Date,
    sqlalchemy.DateTime,
    sqlalchemy.Time,
    sqlalchemy.Interval,
)
BLOCK = 8 * 1024 * 1024
OVERLAP = 4096  # more than any spelling of an address takes
HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
BESIDE = ("", "-wal", "-shm", "-journal")  # what SQLite adds to its file's name


def in_tables(*, session: Session, spelled: Spelled) -> Counter[str]:
    """Rows by "table.column". The database itself says what tables it has, not our models."""
    found: Counter[str] = Counter()
    for table in _tables(session):
        texts = [each if isinstance(each.type, LargeBinary) else cast(each, Text) for each in table.columns]
        # A first look by the database, which may take in too much; the second is exact.
        query = select(*texts).where(or_(*(_may_hold(each, spelled) for each in table.columns)))
        for row in session.execute(query.execution_options(yield_per=500)):
            for column, value in zip(table.columns, row, strict=True):
                found[f"{table.name}.{column.name}"] += value is not None and spelled.inside(_bytes(value))
    return +found


def marked(*, session: Session, hashes: set[str]) -> Counter[str]:
    """Rows by "table.column" that hold one of these keyed hashes."""
    found: Counter[str] = Counter()
    for table in _tables(session):
        columns = [column for column in table.columns if isinstance(column.type, String)]
        if columns:
            counts = (func.count().filter(column.in_(hashes)) for column in columns)
            row = session.execute(select(*counts).select_from(table)).one()
            found.update({f"{table.name}.{column.name}": count for column, count in zip(columns, row, strict=True)})
    return +found


def in_redis(*, spelled: Spelled) -> Counter[str]:
    """Keys and values, whatever their type. Raises Conflict when Redis can't be asked."""
    url = settings.current().redis_url
    found: Counter[str] = Counter()
    if not url:
        return found
    try:
        with redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5, retry=None) as client:
            for key in client.scan_iter(count=1000):
                said = b"\n".join(_value(client, key))
                found[f"redis {key.decode(errors='replace')}"] += spelled.inside(key) or spelled.inside(said)
    except redis.RedisError as fault:
        raise errors.Conflict("Redis can’t be searched: %(why)s.", why=type(fault).__name__) from None
    return +found


def in_files(*, spelled: Spelled, skip: Collection[Path] = ()) -> Counter[str]:
    """Files by their path in DATA_DIR; their names too. Raises Conflict when one can't be read."""
    folder = settings.current().data_dir
    found: Counter[str] = Counter()
    for path in sorted(set(folder.rglob("*")) - set(skip)):
        name = path.relative_to(folder).as_posix()
        try:
            stands = spelled.inside(name.encode()) or (path.is_file() and any(map(spelled.inside, _blocks(path))))
        except FileNotFoundError:  # a mail that made room for a newer one
            continue
        except OSError as fault:
            raise errors.Conflict("%(file)s can’t be searched: %(why)s.", file=name, why=str(fault.strerror)) from None
        found[f"file {name}"] += stands
    return +found


def marked_files(*, hashes: set[str], skip: Collection[Path] = ()) -> Counter[str]:
    """Files by their path in DATA_DIR that hold one of these keyed hashes, such as the ledger's copy."""
    folder, wanted = settings.current().data_dir, {hashed.encode() for hashed in hashes}
    found: Counter[str] = Counter()
    for path in sorted(set(folder.rglob("*")) - set(skip)):
        with contextlib.suppress(OSError):  # `in_files` said so
            stands = path.is_file() and any(wanted & set(HASH.findall(block)) for block in _blocks(path))
            found[f"file {path.relative_to(folder).as_posix()}"] += stands
    return +found


def open_files(session: Session) -> list[Path]:
    """SQLite's own in DATA_DIR. Their rows are searched one by one, and the bytes of a row that goes are overwritten.
    To open them beside a connection of this process would undo its locks.
    """
    url = session.get_bind().engine.url
    if url.get_backend_name() != "sqlite" or not url.database:
        return []
    folder, beside = settings.current().data_dir, [Path(url.database + ending).resolve() for ending in BESIDE]
    return [path for path in sorted(folder.rglob("*")) if path.resolve() in beside]


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        rest = b""
        while block := file.read(BLOCK):
            yield rest + block
            rest = block[-OVERLAP:]


def _tables(session: Session) -> Iterator[TableClause]:
    """With those of their columns that may hold a text."""
    for (_, name), found in sorted(sqlalchemy.inspect(session.connection()).get_multi_columns().items()):
        columns = [sqlalchemy.column(each["name"], each["type"]) for each in found]
        if texts := [column for column in columns if not isinstance(column.type, NO_TEXT)]:
            yield sqlalchemy.table(name, *texts)


def _may_hold(column: ColumnClause[Any], spelled: Spelled) -> ColumnElement[bool]:
    if isinstance(column.type, LargeBinary):
        return sqlalchemy.true()
    text: ColumnElement[str] = cast(column, Text)
    for broken in ("\r", "=\n", "\n"):  # a line of a mail may end within an address
        text = func.replace(text, broken, "")
    plain = and_(*(text.icontains(word, autoescape=True) for word in spelled.words))
    return or_(plain, *(text.contains(part.decode(), autoescape=True) for part in spelled.in_base64))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _value(client: Any, key: bytes) -> Iterable[bytes]:
    kind = client.type(key)
    if kind not in KINDS:
        raise errors.Conflict("Redis has a key of a kind we can’t search: %(kind)s.", kind=kind.decode())
    return KINDS[kind](client, key)


def _of_stream(client: Any, key: bytes) -> Iterator[bytes]:
    for _, fields in client.xrange(key):
        yield from _of_hash(fields)


def _of_hash(fields: dict[bytes, bytes]) -> Iterable[bytes]:
    return [*fields, *fields.values()]


# What stands under a key of each kind: each has a command of its own.
KINDS: dict[bytes, Callable[[Any, bytes], Iterable[bytes]]] = {
    b"string": lambda client, key: [client.get(key) or b""],
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"hash": lambda client, key: _of_hash(client.hgetall(key)),
    b"stream": _of_stream,
    b"none": lambda client, key: [],  # gone meanwhile
}
