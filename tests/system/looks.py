"""What must hold for every page we show, however it came up."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_axe = Axe()


def well_made(page: Page, name: str) -> None:
    """No axe violation, and nothing to scroll sideways for (WCAG 1.4.10). Needs a page with script allowed."""
    found = _axe.run(page)
    faults = [f"{fault['id']}: {fault['nodes'][0]['html'][:200]}" for fault in found.response["violations"]]
    assert not faults, f"{name}: {faults}"
    # Off-screen by design: the trap and the skip link, which lie to the left and make nothing wider.
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], f"{name} is {width[0]} px wide on a screen of {width[1]}"
