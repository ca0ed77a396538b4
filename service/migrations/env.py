"""Alembic's door: `vinkje db upgrade`. Offline SQL is not offered: the service migrates itself."""

from __future__ import annotations

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import DateTime

from service.db import Base, UtcDateTime, db


def _plain_types(kind: str, item: object, autogen: AutogenContext) -> str | bool:
    """Migrations must not import today's code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _same_time(context: object, inspected: object, metadata: object, found: object, wanted: object) -> bool | None:
    return False if isinstance(wanted, UtcDateTime) and isinstance(found, DateTime) else None


with db.engine.connect().execution_options(writes=True) as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        render_item=_plain_types,
        compare_type=_same_time,
    )
    with context.begin_transaction():
        context.run_migrations()
