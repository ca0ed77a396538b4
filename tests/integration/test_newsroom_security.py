"""What keeps strangers out of the newsroom, and editors within their role (requirements 6.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import flask
import flask_migrate
import pytest
from sqlalchemy import select, update
from werkzeug.routing import Rule

from service import app as service_app
from service import db, settings
from service.issues.models import Issue
from service.newsroom.models import Editor, EditorSession, Item, Role
from service.web import session as web_session
from tests import make
from tests.conftest import SECRET
from tests.integration.newsroom import PASSWORD, TOKEN, Desk, editor

ROOM = re.compile(r"/newsroom(/|$)")
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def _rules(app: flask.Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if ROOM.match(rule.rule)]


def _addresses(app: flask.Flask, **ids: int) -> Iterator[tuple[str, str, str]]:
    """endpoint, method, address of every page of the newsroom, with likely values filled in."""
    likely: dict[str, Any] = {
        "language": "nl",
        "kind": "html",
        "word": "again",
        "slug": "innovatie",
        "item_id": 1,
        "issue_id": 1,
        "editor_id": 1,
        **ids,
    }
    with app.test_request_context():
        for rule in _rules(app):
            values = {name: likely.get(name, 1) for name in rule.arguments}
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield rule.endpoint, method, flask.url_for(rule.endpoint, **values)


def test_every_page_of_the_newsroom_has_its_role_written_down(app: flask.Flask) -> None:
    endpoints = {rule.endpoint for rule in _rules(app)}
    assert endpoints == set(web_session.NEEDS) | web_session.OPEN


def test_without_a_session_no_page_opens(app: flask.Flask) -> None:
    stranger = Desk(app, None)
    tried = 0
    for endpoint, method, address in _addresses(app):
        if endpoint in web_session.OPEN:
            continue
        answer = stranger.open(method, address)
        if method in ("GET", "HEAD"):
            assert (answer.status_code, str(answer.headers["Location"]).split("?")[0]) == (302, "/newsroom/login")
        else:
            assert answer.status_code == 401, address
        tried += 1
    assert tried > 40


@pytest.mark.parametrize("role", [Role.WRITER, Role.CHIEF])
def test_beyond_the_role_every_page_is_forbidden(app: flask.Flask, role: Role) -> None:
    desk = Desk(app, role)
    beyond = {endpoint for endpoint, needed in web_session.NEEDS.items() if not role.covers(needed)}
    assert beyond
    for endpoint, method, address in _addresses(app):
        if endpoint in beyond:
            answer = desk.open(method, address) if method in ("GET", "HEAD") else desk.post(address)
            assert answer.status_code == 403, address
    menu = desk.text("/newsroom/")
    assert "/newsroom/editors" not in menu
    assert "/newsroom/themes" not in menu


def test_a_page_that_nobody_wrote_down_opens_for_nobody(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Desk(app, Role.ADMIN)
    monkeypatch.delitem(web_session.NEEDS, "newsroom.desk")
    assert admin.get("/newsroom/").status_code == 403


def test_every_form_needs_its_csrf_token(app: flask.Flask) -> None:
    admin = Desk(app, Role.ADMIN)
    for _, method, address in _addresses(app):
        if method == "POST":
            assert admin.open("POST", address, data={"title": "x"}).status_code == 400, address
            assert admin.open("POST", address, data={"csrf_token": "x"}).status_code == 400, address


def test_a_token_of_one_session_is_worth_nothing_in_another(app: flask.Flask) -> None:
    anneke, joris = Desk(app, Role.CHIEF), Desk(app, Role.WRITER)
    token = TOKEN.search(joris.get("/newsroom/account").text)
    assert token is not None
    assert anneke.open("POST", "/newsroom/logout", data={"csrf_token": token[1]}).status_code == 400
    assert anneke.get("/newsroom/").status_code == 200


def test_a_form_from_another_site_is_refused_even_with_a_token(app: flask.Flask) -> None:
    desk = Desk(app, Role.CHIEF)
    token = TOKEN.search(desk.get("/newsroom/account").text)
    assert token is not None
    for site in ("cross-site", "same-site"):
        answer = desk.open("POST", "/newsroom/logout", data={"csrf_token": token[1]}, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    assert desk.get("/newsroom/").status_code == 200


def test_a_form_that_came_too_late_keeps_what_was_typed(app: flask.Flask) -> None:
    with db.transaction() as session:
        make.theme(session)
    desk = Desk(app, Role.WRITER)
    typed = {"title": "Lang getypt", "body": f"Een heel verhaal {EVIL}", "theme": "innovatie", "password": "x"}
    late = desk.open("POST", "/newsroom/items/new", data={**typed, "csrf_token": "old"})
    assert late.status_code == 400
    assert "Wat u typte is niet weg" in late.text
    assert "Een heel verhaal &lt;script&gt;" in late.text
    assert "<script>" not in late.text
    assert 'name="password"' not in late.text
    desk.post("/newsroom/account/sessions")
    signed_out = desk.open("POST", "/newsroom/items/new", data=typed)
    assert signed_out.status_code == 401
    for step in ("Log in op een nieuw tabblad", "verstuur het opnieuw", "U ziet het dan nog een keer."):
        assert step in signed_out.text
    assert desk.sign_in("writer@gemeente.example").status_code == 302
    once_more = desk.open("POST", "/newsroom/items/new", data={**typed, "csrf_token": _token(signed_out.text)})
    assert once_more.status_code == 400
    assert "Een heel verhaal" in once_more.text
    last = desk.open("POST", "/newsroom/items/new", data={**typed, "csrf_token": _token(once_more.text)})
    assert last.status_code == 302
    with db.transaction() as session:
        assert session.scalars(select(Item.title)).one() == "Lang getypt"


def _token(page: str) -> str:
    found = TOKEN.search(page)
    assert found is not None
    return found[1]


def test_signing_in_renews_all_the_browser_brought(app: flask.Flask) -> None:
    """Session fixation: a cookie that an attacker planted must not become a signed-in one."""
    editor(Role.CHIEF)
    desk = Desk(app, None)
    desk.get("/newsroom/login")
    planted = desk.client.get_cookie("vinkje")
    assert planted is not None
    csrf_before = TOKEN.search(desk.get("/newsroom/login").text)
    desk.sign_in("chief@gemeente.example")
    attacker = Desk(app, None)
    attacker.client.set_cookie("vinkje", planted.value)
    assert attacker.get("/newsroom/").status_code == 302
    assert csrf_before is not None
    late = desk.open("POST", "/newsroom/logout", data={"csrf_token": csrf_before[1]})
    assert late.status_code == 400


def test_signing_out_kills_the_session_on_the_server(app: flask.Flask) -> None:
    desk, thief = Desk(app, Role.CHIEF), Desk(app, None)
    cookie = desk.client.get_cookie("vinkje")
    assert cookie is not None
    thief.client.set_cookie("vinkje", cookie.value)
    assert thief.get("/newsroom/").status_code == 200
    desk.post("/newsroom/logout")
    assert thief.get("/newsroom/").status_code == 302
    assert desk.get("/newsroom/").status_code == 302


def test_signing_out_everywhere_reaches_every_browser(app: flask.Flask) -> None:
    here, there = Desk(app, Role.CHIEF), Desk(app, None)
    there.sign_in("chief@gemeente.example")
    here.post("/newsroom/account/sessions")
    assert here.get("/newsroom/").status_code == 302
    assert there.get("/newsroom/").status_code == 302


def test_a_session_that_was_idle_for_a_day_is_over(app: flask.Flask) -> None:
    desk = Desk(app, Role.CHIEF)
    with db.transaction() as session:
        session.execute(update(EditorSession).values(seen_at=datetime.now(UTC) - timedelta(days=1)))
    assert desk.get("/newsroom/").status_code == 302


def _rows() -> dict[str, list[tuple[object, ...]]]:
    """All that the database holds."""
    with db.transaction() as session:
        tables = db.Base.metadata.sorted_tables
        return {table.name: sorted(map(tuple, session.execute(select(table))), key=repr) for table in tables}


def test_looking_at_pages_writes_nothing(app: flask.Flask, doorbells: list[tuple[str, tuple[int, ...]]]) -> None:
    with db.transaction() as session:
        make.approved(session)
    desk = Desk(app, Role.ADMIN)
    with db.transaction() as session:
        ids = {f"{kind.__name__.lower()}_id": session.scalars(select(kind.id)).one() for kind in (Item, Issue, Editor)}
        session.execute(update(EditorSession).values(seen_at=datetime.now(UTC) - timedelta(minutes=10)))
        doorbells.clear()
    before, seen = _rows(), 0
    for _, method, address in _addresses(app, **ids):
        if method in ("GET", "HEAD"):
            seen += desk.open(method, address).status_code == 200
    assert seen >= 26
    assert _rows() == before
    assert doorbells == []


def test_a_form_that_is_sent_keeps_the_session_alive(app: flask.Flask) -> None:
    desk = Desk(app, Role.WRITER)
    earlier = datetime.now(UTC) - timedelta(hours=11)
    with db.transaction() as session:
        session.execute(update(EditorSession).values(seen_at=earlier))
    desk.open("POST", "/newsroom/account/language", data={"speak": "nl"})  # without its CSRF token
    with db.transaction() as session:
        assert session.scalars(select(EditorSession.seen_at)).one() == earlier
    desk.post("/newsroom/account/language", {"speak": "nl"})
    with db.transaction() as session:
        assert session.scalars(select(EditorSession.seen_at)).one() - earlier > timedelta(hours=10)


def test_the_sixth_wrong_password_has_to_wait(app: flask.Flask) -> None:
    editor(Role.CHIEF)
    desk = Desk(app, None)
    for _ in range(5):
        wrong = desk.sign_in("chief@gemeente.example", "niet het wachtwoord")
        assert wrong.status_code == 422
        assert "horen niet bij elkaar" in wrong.text
        assert "niet het wachtwoord" not in wrong.text
    waiting = desk.sign_in("chief@gemeente.example")
    assert waiting.status_code == 429
    assert waiting.headers["Retry-After"] == "900"
    assert "Te vaak geprobeerd" in waiting.text


def test_an_address_without_editor_answers_like_one_with(app: flask.Flask) -> None:
    editor(Role.CHIEF)
    desk = Desk(app, None)
    answers = [
        re.sub(r'value="[^"]*"', "", desk.sign_in(email, "niet het wachtwoord").text)
        for email in ("chief@gemeente.example", "niemand@gemeente.example", "a\x00b", "")
    ]
    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    ("wanted", "leads"),
    [
        ("/newsroom/items/7", "/newsroom/items/7"),
        ("https://evil.example/", "/newsroom/"),
        ("//evil.example/newsroom", "/newsroom/"),
        ("/newsroom/../evil", "/newsroom/"),
        ("/newsroom\\@evil.example", "/newsroom/"),
        ("/newsroom/items\r\nX: y", "/newsroom/"),
    ],
)
def test_after_signing_in_nobody_is_sent_elsewhere(app: flask.Flask, wanted: str, leads: str) -> None:
    editor(Role.CHIEF)
    desk = Desk(app, None)
    assert desk.sign_in("chief@gemeente.example", next=wanted).headers["Location"] == leads


def _dangers(html: str) -> list[str]:
    """Tags and attributes that would run something, as a parser sees them."""
    found: list[str] = []

    class Look(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("script", "img", "object", "embed"):
                found.append(tag)
            found.extend(name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")[:20])

    Look().feed(html)
    return found


def test_script_in_an_item_stays_text_everywhere(app: flask.Flask) -> None:
    with db.transaction() as session:
        make.theme(session)
    desk = Desk(app, Role.CHIEF)
    body = f"{EVIL} {{{{ 7*7 }}}} {{% raw %}} [x](javascript:alert(3)) <a href='x' onclick='y'>z</a>"
    form = {"theme": "innovatie", "title": f"{EVIL} {{{{ 7*7 }}}}", "body": body, "written_in": "nl", "do": "publish"}
    item = str(desk.post("/newsroom/items/new", form).headers["Location"])
    week = datetime.now(UTC) + timedelta(weeks=1)
    planned = desk.post("/newsroom/issues", {"theme": "innovatie", "week": f"{week:%G-W%V}"})
    issue = str(planned.headers["Location"])
    desk.post(f"{issue}/assemble")
    for address in (item, issue, "/newsroom/items", f"{issue}/preview/nl.html"):
        page = desk.get(address)
        assert page.status_code == 200
        assert _dangers(page.text) == []
        assert "&lt;script&gt;" in page.text
        assert "{{ 7*7 }}" in page.text


def test_the_newsrooms_pages_are_kept_by_no_cache_and_framed_by_nobody(app: flask.Flask) -> None:
    desk = Desk(app, Role.CHIEF)
    page = desk.get("/newsroom/")
    assert page.headers["Cache-Control"] == "no-store"
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "style=" not in page.text
    assert "<script" not in page.text


@pytest.fixture
def on_https(tmp_path: Path) -> Iterator[flask.Flask]:
    before = settings.current()
    settings.use(settings.load(data_dir=tmp_path, secret_key=SECRET, base_url="https://nieuws.example"))
    app = service_app.create_app()
    with app.app_context():
        flask_migrate.upgrade(directory=service_app.MIGRATIONS)
        yield app
        db.db.session.remove()
        db.db.engine.dispose()
    settings.use(before)


def test_on_https_the_cookie_is_bound_to_the_host(on_https: flask.Flask) -> None:
    editor(Role.CHIEF)
    desk = Desk(on_https, None)
    page = desk.get("/newsroom/login", base_url="https://nieuws.example")
    token = TOKEN.search(page.text)
    assert token is not None
    form = {"email": "chief@gemeente.example", "password": PASSWORD, "csrf_token": token[1]}
    answer = desk.open("POST", "/newsroom/login", data=form, base_url="https://nieuws.example")
    assert answer.status_code == 302
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-vinkje=")
    for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie


def test_the_public_pages_set_no_cookie(app: flask.Flask) -> None:
    desk = Desk(app, Role.CHIEF)
    for address in ("/", "/privacy", "/nonsense"):
        assert "Set-Cookie" not in desk.get(address).headers
    with db.transaction() as session:
        assert len(session.scalars(select(Editor)).all()) == 1
