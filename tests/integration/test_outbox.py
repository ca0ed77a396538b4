from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import flask
import pytest
from sqlalchemy.orm import Session

from service import db, outbox
from service.subscribers.models import Confirmation
from tests import make
from tests.make import NOW

MINUTE = timedelta(minutes=1)


def waiting(session: Session, due_at: datetime | None = NOW) -> int:
    reader = make.reader(session, f"reader{due_at}@gemeente.example")
    row = Confirmation(subscriber_id=reader.id, language="nl", theme_ids=[], requested_at=NOW, due_at=due_at)
    session.add(row)
    session.flush()
    return row.id


def claim(session: Session, row_id: int, now: datetime = NOW) -> bool:
    return outbox.claim(session=session, model=Confirmation, row_id=row_id, now=now)


def due(session: Session, now: datetime = NOW) -> list[int]:
    return outbox.due(session=session, model=Confirmation, now=now)


def fresh(session: Session, row_id: int) -> Confirmation:
    row = session.get(Confirmation, row_id, populate_existing=True)
    assert row is not None
    return row


def test_one_of_two_workers_gets_the_row(app: flask.Flask) -> None:
    with db.transaction() as session:
        row_id = waiting(session)
    won = []
    for _ in range(2):
        with db.transaction() as session:
            won.append(claim(session, row_id))
    assert won == [True, False]


def test_a_row_of_a_worker_that_died_is_offered_again(session: Session) -> None:
    row_id = waiting(session)
    assert claim(session, row_id)
    assert due(session) == []
    later = NOW + outbox.LEASE
    assert due(session, later) == [row_id]
    assert claim(session, row_id, later)
    assert fresh(session, row_id).attempts == 2


def test_a_mail_that_kills_its_worker_each_time_is_given_up(session: Session) -> None:
    row_id = waiting(session)
    taken = [claim(session, row_id, NOW + number * outbox.LEASE) for number in range(outbox.MOST_CLAIMS + 1)]
    assert taken == [True] * outbox.MOST_CLAIMS + [False]
    assert fresh(session, row_id).failed_at is not None
    assert due(session, NOW + timedelta(days=2)) == []


def test_what_is_not_due_or_gone_is_not_claimed(session: Session) -> None:
    row_id = waiting(session, NOW + MINUTE)
    assert not claim(session, row_id)
    assert not claim(session, 999_999)
    assert claim(session, row_id, NOW + MINUTE)


def test_the_longest_due_comes_first_and_not_all_at_once(session: Session) -> None:
    second, first = waiting(session, NOW), waiting(session, NOW - MINUTE)
    waiting(session, None)
    assert due(session) == [first, second]
    assert outbox.due(session=session, model=Confirmation, now=NOW, limit=1) == [first]


@pytest.mark.parametrize(("settle", "column"), [(outbox.sent, "mailed_at"), (outbox.refused, "failed_at")])
def test_what_has_gone_out_or_was_refused_is_never_offered_again(
    session: Session, settle: Callable[..., None], column: str
) -> None:
    row_id = waiting(session)
    claim(session, row_id)
    settle(session=session, model=Confirmation, row_id=row_id, now=NOW)
    assert getattr(fresh(session, row_id), column) == NOW
    assert due(session, NOW + timedelta(days=99)) == []


def test_a_mail_is_tried_with_growing_pauses_and_then_given_up(session: Session) -> None:
    row_id, now, pauses = waiting(session), NOW, []
    while (row := fresh(session, row_id)).due_at is not None:
        now = max(now, row.due_at)
        assert claim(session, row_id, now)
        outbox.later(session=session, model=Confirmation, row_id=row_id, now=now, charged=True)
        session.flush()
        due_at = fresh(session, row_id).due_at
        if due_at is not None:
            pauses.append(due_at - now)
    assert tuple(pauses) == outbox.PAUSES
    assert fresh(session, row_id).failed_at == now
    assert fresh(session, row_id).attempts == len(outbox.PAUSES) + 1


def test_a_broken_line_is_charged_to_nobody_until_the_mail_is_too_old(session: Session) -> None:
    row_id, now, pauses = waiting(session), NOW, []
    while (due_at := fresh(session, row_id).due_at) is not None:
        pauses.append(due_at - now)
        now = due_at
        assert claim(session, row_id, now)
        outbox.later(session=session, model=Confirmation, row_id=row_id, now=now, charged=False)
        session.flush()
        assert fresh(session, row_id).attempts <= (1 if fresh(session, row_id).failed_at else 0)
    assert pauses[1:] == sorted(pauses[1:])
    assert (pauses[1], pauses[-1]) == (outbox.SHORTEST, outbox.LONGEST)
    assert now == fresh(session, row_id).failed_at
    assert outbox.GIVE_UP <= now - NOW < outbox.GIVE_UP + outbox.LONGEST


def test_a_row_that_was_erased_meanwhile_is_no_trouble(session: Session) -> None:
    outbox.later(session=session, model=Confirmation, row_id=999_999, now=NOW, charged=True)
    outbox.sent(session=session, model=Confirmation, row_id=999_999, now=NOW)
    assert due(session) == []
