"""A backup of the whole database, and putting it back."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from service import db
from service.privacy import numbers


def restored(session: Session, rows: dict[str, list[dict[str, object]]]) -> None:
    """A backup of `rows` is put back over everything."""
    for table in reversed(db.Base.metadata.sorted_tables):
        session.execute(table.delete())
    for table in db.Base.metadata.sorted_tables:
        if rows[table.name]:
            session.execute(table.insert(), rows[table.name])
    for name in numbers.TABLES:
        highest = session.scalar(text(f"SELECT coalesce(max(id), 1) FROM {name}"))  # ours
        if db.db.engine.dialect.name == "sqlite":
            session.execute(text("UPDATE sqlite_sequence SET seq = :n WHERE name = :t"), {"n": highest, "t": name})
        else:
            session.execute(text("SELECT setval(pg_get_serial_sequence(:t, 'id'), :n)"), {"n": highest, "t": name})


def backup() -> dict[str, list[dict[str, object]]]:
    with db.transaction() as session:
        return {
            table.name: [dict(row) for row in session.execute(table.select()).mappings()]
            for table in db.Base.metadata.sorted_tables
        }
