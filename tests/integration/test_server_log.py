"""What PostgreSQL writes in its own log, which no erasure reaches: two who come at once make it refuse nothing."""

from __future__ import annotations

from collections.abc import Callable

import flask
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors
from service.newsroom import editors
from service.newsroom.models import Editor, Role
from service.subscribers import address_change, signup
from service.subscribers.models import Confirmation, Letter, Subscriber, Subscription
from tests import make
from tests.integration.races import Beside
from tests.make import NOW

SASKIA, OLD = "saskia@geheim.example", "saskia@oud.example"

pytestmark = pytest.mark.usefixtures("doorbells")


def sign_up(session: Session) -> None:
    signup.sign_up(session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="10.1.2.0/24")


@pytest.fixture
def press(app: flask.Flask) -> Callable[[Session], object]:
    """Of the button that makes SASKIA the address of who has OLD."""
    with db.transaction() as session:
        reader = make.reader(session, OLD, "innovatie").id
        address_change.ask(session=session, now=NOW, subscriber_id=reader, email=SASKIA)
        letter_id = session.scalars(select(Letter.id)).one()
        signup.spare(session=session, now=NOW, email_key=SASKIA)  # as if it was asked ten minutes ago
    return lambda session: make.pressed(session, letter_id)


def readers() -> list[str]:
    with db.transaction() as session:
        return list(session.scalars(select(Subscriber.email).order_by(Subscriber.id)))


def test_a_form_that_is_sent_twice_names_nobody(app: flask.Flask, server_log: Callable[[], str]) -> None:
    with db.transaction() as session:
        make.theme(session)
    beside = Beside(app, sign_up)
    with db.transaction() as session:
        sign_up(session)
        beside.start()
    assert beside.refusal() is None
    assert readers() == [SASKIA]
    with db.transaction() as session:
        assert session.scalars(select(Confirmation.subscriber_id)).one()
    assert "geheim" not in server_log()


def test_an_address_change_after_a_sign_up_names_nobody(
    app: flask.Flask, press: Callable[[Session], object], server_log: Callable[[], str]
) -> None:
    beside = Beside(app, press)
    with db.transaction() as session:
        session.add(Subscriber(email=SASKIA, email_key=SASKIA, language="nl", created_at=NOW))
        session.flush()
        beside.start()
    assert beside.refusal() is None
    assert readers() == [OLD, SASKIA]  # what is left over of the old one is for the door to erase
    assert "geheim" not in server_log()


def test_a_sign_up_after_an_address_change_names_nobody(
    app: flask.Flask, press: Callable[[Session], object], server_log: Callable[[], str]
) -> None:
    """What held the new address for the change was gone again before the sign-up came."""
    beside = Beside(app, sign_up)
    with db.transaction() as session:
        press(session)
        session.flush()
        beside.start()
    assert beside.refusal() is None
    assert readers() == [SASKIA]
    with db.transaction() as session:
        owner = session.scalars(select(Subscriber.id)).one()
        assert session.scalars(select(Subscription.subscriber_id)).all() == [owner]
    assert "geheim" not in server_log()


def test_two_who_add_the_same_editor_name_nobody(app: flask.Flask, server_log: Callable[[], str]) -> None:
    def add(session: Session) -> None:
        editors.add(
            session=session, now=NOW, email=SASKIA, name="Saskia", role=Role.WRITER, password="zeven gele fietsen"
        )

    beside = Beside(app, add)
    with db.transaction() as session:
        add(session)
        beside.start()
    refused = beside.refusal()
    assert isinstance(refused, errors.Refused)
    assert refused.field == "email"
    with db.transaction() as session:
        assert session.scalars(select(Editor.email)).one() == SASKIA
    assert "geheim" not in server_log()
