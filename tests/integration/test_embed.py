"""The form to paste elsewhere: plain, honest, and taken when it comes from a site that isn't ours."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import flask
import pytest
from sqlalchemy import func, select

from service import db, settings, themes
from service.newsroom.models import Role
from service.subscribers import models as subscribers
from service.web import forms
from tests import make
from tests.integration import fetched
from tests.integration.conftest import Visitor
from tests.integration.newsroom import Desk

HOSTILE = 'Zorg <b>"&amp;</b></textarea><script>'
FROM_ELSEWHERE = {
    "Origin": "https://www.gemeente.example",
    "Referer": "https://www.gemeente.example/nieuws",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Accept-Language": "de",
}


class Pasted(HTMLParser):
    """The form as another site's browser meets it."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(code)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def fields(self) -> dict[str, list[str]]:
        """What is sent when somebody fills in nothing: no box is ticked."""
        sent: dict[str, list[str]] = {}
        for has in self.all("input"):
            if has.get("type") != "checkbox" or "checked" in has:
                sent.setdefault(has["name"], []).append(has.get("value", ""))
        return sent


@pytest.fixture
def chief(app: flask.Flask) -> Desk:
    with db.transaction() as session:
        make.theme(session, "innovatie")
        make.theme(session, "democratie")
        themes.add(session=session, slug="zorg", name_nl=HOSTILE, name_en="Care")
        make.theme(session, "oud")
        themes.retire(session=session, slug="oud", now=make.NOW)
    return Desk(app, Role.CHIEF)


def code(desk: Desk, query: str = "") -> str:
    found = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", desk.get(f"/newsroom/embed{query}").text, re.DOTALL)
    assert found
    return unescape(found[1])


def pasted(desk: Desk, query: str = "") -> Pasted:
    return Pasted(code(desk, query))


def test_it_is_plain_html_that_loads_nothing(chief: Desk) -> None:
    form = pasted(chief)
    assert {tag for tag, _ in form.tags} == {
        "form", "input", "p", "label", "fieldset", "legend", "br", "a", "button",
    }  # fmt: skip
    assert not [has for _, has in form.tags if {"class", "style"} & set(has) or any(name[:2] == "on" for name in has)]
    assert fetched.of_html(code(chief)).all == []
    assert form.all("form")[0]["action"] == "http://localhost:8000/subscribe"
    assert form.all("form")[0]["method"] == "post"
    assert form.all("a")[0]["href"] == "http://localhost:8000/privacy"


def test_it_is_readable_without_eyes_and_ticks_nothing(chief: Desk) -> None:
    form = pasted(chief)
    boxes = [has for has in form.all("input") if has.get("type") == "checkbox"]
    assert sorted(has["value"] for has in boxes) == ["democratie", "innovatie", "zorg"]
    assert not [has for has in boxes if "checked" in has]
    named = {has["for"] for has in form.all("label")}
    shown = {has["id"] for has in form.all("input") if has.get("type") != "hidden"}
    assert shown == named
    ids = [has["id"] for _, has in form.tags if "id" in has]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("vinkje-") for name in ids), "so that they are no other's on the page"
    assert {has["aria-describedby"] for _, has in form.tags if "aria-describedby" in has} <= set(ids)
    assert HOSTILE in form.words


def test_who_asks_gets_another_language_and_fewer_themes(chief: Desk) -> None:
    form = pasted(chief, "?language=en&themes=zorg&themes=oud&themes=nowhere")
    boxes = [has["value"] for has in form.all("input") if has.get("type") == "checkbox"]
    assert boxes == ["zorg"]
    assert {"Care", "What do you want to hear about?", "Sign up"} <= {words.strip() for words in form.words}
    assert form.fields()["language"] == ["en"]
    page = chief.text("/newsroom/embed?language=en&themes=zorg")
    assert "Taal van het formulier" in page, "the editor's own language stays"
    assert re.search(r'value="en"\s+checked', page)
    assert not re.search(r'value="innovatie"\s+checked', page)


def test_a_form_without_themes_is_none(chief: Desk) -> None:
    answer = chief.get("/newsroom/embed?language=nl")
    assert answer.status_code == 422
    assert "<title>Fout: " in answer.text
    assert 'href="#themes">Vink minstens één thema aan.' in answer.text
    assert "<textarea" not in answer.text


def test_without_a_theme_there_is_nothing_to_paste(app: flask.Flask) -> None:
    page = Desk(app, Role.CHIEF).text("/newsroom/embed")
    assert "Er zijn nog geen thema’s om uit te kiezen." in page
    assert "<textarea" not in page


def test_the_preview_is_the_form_without_any_style_and_sends_nothing(chief: Desk) -> None:
    frame = re.search(r'<iframe[^>]* src="([^"]+)"', chief.get("/newsroom/embed?language=en&themes=zorg").text)
    assert frame
    answer = chief.get(unescape(frame[1]))
    assert code(chief, "?language=en&themes=zorg") in answer.text
    assert '<html lang="en"' in answer.text
    assert fetched.of_html(answer.text).all == []
    policy = set(answer.headers["Content-Security-Policy"].split("; "))
    assert {"default-src 'none'", "form-action 'none'", "frame-ancestors 'self'", "sandbox"} <= policy


def test_it_works_from_another_site(chief: Desk, visitor: Visitor) -> None:
    sent = {**pasted(chief).fields(), "themes": ["innovatie", "zorg"], "email": ["saskia@gemeente.example"]}
    answer = visitor.post("/subscribe", data=sent, headers=FROM_ELSEWHERE)
    assert answer.status_code == 200
    assert "Kijk in uw mailbox" in answer.text, "in the form's language, not the browser's"
    assert "Set-Cookie" not in answer.headers
    with db.transaction() as session:
        make.taken(session)
        reader = session.scalars(select(subscribers.Subscriber)).one()
        assert (reader.email, reader.language) == ("saskia@gemeente.example", "nl")
        evidence = session.scalars(select(subscribers.Consent)).all()
        assert {(row.wording, row.theme_id) for row in evidence} == {
            ("elsewhere-1.nl", make.theme(session, slug).id) for slug in ("innovatie", "zorg")
        }
        assert session.scalars(select(subscribers.Confirmation)).one().language == "nl"


def test_its_faults_are_told_on_our_page_and_what_was_typed_stays(chief: Desk, visitor: Visitor) -> None:
    sent = {**pasted(chief, "?language=en&themes=zorg").fields(), "email": ["saskia@gemeente"]}
    answer = visitor.post("/subscribe", data=sent, headers=FROM_ELSEWHERE)
    assert answer.status_code == 422
    assert "<title>Error: " in answer.text
    assert 'value="saskia@gemeente"' in answer.text


def test_who_fills_in_its_trap_signs_nobody_up(chief: Desk, visitor: Visitor) -> None:
    sent = {**pasted(chief).fields(), "themes": ["zorg"], "email": ["bot@a.example"], forms.TRAP: ["http://x"]}
    assert visitor.post("/subscribe", data=sent, headers=FROM_ELSEWHERE).status_code == 200
    assert db.reading().scalar(select(func.count()).select_from(subscribers.SignupRequest)) == 0


def test_the_page_says_what_limits_hold(chief: Desk, visitor: Visitor) -> None:
    settings.use(settings.current().model_copy(update={"signups_per_network_hour": 6}))
    assert "2 aanmeldingen per uur vanaf één netwerk, tegen 6 op onze eigen pagina" in chief.text("/newsroom/embed")
    fields = pasted(chief).fields()
    for number in range(4):
        sent = {**fields, "themes": ["zorg"], "email": [f"lezer{number}@a.example"]}
        assert visitor.post("/subscribe", data=sent, headers=FROM_ELSEWHERE).status_code == 200
        with db.transaction() as session:
            make.taken(session)
    assert db.reading().scalar(select(func.count()).select_from(subscribers.Confirmation)) == 2


def test_chiefs_find_it_and_writers_do_not(app: flask.Flask, chief: Desk) -> None:
    assert 'href="/newsroom/embed"' in chief.text("/newsroom/")
    writer = Desk(app, Role.WRITER)
    assert 'href="/newsroom/embed"' not in writer.text("/newsroom/")
    assert writer.get("/newsroom/embed").status_code == 403
