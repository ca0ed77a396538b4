"""Signing up while the browser calculates: seen by nobody as a rule, told to who has to wait, in nobody's way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import select

from service import db, settings
from service.subscribers import models as subscribers
from tests.system import looks, newsroom
from tests.system.conftest import WIDTHS, Site

pytestmark = pytest.mark.system

EMAIL = "saskia@gemeente.example"
WAIT = "Een ogenblik: uw browser maakt een kleine berekening"


@pytest.fixture
def asked_for(site: Site) -> Site:
    settings.use(site.chosen.model_copy(update={"proof_of_work": True}))
    return site


@pytest.fixture(params=list(WIDTHS))
def scripted(request: pytest.FixtureRequest, chromium: Browser, asked_for: Site) -> Iterator[Page]:
    """A visitor with script."""
    width, height = WIDTHS[request.param]
    context = chromium.new_context(
        viewport={"width": width, "height": height},
        locale="nl-NL",
        base_url=asked_for.url,
        reduced_motion="reduce",
    )
    page = context.new_page()
    asked_for.listen(page)
    yield page
    context.close()


def fill_in(page: Page) -> None:
    page.get_by_label("Innovatie").check()
    page.get_by_label("E-mailadres").fill(EMAIL)


def press(page: Page) -> None:
    page.get_by_role("button", name="Aanmelden").click(no_wait_after=True)


def unproven(site: Site) -> list[bool]:
    """Of each form that came in, whether it had no proof."""
    with site.app.app_context(), db.transaction() as session:
        query = select(subscribers.SignupRequest.unproven).order_by(subscribers.SignupRequest.id)
        return list(session.scalars(query))


def test_who_takes_a_moment_to_fill_in_the_form_sees_nothing_of_it(scripted: Page, asked_for: Site) -> None:
    scripted.goto("/")
    field = scripted.locator("[name=altcha]")
    expect(field).to_have_value("")
    fill_in(scripted)
    expect(field).to_have_value(re.compile("^eyJ"), timeout=10_000)
    looks.well_made(scripted, "proof")
    press(scripted)
    expect(scripted.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")

    scripted.go_back()
    scripted.get_by_label("Democratie").check()
    press(scripted)
    expect(scripted.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    assert unproven(asked_for) == [False, False]
    assert scripted.context.cookies() == []
    assert asked_for.complaints == []


def test_who_has_to_wait_is_told_and_the_form_goes_by_itself(scripted: Page, asked_for: Site) -> None:
    held: list[Route] = []
    scripted.route("**/proof", lambda route: held.append(route))
    scripted.goto("/")
    fill_in(scripted)
    press(scripted)
    press(scripted)  # who presses twice sends once
    told = scripted.get_by_role("status")
    expect(told).to_contain_text(WAIT)
    expect(told).to_be_visible()
    looks.well_made(scripted, "waiting")
    (only,) = held
    only.continue_()
    expect(scripted.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    assert unproven(asked_for) == [False]


@pytest.mark.parametrize("trouble", ["**/proof", "**/static/proof.js*"])
def test_whatever_goes_wrong_nobody_is_kept_out(scripted: Page, asked_for: Site, trouble: str) -> None:
    scripted.route(trouble, lambda route: route.abort())
    scripted.goto("/")
    fill_in(scripted)
    press(scripted)
    expect(scripted.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    assert unproven(asked_for) == [True]


def test_without_script_the_form_works(page: Page, asked_for: Site) -> None:
    page.goto("/")
    fill_in(page)
    press(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    assert unproven(asked_for) == [True]


def test_the_alarm_on_the_desk_is_well_made(scripted: Page, asked_for: Site) -> None:
    settings.use(asked_for.chosen.model_copy(update={"signups_per_hour": 1}))
    newsroom.sign_in(scripted, asked_for)
    expect(scripted.get_by_text("zit aan zijn plafond")).to_have_count(0)
    scripted.goto("/")
    fill_in(scripted)
    press(scripted)
    expect(scripted.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    asked_for.confirm_link(EMAIL)
    scripted.goto("/newsroom/")
    expect(scripted.get_by_role("heading", name="zit aan zijn plafond")).to_be_visible()
    looks.well_made(scripted, "ceiling, light")
    scripted.emulate_media(color_scheme="dark")
    looks.well_made(scripted, "ceiling, dark")
