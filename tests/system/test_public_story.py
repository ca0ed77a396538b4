"""A reader's road in a real browser without script: sign up with an error first, confirm, change, leave."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from service import links
from tests.system.conftest import Site

pytestmark = pytest.mark.system

EMAIL = "saskia@gemeente.example"


def test_a_readers_road(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_label("E-mailadres").fill("saskia@gemeente")
    page.get_by_role("button", name="Aanmelden").click()

    expect(page).to_have_title(re.compile("^Fout: "))
    summary = page.locator(".error-summary")
    expect(summary.get_by_role("link")).to_have_count(2)
    expect(page.get_by_label("E-mailadres")).to_have_value("saskia@gemeente")
    expect(summary).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first link in the summary leads to the first box
    expect(page).to_have_url(re.compile("#themes$"))
    page.keyboard.press("Space")
    expect(page.get_by_label("Democratie")).to_be_checked()

    page.get_by_label("Innovatie").check()
    page.get_by_label("E-mailadres").fill(EMAIL)
    page.get_by_role("button", name="Aanmelden").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    expect(page.get_by_text(EMAIL)).to_be_visible()

    page.goto(site.confirm_link(EMAIL))
    page.get_by_role("button", name="Ja, stuur mij de nieuwsbrief").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("U bent aangemeld")
    expect(page.get_by_role("listitem")).to_have_text(["Democratie", "Innovatie"])

    page.get_by_role("link", name="Uw thema’s bekijken of wijzigen").click()
    page.get_by_label("Democratie").uncheck()
    page.get_by_label("Organisatie").check()
    page.get_by_role("button", name="Opslaan").click()
    expect(page.get_by_role("status")).to_have_text("Uw keuze is opgeslagen.")
    expect(page.get_by_label("Democratie")).not_to_be_checked()
    expect(page.get_by_label("Organisatie")).to_be_checked()

    reader = site.reader_id(EMAIL)
    page.goto(links.unsubscribe(reader, site.theme_id("innovatie")))
    page.get_by_role("button", name="Stop Innovatie").click()
    expect(page.get_by_role("status")).to_contain_text("over Innovatie niet meer")
    expect(page.get_by_role("listitem")).to_have_text(["Organisatie"])
    page.get_by_role("button", name="Stop alle nieuwsbrieven").click()
    expect(page.get_by_role("status")).to_have_text("U krijgt geen nieuwsbrief meer van ons.")

    assert page.context.cookies() == []
    assert not site.complaints


def test_focus_lands_on_the_error_summary(site: Site, chromium: Browser) -> None:
    """requirements 6.1; the page itself has no script, only this test looks with it."""
    page = chromium.new_page(base_url=site.url, locale="nl-NL")
    page.goto("/")
    page.get_by_role("button", name="Aanmelden").click()
    expect(page.locator("#errors")).to_be_focused()  # the browser sets the focus when it first draws the page
    page.close()


def test_language_can_be_switched_and_stays_through_an_error(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Newsletter: choose your themes")
    page.get_by_role("button", name="Sign up").click()
    expect(page).to_have_title(re.compile("^Error: "))
    assert page.context.cookies() == []


def test_form_on_another_site_works(page: Page, site: Site) -> None:
    """A bare form, without our hidden fields, on a page that isn't ours."""
    page.set_content(
        f"""<form method="post" action="{site.url}/subscribe"><input name="email" value="{EMAIL}">
        <input type="checkbox" name="themes" value="innovatie" checked><button>Go</button></form>"""
    )
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    assert site.confirm_link(EMAIL)


def test_trap_is_out_of_sight_and_out_of_reach(page: Page, site: Site) -> None:
    page.goto("/")
    expect(page.locator("#website")).not_to_be_in_viewport()
    expect(page.get_by_role("textbox")).to_have_count(1)
    page.get_by_label("Organisatie").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_label("E-mailadres")).to_be_focused()
