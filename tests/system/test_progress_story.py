"""A chief who watches a round go out in Chromium: with script the page follows it, without there is a link.

The browser's clock stands still until a test moves it, so each look of the page is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from service import db
from service.delivery import progress as domain
from service.delivery import rounds
from service.delivery.models import Trouble
from service.newsroom.models import Role
from tests.processes import wait_until
from tests.system import newsroom, progress
from tests.system.conftest import WIDTHS, Site

pytestmark = pytest.mark.system
EVERY = 2000  # milliseconds
WHY = "De mailserver antwoordt niet."


class Watcher:
    """The page of a round, and what it asked of the server since it was opened."""

    def __init__(self, page: Page, site: Site, role: Role = Role.CHIEF) -> None:
        self.page, self.site = page, site
        self.issue_id = progress.going_out(site)
        newsroom.sign_in(page, site, role)
        page.clock.install()
        page.goto(f"/newsroom/issues/{self.issue_id}")
        self.asked: list[str] = []
        page.on("request", self._note)
        page.evaluate("window.sameDocument = true")

    def _note(self, request: Request) -> None:
        if request.resource_type == "fetch":
            self.asked.append(request.url.removeprefix(self.site.url))

    def look(self, milliseconds: int = EVERY) -> None:
        """Let time pass, and the page answer to it."""
        self.page.clock.run_for(milliseconds)

    def turns(self, count: int) -> None:
        progress.had_their_turn(self.site, self.issue_id, count)

    def finish(self) -> None:
        self.turns(progress.READERS)
        with self.site.app.app_context(), db.transaction() as session:
            rounds.finish(session=session, now=datetime.now(UTC), issue_id=self.issue_id)

    @property
    def bar(self) -> Locator:
        return self.page.get_by_text("van 1.234 lezers zijn aan de beurt geweest")

    @property
    def voice(self) -> Locator:
        return self.page.locator("[aria-live=polite]")

    def shows(self, count: str) -> None:
        expect(self.bar).to_have_text(f"{count} van 1.234 lezers zijn aan de beurt geweest")


@pytest.fixture(params=list(WIDTHS))
def watcher(request: pytest.FixtureRequest, chromium: Browser, site: Site) -> Iterator[Watcher]:
    across, down = WIDTHS[request.param]
    context = chromium.new_context(
        viewport={"width": across, "height": down}, locale="nl-NL", base_url=site.url, reduced_motion="reduce"
    )
    page = context.new_page()
    site.listen(page)
    yield Watcher(page, site)
    context.close()
    # The browser's clock is stopped by a script, which the frame with the mail doesn't let in.
    assert [said for said in site.complaints if "sandboxed" not in said] == []


def test_the_page_follows_the_round_to_its_end(watcher: Watcher) -> None:
    page = watcher.page
    watcher.shows("250")
    expect(page.get_by_text("8,2 per seconde")).to_be_visible()
    expect(page.get_by_text("Deze cijfers lopen vanzelf mee.")).to_be_visible()
    expect(page.get_by_role("link", name="Cijfers verversen")).to_be_hidden()

    watcher.turns(700)
    watcher.look()
    watcher.shows("700")
    assert page.get_by_role("progressbar").evaluate("bar => bar.value") == 700
    expect(page.get_by_text("ongeveer 66 seconden")).to_be_visible()
    expect(watcher.voice).to_be_empty()  # numbers are not read aloud

    progress.trip(watcher.site, Trouble.DOWN)
    watcher.look()
    expect(page.get_by_role("heading", name="Het versturen wacht op de mailserver")).to_be_visible()
    expect(page.get_by_text("Volgende poging om")).to_be_visible()
    expect(page.get_by_role("button", name="Nu proberen")).to_be_visible()
    expect(page.get_by_role("button", name="Pauzeren")).to_have_count(0)
    expect(watcher.voice).to_have_text(f"Status: gepauzeerd. {WHY}")

    progress.heal(watcher.site)
    watcher.look()
    expect(page.get_by_text(WHY, exact=False).locator("visible=true")).to_have_count(0)
    expect(watcher.voice).to_have_text("Status: wordt verstuurd.")
    page.get_by_role("button", name="Pauzeren").focus()

    watcher.finish()
    watcher.look()
    expect(page.locator(".badge", has_text="verstuurd").first).to_have_text("verstuurd")
    expect(watcher.voice).to_have_text("Status: verstuurd.")
    expect(page.get_by_role("heading", name="Volgende stap")).to_be_focused()  # its button has gone
    expect(page.get_by_role("heading", name="Annuleren")).to_have_count(0)
    expect(page.get_by_text("Klaar op")).to_be_visible()
    assert page.evaluate("window.sameDocument")

    watcher.asked.clear()
    watcher.look(60_000)
    assert watcher.asked == []


def test_a_button_that_came_later_works(watcher: Watcher) -> None:
    page = watcher.page
    progress.trip(watcher.site, Trouble.LOGIN)
    watcher.look()
    page.get_by_role("button", name="Nu proberen").click()
    expect(page.get_by_role("status")).to_have_text("Het versturen gaat verder.")
    expect(page.get_by_role("button", name="Pauzeren")).to_be_visible()


def test_what_is_held_by_the_keyboard_stays_held_while_numbers_change(watcher: Watcher) -> None:
    page = watcher.page
    link = page.get_by_role("link", name="Zeg wat er met de onzekere mails gebeurt")
    link.focus()
    page.get_by_label("Wie de mail heeft, houdt hem.").check()
    link.focus()
    for count in (300, 400):
        watcher.turns(count)
        watcher.look()
        watcher.shows(str(count))
    expect(link).to_be_focused()
    expect(page.get_by_label("Wie de mail heeft, houdt hem.")).to_be_checked()


def test_a_tab_that_nobody_sees_asks_nothing(watcher: Watcher) -> None:
    page = watcher.page

    def hide(hidden: bool) -> None:
        page.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    hide(True)
    watcher.turns(700)
    watcher.look(60_000)
    assert watcher.asked == []
    watcher.shows("250")
    hide(False)
    watcher.shows("700")  # at once


def test_a_newsroom_that_is_away_is_asked_less_and_less(watcher: Watcher) -> None:
    page, lost = watcher.page, watcher.page.get_by_text("De redactie is niet bereikbaar", exact=False)
    expect(lost).to_be_hidden()
    page.context.set_offline(True)

    def is_lost() -> bool:
        watcher.look(EVERY // 4)
        return lost.is_visible()

    wait_until(is_lost, 20)
    assert len(watcher.asked) == 2  # one failure may be chance
    expect(page.get_by_role("link", name="Cijfers verversen")).to_be_visible()
    watcher.asked.clear()
    watcher.look(3 * EVERY)
    assert watcher.asked == []  # it waits for four times as long now
    page.context.set_offline(False)
    watcher.turns(700)
    watcher.look(EVERY)
    watcher.shows("700")
    expect(lost).to_be_hidden()


def test_who_is_signed_out_meanwhile_sees_the_link_again(watcher: Watcher) -> None:
    watcher.page.context.clear_cookies()
    watcher.look()
    expect(watcher.page.get_by_role("link", name="Cijfers verversen")).to_be_visible()
    expect(watcher.page.get_by_text("Deze cijfers lopen vanzelf mee.")).to_be_hidden()
    watcher.shows("250")


def test_books_that_take_long_to_count_are_asked_for_less_often(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = watcher.page
    monkeypatch.setattr(domain, "rest", lambda *, seconds: 30.0)
    path = f"/newsroom/issues/{watcher.issue_id}/progress"
    accepted = page.locator("tr", has_text="Aangenomen door de mailserver").locator("td")
    for count in (300, 400):
        watcher.turns(count)
        watcher.look()
        watcher.shows(str(count))
    assert watcher.asked == [path, f"{path}?books=no"]
    expect(accepted).to_have_text("249")  # the table stays meanwhile


def test_without_script_a_link_renews_the_numbers(page: Page, site: Site) -> None:
    issue_id = progress.going_out(site)
    newsroom.sign_in(page, site, Role.CHIEF)
    page.goto(f"/newsroom/issues/{issue_id}")
    expect(page.get_by_text("Deze cijfers lopen vanzelf mee.")).to_be_hidden()
    progress.had_their_turn(site, issue_id, 700)
    progress.trip(site, Trouble.DOWN)
    page.get_by_role("link", name="Cijfers verversen").click()
    expect(page.get_by_text("700 van 1.234 lezers")).to_be_visible()
    expect(page.get_by_text(WHY)).to_be_visible()
    page.get_by_role("button", name="Nu proberen").click()
    expect(page.get_by_role("status")).to_have_text("Het versturen gaat verder.")


def test_an_admin_sees_the_mail_server_fail_and_slows_it_down(chromium: Browser, site: Site) -> None:
    page = chromium.new_page(locale="nl-NL", base_url=site.url)
    site.listen(page)
    newsroom.sign_in(page, site)
    page.clock.install()
    page.get_by_role("link", name="Mailserver").click()
    expect(page.locator(".badge")).to_have_text("geen storing bekend")
    page.get_by_label("Mails per seconde").fill("2,5")
    progress.trip(site, Trouble.DOWN)
    page.clock.run_for(EVERY)
    expect(page.locator(".badge")).to_have_text("antwoordt niet")
    expect(page.get_by_text("Storing sinds")).to_be_visible()
    expect(page.get_by_label("Mails per seconde")).to_have_value("2,5")  # what is being typed stays
    page.get_by_role("button", name="Grenzen wijzigen").click()
    expect(page.get_by_role("status")).to_have_text(
        "De grenzen zijn gewijzigd. De workers weten het binnen een seconde."
    )
    expect(page.get_by_text("hoogstens 2,5 per seconde")).to_be_visible()
    page.close()
    assert not site.complaints
