from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, themes
from tests import make


def test_a_moment_keeps_its_time_zone_on_both_databases(session: Session) -> None:
    theme = make.theme(session)
    theme.retired_at = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    session.flush()
    session.expire_all()
    found = session.scalars(select(themes.Theme)).one().retired_at
    assert found == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert found is not None
    assert found.utcoffset() == timedelta(0)


def test_a_naive_moment_is_refused(session: Session) -> None:
    make.theme(session).retired_at = datetime(2026, 3, 29)  # noqa: DTZ001  # the mistake under test
    with pytest.raises(Exception, match="without time zone"):
        session.flush()


def test_a_unit_of_work_is_not_nested(session: Session) -> None:
    with pytest.raises(RuntimeError, match="open already"), db.transaction():
        pass
