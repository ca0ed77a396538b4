"""A chief settles mails in doubt in Chromium, without script, at 320 px and at desktop width."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from service import db
from service.delivery.models import Delivery, Outcome
from service.issues.models import Issue, IssueState
from tests.system import uncertain
from tests.system.conftest import Site

pytestmark = pytest.mark.system


def test_a_chief_ticks_some_and_has_the_rest_sent_again(page: Page, site: Site) -> None:
    uncertain.opened(page, site)
    page.get_by_label("p1@gemeente.example").check()
    page.get_by_label("Gewiste lezer").check()
    page.get_by_role("button", name="Is aangekomen").click()
    expect(page.get_by_role("status")).to_have_text("2 mails tellen als aangenomen.")
    expect(page.get_by_role("checkbox")).to_have_count(2)

    page.get_by_role("link", name="Alles opnieuw versturen…").click()
    page.get_by_role("link", name="Nee, terug").click()
    page.get_by_role("link", name="Alles opnieuw versturen…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Deze 2 mails opnieuw versturen?")
    page.get_by_role("button", name="Ja, opnieuw versturen").click()
    expect(page.get_by_role("status")).to_contain_text("2 mails worden opnieuw verstuurd")
    expect(page.get_by_role("row", name="Na twijfel opnieuw verstuurd")).to_contain_text("2")
    with site.app.app_context():
        assert db.reading().scalars(select(Issue.state)).one() is IssueState.SENDING
        outcomes = db.reading().scalars(select(Delivery.outcome).order_by(Delivery.subscriber_id)).all()
    assert outcomes == [Outcome.DEFERRED, Outcome.ACCEPTED, Outcome.DEFERRED, Outcome.ACCEPTED]
    assert not site.complaints
