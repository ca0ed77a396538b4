"""What a reader does about their own data, in a real browser without script, by keyboard alone on a small screen."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from service import links
from service.subscribers.models import LetterKind
from tests.system import own
from tests.system.conftest import Site

pytestmark = pytest.mark.system

OLD, NEW = "saskia@gemeente.example", "saskia@provincie.example"


@pytest.fixture
def small(chromium: Browser, site: Site) -> Iterator[Page]:
    """320 px wide, without script."""
    context = chromium.new_context(
        viewport={"width": 320, "height": 640}, locale="nl-NL", base_url=site.url, java_script_enabled=False
    )
    page = context.new_page()
    site.listen(page)
    yield page
    context.close()


def press(page: Page, target: Locator, key: str = "Enter") -> None:
    """Get there by Tab, see that the browser shows where we are, and press."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if target.evaluate("each => each === document.activeElement"):
            break
    expect(target).to_be_focused()
    expect(target).to_be_in_viewport()
    page.keyboard.press(key)


def test_a_reader_looks_moves_and_goes(small: Page, site: Site) -> None:
    page, reader = small, site.reader(OLD, "innovatie")
    page.goto(links.preferences(reader))
    expect(page.get_by_text("s•••@gemeente.example")).to_be_visible()
    press(page, page.get_by_label("Democratie"), "Space")
    press(page, page.get_by_role("button", name="Opslaan"))
    expect(page.get_by_role("status")).to_have_text("Uw keuze is opgeslagen.")
    press(page, page.get_by_role("button", name="Mail mij een link naar mijn gegevens"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")

    page.goto(own.letter(site, LetterKind.DATA))
    expect(page.get_by_text(OLD).first).to_be_visible()
    expect(page.get_by_role("heading", level=3)).to_have_text(["Democratie", "Innovatie"])
    press(page, page.get_by_role("link", name="Wijzig uw adres"))
    press(page, page.get_by_role("button", name="Mail het nieuwe adres"))
    expect(page).to_have_title(re.compile("^Fout: "))
    expect(page.locator(".error-summary")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Nieuw e-mailadres")).to_be_focused()
    page.keyboard.type(NEW)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in de mailbox van uw nieuwe adres")
    expect(page.get_by_text(NEW)).to_be_visible()

    page.goto(own.letter(site, LetterKind.ADDRESS_NEW))
    press(page, page.get_by_role("button", name="Ja, dit is mijn adres"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Uw adres is gewijzigd")
    press(page, page.get_by_role("link", name="Uw thema’s bekijken of wijzigen"))
    expect(page.get_by_text("s•••@provincie.example")).to_be_visible()
    press(page, page.get_by_role("button", name="Mail mij een link naar mijn gegevens"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")

    page.goto(own.letter(site, LetterKind.DATA))
    press(page, page.get_by_role("link", name="Vergeet mij"))
    press(page, page.get_by_role("button", name="Wis alles over mij"))
    expect(page.get_by_role("heading", level=1)).to_have_text("We zijn u vergeten")
    page.goto(links.preferences(reader))
    expect(page.get_by_role("heading", level=1)).to_have_text("We hebben geen gegevens meer van u")
    assert page.context.cookies() == []
    assert not site.complaints


def test_a_stranger_whose_address_was_filled_in_says_never_again(small: Page, site: Site) -> None:
    page, reader = small, site.reader(OLD, "innovatie")
    page.goto(links.preferences(reader))
    page.get_by_role("button", name="Mail mij een link naar mijn gegevens").click()
    page.goto(own.letter(site, LetterKind.DATA) + "/address")
    page.get_by_label("Nieuw e-mailadres").fill(NEW)
    page.get_by_role("button", name="Mail het nieuwe adres").click()
    button = own.letter(site, LetterKind.ADDRESS_NEW)
    page.goto(own.block_letter(site))
    expect(page.get_by_text("s•••@provincie.example")).to_be_visible()
    press(page, page.get_by_role("button", name="Mail mij nooit meer"))
    expect(page.get_by_role("heading", level=1)).to_have_text("We mailen u niet meer")
    page.goto(button)
    expect(page.get_by_role("heading", level=1)).to_have_text("Deze link is verlopen")
    page.goto(links.preferences(reader))
    expect(page.get_by_text("s•••@gemeente.example")).to_be_visible()
    assert not site.complaints


def test_the_copy_of_the_data_is_a_file(small: Page, site: Site) -> None:
    site.reader(OLD, "innovatie")
    page = small
    page.goto(links.preferences(site.reader_id(OLD)))
    page.get_by_role("button", name="Mail mij een link").click()
    page.goto(own.letter(site, LetterKind.DATA))
    with page.expect_download() as download:
        press(page, page.get_by_role("link", name="Download het als bestand"))
    assert download.value.suggested_filename == "mijn-gegevens.json"
    assert OLD in download.value.path().read_text(encoding="utf-8")


def test_somebody_else_says_never_again(small: Page, site: Site) -> None:
    page = small
    page.goto("/")
    page.get_by_label("Innovatie").check()
    page.get_by_label("E-mailadres").fill(OLD)
    page.get_by_role("button", name="Aanmelden").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    page.goto(own.block(site, OLD))
    asked = site.confirm_link(OLD)
    press(page, page.get_by_role("button", name="Mail mij nooit meer"))
    expect(page.get_by_role("heading", level=1)).to_have_text("We mailen u niet meer")
    page.goto(asked)
    expect(page.get_by_role("heading", level=1)).to_have_text("Deze link is verlopen")
