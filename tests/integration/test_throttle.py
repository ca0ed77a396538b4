from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import throttle
from tests.make import NOW

HOUR = timedelta(hours=1)


def test_tries_are_counted_per_kind_and_who_within_a_span(session: Session) -> None:
    for minutes in (0, 30, 90):
        throttle.note(session=session, kind="mail", who="saskia", now=NOW - timedelta(minutes=minutes))
    throttle.note(session=session, kind="mail", who="ahmed", now=NOW)
    throttle.note(session=session, kind="sign_in", who="saskia", now=NOW)
    assert throttle.count(session=session, kind="mail", who="saskia", since=NOW - HOUR) == 2
    assert throttle.count(session=session, kind="mail", who="nobody", since=NOW - HOUR) == 0
    assert throttle.count_all(session=session, kind="mail", since=NOW - HOUR) == 3


def test_who_tried_is_not_to_be_read(session: Session) -> None:
    throttle.note(session=session, kind="mail", who="saskia@gemeente.example", now=NOW)
    throttle.note(session=session, kind="sign_in", who="saskia@gemeente.example", now=NOW)
    session.flush()
    kept = session.scalars(select(throttle.Attempt.who)).all()
    assert len(set(kept)) == 2
    assert not any("saskia" in who for who in kept)


def test_tries_can_be_forgotten_and_vanish_by_themselves(session: Session) -> None:
    for days in (0, 29, 31):
        throttle.note(session=session, kind="mail", who="saskia", now=NOW - timedelta(days=days))
    throttle.note(session=session, kind="mail", who="ahmed", now=NOW)
    always = NOW - timedelta(days=999)
    throttle.expire(session=session, now=NOW)
    assert throttle.count_all(session=session, kind="mail", since=always) == 3
    throttle.forget(session=session, kind="mail", who="saskia")
    assert throttle.count_all(session=session, kind="mail", since=always) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1234:56ff:1::1", "2001:db8:1234:5600::/56"),
        ("", "unknown"),
        ("unix:", "unknown"),
        ("192.0.2.77\r\n", "unknown"),
    ],
)
def test_a_network_is_a_household_not_a_person(address: str, network: str) -> None:
    assert throttle.network(address) == network
