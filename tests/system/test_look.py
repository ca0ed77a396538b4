"""The public face in a browser: by keyboard, on paper, in forced colours, in the dark; our form elsewhere; mails."""

from __future__ import annotations

import colorsys
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from service.newsroom.models import Role
from tests import approved_mails
from tests.system import looks, newsroom
from tests.system.conftest import Site

pytestmark = pytest.mark.system

EMAIL = "saskia@gemeente.example"


def test_a_reader_signs_up_by_keyboard_alone(page: Page, site: Site) -> None:
    """No script, no mouse: each stop of the Tab key is seen, and in the order of the page."""
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Naar de inhoud")).to_be_focused()
    expect(page.get_by_role("link", name="Naar de inhoud")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    for theme in ("Democratie", "Innovatie", "Organisatie"):
        box = page.get_by_label(theme)
        expect(box).to_be_focused()
        expect(box).to_be_in_viewport()
        expect(box).to_have_css("outline-style", "solid")
        if theme == "Innovatie":
            page.keyboard.press("Space")
        page.keyboard.press("Tab")
    expect(page.get_by_label("E-mailadres")).to_be_focused()
    expect(page.get_by_label("E-mailadres")).to_have_css("outline-width", "3px")
    page.keyboard.type(EMAIL)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Aanmelden")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")
    assert site.confirm_link(EMAIL)


def test_a_whole_line_can_be_pressed_and_its_box_is_ticked(page: Page) -> None:
    page.goto("/")
    line = page.locator(".choice").first
    around = line.bounding_box()
    assert around
    assert around["height"] >= 44
    line.click(position={"x": around["width"] - 6, "y": around["height"] - 6})
    expect(page.get_by_role("checkbox").first).to_be_checked()
    button = page.get_by_role("button").bounding_box()
    assert button
    assert button["height"] >= 44


def test_on_paper_stand_the_words_without_the_navigation(page: Page, site: Site) -> None:
    site.app.config["MAILBOX_DIR"] = None
    for path in ("/", "/privacy", "/newsroom/login"):
        page.goto(path)
        expect(page.get_by_role("navigation").first).to_be_visible()
        page.emulate_media(media="print", color_scheme="dark")
        expect(page.get_by_role("navigation")).to_have_count(0)
        expect(page.locator(".skip")).to_be_hidden()
        expect(page.locator(".button:visible")).to_have_count(0)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("body")).to_have_css("color", "rgb(0, 0, 0)")
        expect(page.locator(".foot")).to_have_css("color", "rgb(81, 91, 87)")  # by night too: paper is light
        page.emulate_media(media="screen", color_scheme="light")


def test_where_the_system_picks_the_colours_nothing_is_told_by_colour_alone(page: Page) -> None:
    page.emulate_media(forced_colors="active")
    page.goto("/")
    expect(page.get_by_role("button")).to_have_css("border-top-style", "solid")
    page.get_by_role("button").click()
    expect(page.locator(".error-summary")).to_have_css("border-left-width", "5px")
    expect(page.locator(".field--error").first).to_have_css("border-left-width", "5px")
    box = page.get_by_label("Innovatie")
    box.check()
    expect(page.locator(".choice", has=box)).to_have_css("outline-style", "solid")


def test_who_wants_no_motion_sees_none(page: Page) -> None:
    page.goto("/")
    button = page.get_by_role("button")
    page.emulate_media(reduced_motion="no-preference")
    assert button.evaluate("(it) => getComputedStyle(it).transitionDuration").startswith("0.12s")
    page.emulate_media(reduced_motion="reduce")
    assert button.evaluate("(it) => getComputedStyle(it).transitionDuration") == "0s"


def test_the_mark_and_the_ticks_are_seen_by_day_and_by_night(page: Page) -> None:
    page.goto("/")
    for dark, paper in ((False, "rgb(251, 249, 245)"), (True, "rgb(22, 27, 26)")):
        page.emulate_media(color_scheme="dark" if dark else "light")
        expect(page.locator("body")).to_have_css("background-color", paper)
        expect(page.locator(".mark__body")).to_have_css("fill", "rgb(251, 246, 236)")
        expect(page.locator(".mark__ground")).to_have_css("fill", "rgb(29, 91, 70)")
        expect(page.locator(".promises li")).to_have_count(3)


# --- the form elsewhere ---


@contextmanager
def elsewhere(form: str) -> Iterator[str]:
    """Another site that shows a page with `form`, with a policy of its own."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(f"<!doctype html><html lang=nl><title>Gemeente</title><main>{form}</main>".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    # By another name than ours, so that to the browser it is another site and not merely another port.
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_chief_copies_the_form_and_readers_sign_up_elsewhere(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url, locale="nl-NL", viewport={"width": 320, "height": 640})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    watch = looks.Watch(context)
    page = context.new_page()
    site.listen(page)
    newsroom.sign_in(page, site, Role.CHIEF)
    page.get_by_role("link", name="Formulier", exact=True).click()
    page.get_by_label("English").check()
    page.get_by_label("Organisatie").uncheck()
    page.get_by_role("button", name="Formulier maken").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("checkbox")).to_have_count(2)
    expect(frame.get_by_role("button", name="Sign up")).to_be_visible()
    page.get_by_role("button", name="Kopiëren").click()
    expect(page.get_by_role("status")).to_have_text("Gekopieerd.")
    form = page.evaluate("navigator.clipboard.readText()")
    watch.stays_home(site.url)

    with elsewhere(form) as other:
        page.goto(other)
        page.get_by_label("Innovatie").check()
        expect(page.get_by_label("Leave this empty")).to_be_hidden()
        page.get_by_label("E-mail address").fill(EMAIL)
        with page.expect_request(re.compile("/subscribe$")) as sent:
            page.get_by_role("button", name="Sign up").click()
    headers = sent.value.all_headers()
    assert (headers["origin"], headers["sec-fetch-site"]) == (other, "cross-site")
    expect(page.get_by_role("heading", level=1)).to_have_text("Look in your mailbox")
    page.goto(site.confirm_link(EMAIL))
    expect(page.get_by_role("listitem")).to_have_text(["Innovatie"])
    context.close()
    assert not site.complaints


def test_without_script_the_form_can_be_selected(site: Site, page: Page) -> None:
    newsroom.sign_in(page, site, Role.CHIEF)
    page.goto("/newsroom/embed")
    expect(page.get_by_role("button", name="Kopiëren")).to_be_hidden()
    code = page.get_by_label("HTML van het formulier")
    code.focus()
    expect(code).to_be_focused()
    expect(code).to_have_attribute("readonly", "")
    assert "<form action=" in code.input_value()


# --- mails ---

# What of axe's rules says something of a mail, which has no landmarks.
RULES = ("color-contrast", "link-name", "html-has-lang", "heading-order", "list")


def inverted(mail: str) -> str:
    """As an app shows it that knows no dark mode and turns light into dark by itself, keeping each colour's hue."""

    def turned(colour: re.Match[str]) -> str:
        red, green, blue = (int(colour[1][at : at + 2], 16) / 255 for at in (0, 2, 4))
        hue, light, much = colorsys.rgb_to_hls(red, green, blue)
        dark = colorsys.hls_to_rgb(hue, 0.07 + 0.9 * (1 - light), much)
        return "#" + "".join(f"{round(255 * part):02x}" for part in dark)

    knows_dark = re.compile(r"@media \(prefers-color-scheme: dark\) \{.*?\}\s*\}", re.DOTALL)
    return re.sub(r"#([0-9a-fA-F]{6})\b", turned, knows_dark.sub("", mail))


def test_mails_are_read_by_day_by_night_and_inverted_and_ask_nobody(site: Site, chromium: Browser) -> None:
    """requirements 5; at the width of a small phone"""
    approved_mails.use_settings()
    mails = {name: mail.html for name, mail in approved_mails.every().items() if name.endswith(".nl")}
    assert len(mails) > 4
    context = chromium.new_context(viewport={"width": 320, "height": 640})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page, axe = context.new_page(), Axe()
    for name, html in mails.items():
        for way, shown in (("light", html), ("dark", html), ("inverted", inverted(html))):
            page.emulate_media(color_scheme="dark" if way == "dark" else "light")
            page.set_content(shown)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, name
            if name in ("issue.nl", "confirmation.nl"):  # between them they have all that a mail is made of
                faults = axe.run(page, options={"runOnly": RULES}).response["violations"]
                assert not faults, f"{name}, {way}: {faults[0]['nodes'][0]['html'][:200]}"
    assert asked == []
    context.close()
