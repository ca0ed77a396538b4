"""What must hold for every page we show, however it came up. Needs a page with script allowed."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Request

SMALLEST = 24  # CSS px, WCAG 2.5.8

_axe = Axe()

# Runs before the page's own: how far things moved without a hand (Cumulative Layout Shift).
_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push(entry.value);
}).observe({ type: "layout-shift", buffered: true });
"""

_HEADINGS = "[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((heading) => Number(heading.tagName[1]))"

# What can be pressed and is too small for it. Left out, as WCAG does: a link inside a sentence. And what lies off
# screen until it is wanted: the skip link, the trap, a name for password managers.
_SMALL = """
(smallest) => {
  const pressed = "a[href], button, input:not([type=hidden]), select, textarea, summary, [role=button]";
  const inSentence = (link) => {
    if (link.tagName !== "A" || getComputedStyle(link).display !== "inline") return false;
    const block = link.closest("p, li, dd, dt, td, th, address, legend, label, div, figcaption, span.quiet");
    return block && block.innerText.trim() !== link.innerText.trim();
  };
  const seen = (it) => it.checkVisibility() && !it.closest("[aria-hidden=true], .skip, .visually-hidden, .trap");
  return [...document.querySelectorAll(pressed)]
    .filter((it) => seen(it) && !inSentence(it))
    .filter((it) => Math.min(it.getBoundingClientRect().width, it.getBoundingClientRect().height) < smallest - 0.1)
    .map((it) => `${it.outerHTML.slice(0, 120)} ${JSON.stringify(it.getBoundingClientRect())}`);
}
"""


class Watch:
    """Every request of a browser's context, and every shift of what it shows."""

    def __init__(self, context: BrowserContext) -> None:
        self.requests: list[str] = []
        context.add_init_script(_SHIFTS)
        context.on("request", self._keep)

    def _keep(self, request: Request) -> None:
        self.requests.append(request.url)

    def stays_home(self, *ours: str) -> None:
        """Nothing was asked of another host than `ours`: no pixel, no font, no script (requirements 3.3)."""
        assert self.requests
        away = [url for url in self.requests if not url.startswith((*(f"{home}/" for home in ours), "data:"))]
        assert not away, away


def well_made(page: Page, name: str) -> None:
    """No axe violation, nothing to scroll sideways for (WCAG 1.4.10), nothing too small to press (2.5.8)."""
    found = _axe.run(page)
    faults = [f"{fault['id']}: {fault['nodes'][0]['html'][:200]}" for fault in found.response["violations"]]
    assert not faults, f"{name}: {faults}"
    # Off-screen by design: the trap and the skip link, which lie to the left and make nothing wider.
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], f"{name} is {width[0]} px wide on a screen of {width[1]}"
    small = page.evaluate(_SMALL, SMALLEST)
    assert not small, f"{name}: {small}"


def well_ordered(page: Page, name: str) -> None:
    """One first heading, and none that skips a level (WCAG 1.3.1)."""
    levels = page.evaluate(_HEADINGS)
    assert levels.count(1) == 1, f"{name}: {levels}"
    # An error summary comes before the first heading, with a second one of its own.
    jumps = [(one, next_) for one, next_ in zip([1, *levels], levels, strict=False) if next_ > one + 1]
    assert not jumps, f"{name}: {levels}"


def stands_still(page: Page, name: str) -> None:
    """Nothing moved while the page came up. Needs a Watch on its context."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shifts = page.evaluate("window.shifts")
    assert shifts == [], f"{name}: {shifts}"
