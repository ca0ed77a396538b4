"""Row numbers that stand in mailed links. None is used again, not even after a backup was restored: an old link must
not open what is another's by then.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

# Each has `sqlite_autoincrement`, and a sequence on PostgreSQL.
TABLES = ("subscribers", "confirmations", "letters", "issues", "editors")
# Given out since the ledger was last written, at most.
MARGIN = 10_000


def used(*, session: Session) -> dict[str, int]:
    """The highest number that each table gave out, of those that gave one."""
    return {table: number for table in TABLES if (number := _last(session, table))}


def skip(*, session: Session, used: dict[str, int]) -> list[str]:
    """Have tables go on well after these numbers; gives those that were behind them."""
    behind = [table for table in TABLES if _last(session, table) < used.get(table, 0)]
    for table in behind:
        number = used[table] + MARGIN
        if session.get_bind().dialect.name == "sqlite":
            session.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table})
            row = {"name": table, "seq": number}
            session.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), row)
        else:
            row = {"name": table, "seq": number}
            session.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :seq)"), row)
    return behind


def _last(session: Session, table: str) -> int:
    if session.get_bind().dialect.name == "sqlite":
        query = "SELECT seq FROM sqlite_sequence WHERE name = :name"
    else:
        query = "SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id')::regclass)"
    return session.scalar(text(query), {"name": table}) or 0
