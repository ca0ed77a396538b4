"""Confirmations and notices on their way: each goes out once, whatever the relay says first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import flask
import pytest
import time_machine
from sqlalchemy import select

from service import db, jobs, outbox, settings
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role
from service.subscribers import signup
from service.subscribers.models import Confirmation
from tests import fakes, make
from tests.make import NOW
from worker import tasks

Bells = list[tuple[str, tuple[int, ...]]]
SASKIA = "saskia@gemeente.example"

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture
def clock(app: flask.Flask, relay: fakes.Relay) -> Iterator[time_machine.Traveller]:
    settings.use(settings.current().model_copy(update={"smtp_url": relay.url}))
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller
    tasks.hang_up()


def asked() -> int:
    with db.transaction() as session:
        make.theme(session)
        signup.sign_up(
            session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="198.51.100.0/24"
        )
    with db.transaction() as session:
        return session.scalars(select(Confirmation.id)).one()


def row(confirmation_id: int) -> Confirmation:
    with db.transaction() as session:
        found = session.get_one(Confirmation, confirmation_id)
        session.expunge(found)
    return found


def test_a_confirmation_goes_out_once(clock: time_machine.Traveller, relay: fakes.Relay) -> None:
    confirmation_id = asked()
    tasks.send_confirmation(confirmation_id)
    tasks.send_confirmation(confirmation_id)
    clock.shift(timedelta(hours=1))
    tasks.tick()
    tasks.send_confirmation(confirmation_id)

    assert [mail.recipient for mail in relay.caught] == [SASKIA]
    assert (row(confirmation_id).mailed_at, row(confirmation_id).due_at) == (NOW, None)


def test_a_busy_relay_gets_it_again_later(clock: time_machine.Traveller, relay: fakes.Relay, doorbells: Bells) -> None:
    confirmation_id = asked()
    relay.answer_rcpt = lambda to: "451 4.7.1 greylisted"
    tasks.send_confirmation(confirmation_id)
    assert row(confirmation_id).attempts == 1
    relay.answer_rcpt = lambda to: None
    tasks.send_confirmation(confirmation_id)
    assert relay.caught == []
    doorbells.clear()

    clock.shift(timedelta(minutes=1))
    tasks.tick()
    assert doorbells == [(jobs.SEND_CONFIRMATION, (confirmation_id,))]
    tasks.send_confirmation(confirmation_id)
    assert [mail.recipient for mail in relay.caught] == [SASKIA]


def test_a_relay_that_is_down_costs_no_try(clock: time_machine.Traveller, relay: fakes.Relay) -> None:
    confirmation_id = asked()
    with fakes.Relay() as gone:
        pass
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"smtp_url": gone.url}))
    tasks.send_confirmation(confirmation_id)
    assert row(confirmation_id).attempts == 0

    settings.use(chosen)
    clock.shift(timedelta(minutes=1))
    tasks.send_confirmation(confirmation_id)
    assert len(relay.caught) == 1


def test_an_address_that_is_dead_is_not_tried_again(clock: time_machine.Traveller, relay: fakes.Relay) -> None:
    confirmation_id = asked()
    relay.answer_rcpt = lambda to: "550 5.1.1 unknown"
    tasks.send_confirmation(confirmation_id)

    assert (row(confirmation_id).due_at, row(confirmation_id).failed_at) == (None, NOW)


def test_a_relay_that_refuses_us_loses_no_sign_up(clock: time_machine.Traveller, relay: fakes.Relay) -> None:
    confirmation_id = asked()
    relay.answer_mail = lambda who: "550 5.7.1 not you"
    tasks.send_confirmation(confirmation_id)
    relay.answer_mail = lambda who: None

    clock.shift(timedelta(minutes=1))
    tasks.send_confirmation(confirmation_id)
    assert len(relay.caught) == 1


def test_a_worker_that_died_before_it_sent_leaves_a_lease_that_ends(
    clock: time_machine.Traveller, relay: fakes.Relay
) -> None:
    confirmation_id = asked()
    with db.transaction() as session:  # all that a worker did before it died
        assert outbox.claim(session=session, model=Confirmation, row_id=confirmation_id, now=NOW)
    tasks.send_confirmation(confirmation_id)
    assert relay.caught == []

    clock.shift(timedelta(minutes=6))
    tasks.send_confirmation(confirmation_id)
    assert len(relay.caught) == 1


def test_a_notice_that_is_out_of_date_is_not_mailed(clock: time_machine.Traveller, relay: fakes.Relay) -> None:
    with db.transaction() as session:
        editor = Editor(email="els@vinkje.example", name="Els", role=Role.CHIEF, state=EditorState.LEFT, created_at=NOW)
        session.add(editor)
        session.flush()
        notice = Notice(kind=NoticeKind.READY, editor_id=editor.id, language="nl", created_at=NOW, due_at=NOW)
        session.add(notice)
        session.flush()
        notice_id = notice.id
    tasks.send_notice(notice_id)

    assert relay.caught == []
    with db.transaction() as session:
        assert session.get_one(Notice, notice_id).due_at is None
