"""The database: naming, time, and the only commit in the house."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import flask
import sqlalchemy
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Engine,
    MetaData,
    String,
    cast,
    event,
    func,
    literal,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session
from sqlalchemy.types import TypeDecorator

from service import folder, settings

MIGRATIONS = str(Path(__file__).parent / "migrations")
NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# What a machine that vanished in the middle of a transaction holds is free again within half a minute, rather than
# after the two hours of TCP's own; one that went to sleep with it, after a minute.
# The same for a database that vanished, seen from here.
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
SESSION = " ".join(
    f"-c {setting}"
    for setting in (
        "tcp_keepalives_idle=10",
        "tcp_keepalives_interval=5",
        "tcp_keepalives_count=3",
        "tcp_user_timeout=25000",
        "idle_in_transaction_session_timeout=60000",
    )
)
# PostgreSQL's undefined_table and undefined_column; SQLite has words only.
NO_TABLES = ("42P01", "42703")
NO_TABLES_IN_WORDS = ("no such table", "no such column")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out. SQLite forgets time zones, so a naive value is refused on the way in."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without time zone can't be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _values(kind: type[Enum]) -> list[str]:
    return [str(member.value) for member in kind]


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own spelling
        datetime: UtcDateTime(),
        # Values as text: a new state needs no ALTER TYPE.
        Enum: sqlalchemy.Enum(Enum, native_enum=False, length=20, values_callable=_values),
    }


db = SQLAlchemy(metadata=Base.metadata)


def connect(app: flask.Flask) -> None:
    chosen = settings.current()
    app.config["SQLALCHEMY_DATABASE_URI"] = chosen.database_url
    if chosen.database_url.startswith("sqlite"):
        folder.make(chosen.data_dir)
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"hide_parameters": True, "connect_args": {"timeout": 15}}
    else:
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
            "hide_parameters": True,  # a failed statement is logged: no addresses in it
            "pool_pre_ping": True,
            "connect_args": {"connect_timeout": 5, "application_name": "vinkje", "options": SESSION, **KEEPALIVE},
        }
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            listen_sqlite(db.engine)


def listen_sqlite(engine: Engine) -> None:
    """Take over BEGIN: pysqlite's own loses updates, a deferred one meets "database is locked"."""

    @event.listens_for(engine, "connect")
    def _connect(connection: DBAPIConnection, record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # secure_delete: what is deleted is overwritten too, so that an erased address isn't left in the file.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@dataclass(frozen=True)
class Migration:
    """Where a database stands, and where this code wants it. `found` is None before the first migration."""

    found: str | None
    wanted: str | None

    @property
    def current(self) -> bool:
        return self.found == self.wanted


def migration(connection: Connection) -> Migration:
    return Migration(MigrationContext.configure(connection).get_current_revision(), _head())


@lru_cache(maxsize=1)
def _head() -> str | None:
    return ScriptDirectory(MIGRATIONS).get_current_head()


def lacks_tables(fault: DBAPIError) -> bool:
    """The database is older than this code: nothing that a statement can mend."""
    return getattr(fault.orig, "sqlstate", None) in NO_TABLES or str(fault.orig).startswith(NO_TABLES_IN_WORDS)


@contextmanager
def transaction() -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on any exception.

    What the session read before is dropped first, so that the work sees the newest rows. Not to be nested.
    """
    session: Session = db.session()
    info: dict[Any, Any] = session.info
    if info.get("writing"):
        raise RuntimeError("db.transaction() is open already")
    session.rollback()
    info["writing"] = True
    try:
        session.connection(execution_options={"writes": True})
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        info["writing"] = False


def scrub(session: Session) -> None:
    """Once this session commits, what it deleted leaves SQLite's write-ahead log too, unless somebody reads it then."""
    session.info["scrub"] = True


@event.listens_for(Session, "after_commit")
def _scrub(session: Session) -> None:
    if session.in_nested_transaction() or not session.info.pop("scrub", False):
        return
    engine = session.get_bind().engine
    if engine.dialect.name == "sqlite":
        with contextlib.closing(engine.raw_connection()) as connection:
            # One that waits for readers would hold up all who write.
            cursor = connection.cursor()
            waits = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
            cursor.execute("PRAGMA busy_timeout=100")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute(f"PRAGMA busy_timeout={waits}")


def reading() -> Session:
    """For doors that only look."""
    return db.session()


def insert(session: Session, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, which both databases have and plain SQLAlchemy doesn't spell."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(model)
    return postgresql.insert(model)


def array(values: Iterable[object]) -> str:
    """A PostgreSQL array as text: for a thousand values many times faster than a parameter for each."""
    return "{" + ",".join("NULL" if one is None else f'"{_escaped(str(one))}"' for one in values) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"') if "\\" in value or '"' in value else value


def one_of(session: Session, column: InstrumentedAttribute[str], values: Collection[str]) -> ColumnElement[bool]:
    """`column IN (…)`, for many values."""
    if session.get_bind().dialect.name == "sqlite":
        return column.in_(values)
    return column == func.any(cast(literal(array(values), String()), postgresql.ARRAY(String())))
