"""How much each page and mail weighs, and that none of them has a browser ask anything of another host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import flask
import pytest
from sqlalchemy import select

from service import db, i18n, links, mail, settings
from service.newsroom import editors
from service.newsroom.models import Role
from service.subscribers import signup
from service.subscribers.models import Confirmation, Letter, LetterKind
from tests import approved_mails, make
from tests.integration import fetched
from tests.integration.conftest import Visitor
from tests.integration.newsroom import Desk

SIGN_UP, OPEN_PAGE, NEWSROOM_PAGE, MAIL = 30_000, 40_000, 60_000, 80_000  # bytes, uncompressed, with style and icon
# Not pages: files, figures and the mailbox of embedded mode, whose mails are looked at below.
SENT_ON = {"session.login", "uncertain.ask_all"}  # who is in already, and where nothing is uncertain
NOT_PAGES = ("static", "mailbox.", "api.", "proof.")


@dataclass(frozen=True)
class Seen:
    """A page with what came along with it."""

    endpoint: str
    path: str
    asked: fetched.Fetched
    weight: int


@pytest.fixture
def house(app: flask.Flask) -> dict[str, Any]:
    """A house with something in it, and what stands in the addresses of its pages."""
    now = datetime.now(UTC)
    with db.transaction() as session:
        for slug in ("innovatie", "democratie", "organisatie", "data", "zorg", "klimaat"):
            make.theme(session, slug)
        reader = make.reader(session, "saskia@gemeente.example", "innovatie", "democratie", at=now)
        letters = [
            Letter(subscriber_id=reader.id, kind=kind, language="nl", email=reader.email, asked_at=now, due_at=now)
            for kind in (LetterKind.DATA, LetterKind.ADDRESS_NEW)
        ]
        session.add_all(letters)
        issue = make.approved(session, now=now)
        signup.sign_up(session=session, now=now, email="n@a.example", slugs=["zorg"], language="nl", network="x")
        asked = session.scalars(select(Confirmation.id)).one()
        invited = editors.invite(
            session=session, now=now, email="nieuw@gemeente.example", name="Nico", role=Role.WRITER, language="nl"
        )
        session.flush()
        doors = (
            links.confirm(asked),
            links.block(asked),
            links.preferences(reader.id),
            links.unsubscribe(reader.id, issue.theme_id),
            links.data(letters[0].id),
            links.address(letters[1].id),
            links.invitation(invited.id, invited.password_version),
        )
        return {
            "language": "nl",
            "kind": "html",
            "word": "again",
            "slug": "innovatie",
            "editor_id": invited.id,
            "issue_id": issue.id,
            "item_id": issue.placements[0].item_id,
            **{door.split("/")[-2]: door.split("/")[-1] for door in doors},
        }


@pytest.fixture
def desk(app: flask.Flask, house: object) -> Desk:
    return Desk(app, Role.ADMIN)


def _addresses(app: flask.Flask, house: dict[str, Any]) -> list[tuple[str, str]]:
    """endpoint and address of everything that answers GET: a new page comes in by itself."""
    found = []
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if "GET" in (rule.methods or ()) and not rule.endpoint.startswith(NOT_PAGES):
                values = {name: house.get(name, 1) for name in rule.arguments}
                if "token" in rule.arguments:
                    values["token"] = house[rule.rule.split("/")[1]]
                found.append((rule.endpoint, flask.url_for(rule.endpoint, **values)))
    return found


def _ours(address: str, page: str) -> str:
    """The path on our host of what `page` asks for; a fault when it is another's."""
    base = settings.current().base_url
    full = urlsplit(urljoin(base + page, address))
    assert f"{full.scheme}://{full.netloc}" == base, f"{page} asks for {address}"
    return f"{full.path}?{full.query}"


def _see(desk: Desk, endpoint: str, path: str) -> Seen | None:
    answer = desk.get(path)
    if endpoint in SENT_ON:
        assert answer.status_code == 302
        return None
    assert answer.status_code == 200, f"{path}: {answer.status_code}"  # a page that isn't there weighs little
    if answer.mimetype != "text/html":
        return None
    asked = fetched.of_html(answer.text)
    weight = len(answer.data)
    for address in asked.all:
        file = desk.get(_ours(address, path))
        assert file.status_code == 200, f"{path} asks for {address}"
        if "/static/" in address:  # a frame is a page, and weighed as one
            weight += len(file.data)
        if address in asked.styles:
            for further in fetched.of_css(file.text):
                _ours(further, "/static/x.css")
        if address in asked.scripts:
            assert not re.search(r"""['"`](https?:)?//""", file.text), f"{address} names another host"
    return Seen(endpoint, path, asked, weight)


def test_no_page_asks_anything_of_another_host_and_all_are_light(
    app: flask.Flask, house: dict[str, Any], desk: Desk
) -> None:
    seen = [one for endpoint, path in _addresses(app, house) if (one := _see(desk, endpoint, path))]
    assert {"public.signup", "preferences.show", "confirm.ask", "newsroom.desk", "issues.show"} <= {
        one.endpoint for one in seen
    }
    assert len(seen) > 25
    for one in seen:
        assert one.weight < (NEWSROOM_PAGE if one.path.startswith("/newsroom") else OPEN_PAGE), one
        assert len(one.asked.styles) <= 2, one
        assert len(one.asked.scripts) <= 1, one


@pytest.mark.parametrize("proof", [False, True])
def test_the_sign_up_page_asks_for_one_style_and_one_icon(desk: Desk, proof: bool) -> None:
    settings.use(settings.current().model_copy(update={"proof_of_work": proof}))
    page = _see(desk, "public.signup", "/")
    assert page
    assert page.weight < SIGN_UP
    assert [address.split("?")[0] for address in page.asked.styles] == ["/static/vinkje.css"]
    assert [address.split("?")[0] for address in page.asked.other] == ["/static/mark.svg"]
    assert len(page.asked.scripts) == int(proof)


@pytest.mark.parametrize("lang", list(i18n.LANGUAGES))
def test_a_page_says_its_language_and_its_name(
    app: flask.Flask, house: dict[str, Any], visitor: Visitor, lang: str
) -> None:
    """requirements 6.1: 3.1.1, 2.4.2, and one first heading."""
    for endpoint, path in _addresses(app, house):
        if path.startswith("/newsroom") and path != "/newsroom/login":
            continue  # in the editor's language
        answer = visitor.get(f"{path}?lang={lang}")
        if answer.mimetype == "text/html":
            assert re.match(rf'\s*<!doctype html>\s*<html lang="{lang}" dir="ltr">', answer.text), endpoint
            assert re.search(r"<title>[^<]{3,}</title>", answer.text), endpoint
            assert len(re.findall(r"<h1[ >]", answer.text)) == 1, endpoint


@pytest.fixture(scope="module")
def mails() -> dict[str, mail.Rendered]:
    approved_mails.use_settings()
    return approved_mails.every()


def test_no_mail_asks_anything_of_anybody_and_all_stay_whole_in_gmail(mails: dict[str, mail.Rendered]) -> None:
    """requirements 3.3, 5"""
    folders = {path.name for path in mail.templates().iterdir() if path.is_dir()}
    assert folders <= {name.rpartition(".")[0] for name in mails}
    for name, rendered in mails.items():
        assert fetched.of_html(rendered.html).all == [], name
        assert "<svg" not in rendered.html, name
        assert len(rendered.html.encode()) < MAIL, name


@pytest.mark.parametrize(
    "page",
    [
        '<link rel="stylesheet" href="//evil.example/x.css">',
        '<link rel="preload" as="font" href="https://evil.example/x.woff2">',
        '<link rel="dns-prefetch" href="//evil.example/">',
        '<script src="https://evil.example/x.js"></script>',
        '<img alt="" src="https://evil.example/x.png">',
        '<img alt="" src="/x.png" srcset="/x.png 1x, https://evil.example/x.png 2x">',
        '<picture><source srcset="https://evil.example/x.webp"></picture>',
        '<video poster="https://evil.example/x.png"></video>',
        '<iframe src="https://evil.example/"></iframe>',
        '<input type="image" src="https://evil.example/x.png">',
        '<table background="https://evil.example/x.png"></table>',
        '<svg><image href="https://evil.example/x.png"/></svg>',
        '<svg><use xlink:href="https://evil.example/x.svg#a"/></svg>',
        '<a ping="https://evil.example/" href="/">x</a>',
        '<meta http-equiv="refresh" content="5; url=https://evil.example/">',
        '<p style="background: url(https://evil.example/x.png)">',
        "<style>@import 'https://evil.example/x.css';</style>",
        '<style>/* @import */ @font-face { src: url( "https://evil.example/x" ) }</style>',
        "<style>p { background: image-set('https://evil.example/x.png' 1x) }</style>",
        '<!--[if mso]><v:image src="https://evil.example/x.png"/><![endif]-->',
    ],
)
def test_what_is_asked_of_another_host_is_found(page: str) -> None:
    approved_mails.use_settings()
    found = fetched.of_html(page).all
    with pytest.raises(AssertionError, match=r"evil\.example"):
        [_ours(address, "/") for address in found]


def test_what_waits_for_a_click_is_no_request() -> None:
    page = (
        '<link rel="canonical" href="https://a.example/"><a href="https://a.example/">x</a><form action="//a.example">'
    )
    assert fetched.of_html(page).all == []
