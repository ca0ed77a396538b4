"""A chief's week in Chromium, without script, at 320 px and at desktop width."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from service import db
from service.issues.models import Issue, IssueState
from service.newsroom.models import Item, Role
from tests.system import newsroom
from tests.system.conftest import Site

pytestmark = pytest.mark.system


def _write(page: Page, title: str) -> None:
    page.get_by_label("Titel").fill(title)
    page.get_by_label("Tekst").fill("De proef kost **40.000 euro**.")
    page.get_by_label("Thema").select_option("innovatie")
    page.get_by_role("button", name="Opslaan en publiceren").click()


def test_a_chief_writes_plans_reads_and_approves(page: Page, site: Site) -> None:
    site.reader("saskia@gemeente.example", "innovatie")
    newsroom.sign_in(page, site, Role.CHIEF)
    page.get_by_role("link", name="Bericht schrijven").click()
    page.get_by_role("button", name="Opslaan en publiceren").click()
    expect(page.get_by_role("link", name="Vul een titel in.")).to_be_visible()
    _write(page, "Gent stopt met de proef")
    expect(page.get_by_role("status")).to_have_text("Het bericht is opgeslagen en gepubliceerd.")
    page.goto("/newsroom/items/new")
    _write(page, "Utrecht begint een proef")

    page.get_by_role("link", name="Nummers").click()
    page.get_by_label("Thema").select_option("innovatie")
    page.get_by_label("Week").select_option(index=2)
    page.get_by_role("button", name="Plannen").click()
    page.get_by_role("button", name="Nu samenstellen").click()
    page.get_by_role("button", name="“Utrecht begint een proef” omhoog").click()
    items = page.locator("#items .entry__title")
    expect(items).to_have_text(["Utrecht begint een proef", "Gent stopt met de proef"])

    mail = page.frame_locator("iframe")
    expect(mail.get_by_role("heading", name="Utrecht begint een proef")).to_be_visible()
    page.get_by_role("link", name="English, tekst").click()
    expect(mail.locator("body")).to_contain_text("Utrecht begint een proef")

    page.get_by_label("Hij mag naar 1 lezer.").check()
    page.get_by_role("button", name="Goedkeuren").click()
    expect(page.get_by_role("status")).to_have_text("Het nummer is goedgekeurd.")
    with site.app.app_context():
        assert db.reading().scalars(select(Issue.state)).one() is IssueState.APPROVED
        assert all(item.frozen_at for item in db.reading().scalars(select(Item)).all())
    page.get_by_role("button", name="Uitloggen").click()
    expect(page.get_by_role("heading", name="Inloggen bij de redactie")).to_be_visible()
    assert not site.complaints


@pytest.mark.parametrize("name", ["assembled issue", "approved issue", "sending issue", "issues"])
def test_on_paper_stand_words_and_figures_alone(page: Page, site: Site, name: str) -> None:
    newsroom.PAGES[name](page, site)
    expect(page.get_by_role("button").first).to_be_visible()
    page.emulate_media(media="print")
    for pressed in page.locator("button, .button, input, select").all():
        expect(pressed).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
