"""A reader goes: what is left says nothing about who they were."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.privacy import erasure, export
from service.subscribers import erasures
from service.subscribers.models import SignupRequest, Subscriber
from tests import make
from tests.make import NOW

SASKIA = "Saskia.de.Vries@gemeente.example"
KEY = SASKIA.lower()

pytestmark = pytest.mark.usefixtures("doorbells")


def test_an_address_goes_also_from_a_form_that_nobody_took_yet(session: Session) -> None:
    reader = make.reader(session, SASKIA, "innovatie")
    session.add(
        SignupRequest(
            email="SASKIA.de.Vries@gemeente.example",
            slugs=["innovatie"],
            language="nl",
            network="10.0.0.0/24",
            elsewhere=False,
            at=NOW,
        )
    )
    session.flush()
    assert export.of(session=session, subscriber_id=reader.id)["address"] == SASKIA
    erasure.erase(session=session, now=NOW, subscriber_id=reader.id)
    session.flush()
    assert session.scalars(select(Subscriber)).all() == []
    assert session.scalars(select(SignupRequest)).all() == []
    assert erasures.known(session=session, email_keys=[KEY]) == {KEY: NOW}
