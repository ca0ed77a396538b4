"""An editor looks at statistics in Chromium, without script, at 320 px and at desktop width; and prints them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.system import mailbox, stats
from tests.system.conftest import WIDTHS, Site

pytestmark = pytest.mark.system


def test_an_editor_looks_at_a_theme_and_takes_the_file(page: Page, site: Site) -> None:
    stats.opened("/newsroom/stats", "Statistiek")(page, site)
    expect(page.get_by_role("img", name="Nieuw en weg")).to_be_visible()
    page.get_by_role("link", name="Wat tellen we?").click()
    expect(page.get_by_role("heading", name="Wat we tellen en wat niet")).to_be_in_viewport()
    page.get_by_role("link", name="Innovatie", exact=True).click()
    page.get_by_role("link", name="26 weken").click()
    table = page.get_by_role("table", name="Wie er kwam en ging, per week")
    expect(table.get_by_role("row")).to_have_count(2 + 26 + 1)
    expect(table.get_by_text("minder dan 5").first).to_be_attached()
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Download alle cijfers").click()
    assert downloaded.value.suggested_filename.startswith("innovatie-20")
    assert not site.complaints


def test_bars_are_seen_whatever_the_colours(page: Page, site: Site) -> None:
    """Told apart by where they stand; and drawn in each scheme, also where the system chooses the colours."""
    stats.opened("/newsroom/stats/innovatie", "Innovatie")(page, site)
    up, axis, down = (page.locator(f".chart .{name}").first for name in ("bar--up", "chart__axis", "bar--down"))
    boxes = [found.bounding_box() for found in (up, axis, down)]
    assert all(box is not None and box["width"] > 3 for box in boxes)
    tops = [box["y"] for box in boxes if box]
    assert tops == sorted(tops)
    fills = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        fills |= {found.evaluate("bar => getComputedStyle(bar).fill") for found in (up, down)}
    assert len(fills) == 4
    page.emulate_media(forced_colors="active")
    forced = [found.evaluate("bar => getComputedStyle(bar).fill") for found in (up, down)]
    assert "none" not in forced
    assert forced[0] != forced[1]


@pytest.mark.parametrize("name", ["statistics", "statistics of a theme", "statistics of a small theme", "mailbox"])
def test_no_number_hides_beside_the_screen(page: Page, site: Site, name: str) -> None:
    """Where three columns don't fit, each row is a block, and each cell says what it is of."""
    go = stats.PAGES.get(name) or mailbox.PAGES[name]
    go(page, site)
    narrow = page.evaluate("innerWidth") == WIDTHS["phone"][0]
    for frame in page.locator(".table-frame").all():
        assert frame.evaluate("frame => frame.scrollWidth <= frame.clientWidth")
        cell = frame.locator("tbody td:not([data-nothing])").last
        expect(cell).to_be_visible()
        said = cell.evaluate("cell => getComputedStyle(cell, '::before').content")
        label = str(cell.get_attribute("data-label"))
        assert said.startswith(f'"{label}') if narrow else said == "none"
        for role in ("columnheader", "rowheader", "cell"):
            expect(frame.get_by_role(role).first).to_be_attached()


def test_on_paper_the_tables_are_whole(page: Page, site: Site) -> None:
    stats.opened("/newsroom/stats/innovatie", "Innovatie")(page, site)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 1040, "height": 720})  # A4, lying, within its margins
    expect(page.get_by_role("navigation", name="Redactie")).to_be_hidden()
    for frame in page.locator(".table-frame").all():
        assert frame.evaluate("frame => frame.scrollWidth <= frame.clientWidth")
