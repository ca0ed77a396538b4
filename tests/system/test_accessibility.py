"""axe on every page, at phone and desktop width, in light and dark; what it asks of whom, and whether it stands still.
A new page joins by a line in `PAGES`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page

from service import links
from tests.system import looks, mailbox, newsroom, own, progress, stats, uncertain
from tests.system.conftest import WIDTHS, Site

pytestmark = pytest.mark.system

EMAIL = "een.vrij.lang.adres@afdeling.gemeente-met-een-lange-naam.example"


def _plain(path: str) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        page.goto(path)

    return go


def _signup_errors(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_label("E-mailadres").fill("geen adres")
    page.get_by_role("button", name="Aanmelden").click()
    assert page.title().startswith("Fout: ")


def _signed_up(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_label("Innovatie").check()
    page.get_by_label("E-mailadres").fill(EMAIL)
    page.get_by_role("button", name="Aanmelden").click()


def _confirm(page: Page, site: Site) -> None:
    _signed_up(page, site)
    page.goto(site.confirm_link(EMAIL))


def _confirmed(page: Page, site: Site) -> None:
    _confirm(page, site)
    page.get_by_role("button").click()


def _expired(page: Page, site: Site) -> None:
    page.goto(links.confirm(10_000_000))


def _preferences(page: Page, site: Site) -> None:
    page.goto(links.preferences(site.reader(EMAIL, "innovatie", "democratie")))


def _preferences_saved(page: Page, site: Site) -> None:
    _preferences(page, site)
    page.get_by_role("button", name="Opslaan").click()


def _unsubscribe(page: Page, site: Site) -> None:
    page.goto(links.unsubscribe(site.reader(EMAIL, "innovatie", "democratie"), site.theme_id("innovatie")))


def _unsubscribed(page: Page, site: Site) -> None:
    _unsubscribe(page, site)
    page.get_by_role("button", name="Stop Innovatie").click()


def _gone(page: Page, site: Site) -> None:
    page.goto(links.preferences(10_000_000))


PAGES: dict[str, Callable[[Page, Site], None]] = {
    "sign-up": _plain("/"),
    "sign-up in English": _plain("/?lang=en"),
    "sign-up with errors": _signup_errors,
    "look in your mailbox": _signed_up,
    "confirm": _confirm,
    "confirmed": _confirmed,
    "expired": _expired,
    "preferences": _preferences,
    "preferences saved": _preferences_saved,
    "unsubscribe": _unsubscribe,
    "unsubscribed": _unsubscribed,
    "gone": _gone,
    "privacy": _plain("/privacy"),
    "not found": _plain("/nowhere"),
    "broken link": _plain("/confirm/x"),
    **newsroom.PAGES,
    **mailbox.PAGES,
    **own.PAGES,
    **progress.PAGES,
    **uncertain.PAGES,
    **stats.PAGES,
}


@pytest.mark.parametrize("width", list(WIDTHS))
@pytest.mark.parametrize("name", list(PAGES))
def test_page_is_well_made(name: str, width: str, site: Site, chromium: Browser) -> None:
    across, down = WIDTHS[width]
    context = chromium.new_context(
        viewport={"width": across, "height": down},
        locale="nl-NL",
        base_url=site.url,
        color_scheme="light",
        reduced_motion="reduce",  # axe would measure the colours of a button on its way from light to dark
    )
    watch = looks.Watch(context)
    page = context.new_page()
    site.listen(page)
    PAGES[name](page, site)
    looks.stands_still(page, name)
    looks.well_made(page, f"{name}, light")
    page.emulate_media(color_scheme="dark")
    looks.well_made(page, f"{name}, dark")
    looks.well_ordered(page, name)
    watch.stays_home(site.url, mailbox.home(site))
    context.close()
    assert not site.complaints


def test_what_is_badly_made_is_seen(site: Site, chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 320, "height": 640}, base_url=site.url)
    page.goto("/")
    page.evaluate("document.querySelector('label[for=email]').remove()")
    with pytest.raises(AssertionError, match="label"):
        looks.well_made(page, "no label")
    page.goto("/")
    page.evaluate("document.querySelector('h1').style.width = '400px'")
    with pytest.raises(AssertionError, match="px wide"):
        looks.well_made(page, "too wide")
    page.goto("/")
    page.evaluate("document.querySelector('.foot a').style.padding = '0'")
    with pytest.raises(AssertionError, match="/privacy"):
        looks.well_made(page, "too small")
    page.evaluate("document.querySelector('h1').outerHTML += '<h4>Te diep</h4>'")
    with pytest.raises(AssertionError, match=r"\[1, 4"):
        looks.well_ordered(page, "skips a level")
    page.close()


def test_what_moves_or_asks_elsewhere_is_seen(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(viewport={"width": 320, "height": 640}, base_url=site.url, bypass_csp=True)
    context.route("https://evil.example/*", lambda route: route.abort())
    watch = looks.Watch(context)
    page = context.new_page()
    page.goto("/")
    looks.stands_still(page, "sign-up")
    page.evaluate("document.querySelector('main').prepend(Object.assign(new Image(), {height: 200}))")
    page.wait_for_function("window.shifts.length")
    with pytest.raises(AssertionError, match="moved"):
        looks.stands_still(page, "moved")
    watch.stays_home(site.url)
    page.evaluate("new Image().src = 'https://evil.example/pixel'")
    page.wait_for_function("performance.getEntriesByName('https://evil.example/pixel').length")
    with pytest.raises(AssertionError, match="evil"):
        watch.stays_home(site.url)
    context.close()
