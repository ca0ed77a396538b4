"""What holds for every page: headers, no cookies, methods, faults in words, logs without tokens, health."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
import structlog
from sqlalchemy import text

from service import app as service_app
from service import db, errors, heartbeat, links, settings, web
from service.web import faults
from tests.integration.conftest import Visitor

OPEN = ("/", "/subscribe", "/privacy", "/healthz", "/robots.txt", "/static/vinkje.css", "/nowhere", "/confirm/x")
POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "script-src 'self'",
    "img-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "object-src 'none'",
}


def test_every_answer_carries_the_security_headers_and_no_cookie(visitor: Visitor) -> None:
    """requirements 6.2, 3.3"""
    answers = [visitor.get(path) for path in OPEN]
    answers += [
        visitor.post("/subscribe", data={}),
        visitor.delete("/"),
        visitor.post("/subscribe", data=b"x" * 600_000),
    ]
    for answer in answers:
        assert set(answer.headers["Content-Security-Policy"].split("; ")) == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "camera=()" in answer.headers["Permissions-Policy"]
        assert "Strict-Transport-Security" not in answer.headers
        assert "Set-Cookie" not in answer.headers
        assert answer.headers.get("Cache-Control")


def test_https_sites_ask_for_https_from_then_on(visitor: Visitor) -> None:
    settings.use(settings.current().model_copy(update={"base_url": "https://news.example.nl"}))
    for path in OPEN:
        assert visitor.get(path).headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"


def test_static_files_are_kept_until_they_change(visitor: Visitor) -> None:
    found = re.search(r'<link rel="stylesheet" href="([^"]+\?v=\w+)">', visitor.get("/").text)
    assert found
    assert visitor.get(found[1]).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert visitor.get("/static/vinkje.css").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", {"GET", "HEAD", "OPTIONS"}),
        ("/subscribe", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/privacy", {"GET", "HEAD", "OPTIONS"}),
        ("/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("/confirm/x", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/preferences/x", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/unsubscribe/x", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/data/x", {"GET", "HEAD", "OPTIONS"}),
        ("/data/x/export", {"GET", "HEAD", "OPTIONS"}),
        ("/data/x/erase", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/data/x/address", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/address/x", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/block/x", {"GET", "HEAD", "OPTIONS", "POST"}),
    ],
)
def test_other_methods_are_refused(visitor: Visitor, path: str, allowed: set[str]) -> None:
    for method in {"POST", "PUT", "PATCH", "DELETE"} - allowed:
        answer = visitor.open(path, method=method)
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert "Dat werkt hier niet" in answer.text


def test_unknown_page_says_so_in_the_visitors_language(visitor: Visitor) -> None:
    dutch, english = visitor.get("/nowhere"), visitor.get("/nowhere", headers={"Accept-Language": "en"})
    assert (dutch.status_code, english.status_code) == (404, 404)
    assert "Deze pagina is er niet" in dutch.text
    assert "This page isn’t here" in english.text


def test_language_link_never_leads_to_another_site(visitor: Visitor) -> None:
    for path in ("//evil.example/x", "/%2F/evil.example", "/\\evil.example", "/confirm/%22%3E%3Cb%3E"):
        assert not re.search(r'href="/?[/\\]+evil', visitor.get(path).text)
        assert "<b>" not in visitor.get(path).text


def test_too_large_a_body_gets_a_page(visitor: Visitor) -> None:
    answer = visitor.post("/subscribe", data={"email": "x" * 600_000, "language": "en"})
    assert answer.status_code == 413
    assert "Dat is te veel in één keer" in answer.text


# --- what goes wrong ---


def _token() -> str:
    return links.token(links.Purpose.PREFERENCES, 12)


@pytest.fixture
def fragile(app: flask.Flask) -> Visitor:
    """The web frame around a page that raises what the test puts in `raises`."""
    made = flask.Flask("fragile", root_path=str(Path(web.__file__).parent))
    made.extensions.update(app.extensions)
    made.config.update(SECRET_KEY="x", raises=ZeroDivisionError("mail of saskia@gemeente.example"))
    web.register(made)

    @made.get("/break/<token>")
    def break_(token: str) -> str:
        raise made.config["raises"]

    return Visitor(made, made.response_class)


def test_unforeseen_faults_are_calm_outside_and_logged_without_token(fragile: Visitor) -> None:
    token = _token()
    with structlog.testing.capture_logs() as logged:
        answer = fragile.get(f"/break/{token}")
    assert answer.status_code == 500
    assert "Er ging bij ons iets mis" in answer.text
    assert "ZeroDivision" not in answer.text
    fault, request = logged
    assert fault["event"] == "unforeseen"
    assert isinstance(fault["exc_info"], ZeroDivisionError)
    assert request == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "rule": "/break/<token>",
        "status": 500,
        "ms": request["ms"],
    }
    assert token not in str(logged)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (errors.Refused("email", "Tick at least one theme."), 422),
        (errors.NotFound("There is no theme “%(slug)s”.", slug="<b>"), 404),
        (errors.NotAllowed("Only chiefs may do this."), 403),
        (errors.Conflict("Somebody else was first."), 409),
        (errors.LinkRefused("This link isn’t valid. Perhaps a part of it got lost."), 404),
        (errors.Throttled("Wait a little.", seconds=90), 429),
        (errors.FenceLost("gone"), 500),
    ],
)
def test_expected_faults_have_one_status_each(fragile: Visitor, fault: errors.VinkjeError, status: int) -> None:
    fragile.application.config["raises"] = fault
    with structlog.testing.capture_logs() as logged:
        answer = fragile.get("/break/x")
    assert answer.status_code == status
    assert (logged[-1]["event"], logged[-1]["fault"]) == ("request", fault.code)
    assert answer.headers.get("Retry-After") == ("90" if status == 429 else None)
    assert ("Vink minstens één thema aan." in answer.text) == (status == 422)
    assert "<b>" not in answer.text
    assert "<h1>" in answer.text


def test_every_expected_error_has_a_status() -> None:
    unforeseen = {errors.SettingsRefused, errors.FenceLost}
    assert set(errors.VinkjeError.__subclasses__()) == set(faults.STATUS) | unforeseen


def test_log_holds_the_rule_and_no_path(visitor: Visitor) -> None:
    token = _token()
    with structlog.testing.capture_logs() as logged:
        visitor.get(f"/preferences/{token}?lang=en")
        visitor.get(f"/nowhere/{token}")
        visitor.post("/subscribe", data={"email": "saskia@"})
    assert [entry["rule"] for entry in logged] == ["/preferences/<token>", "-", "/subscribe"]
    assert token not in str(logged)
    assert "saskia" not in str(logged)


# --- health ---


def test_health_tells_that_all_is_well(visitor: Visitor, app: flask.Flask) -> None:
    with db.transaction() as session:
        heartbeat.beat(session=session, now=datetime.now(UTC) - timedelta(seconds=20))
    answer = visitor.get("/healthz")
    assert answer.status_code == 200
    told = answer.get_json()
    assert 19 < told.pop("tick_age_seconds") < 60
    assert told == {"ok": True, "database": "current", "threads": {}}


def test_health_sees_a_thread_that_died(visitor: Visitor, app: flask.Flask) -> None:
    lives, died = threading.Event(), threading.Thread(target=lambda: None)
    alive = threading.Thread(target=lives.wait, daemon=True)
    alive.start()
    died.start()
    died.join()
    with db.transaction() as session:  # or the tick is late, once this test's process has run for a minute
        heartbeat.beat(session=session, now=datetime.now(UTC))
    app.extensions["vinkje_threads"] = {"web": alive}
    try:
        assert visitor.get("/healthz").status_code == 200
        app.extensions["vinkje_threads"]["beat"] = died
        answer = visitor.get("/healthz")
        assert answer.status_code == 503
        assert answer.get_json()["threads"] == {"web": True, "beat": False}
    finally:
        del app.extensions["vinkje_threads"]
        lives.set()


def test_health_sees_a_clock_that_stopped_where_the_clock_is_ours(visitor: Visitor, app: flask.Flask) -> None:
    with db.transaction() as session:
        heartbeat.beat(session=session, now=datetime.now(UTC) - timedelta(hours=30))
    assert visitor.get("/healthz").status_code == 200  # elsewhere's clock: sign-ups go on
    app.extensions["vinkje_threads"] = {"beat": threading.current_thread()}
    since = app.extensions["vinkje_up_since"]
    try:
        app.extensions["vinkje_up_since"] = time.monotonic()
        assert visitor.get("/healthz").status_code == 200  # just up after a day off
        app.extensions["vinkje_up_since"] = time.monotonic() - 7200
        assert visitor.get("/healthz").status_code == 503
    finally:
        app.extensions["vinkje_up_since"] = since
        del app.extensions["vinkje_threads"]


def test_health_sees_migrations_that_were_not_run(visitor: Visitor) -> None:
    with db.transaction() as session:
        head = session.scalar(text("SELECT version_num FROM alembic_version"))
        session.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    try:
        answer = visitor.get("/healthz")
        assert (answer.status_code, answer.get_json()["database"]) == (503, "behind")
    finally:
        with db.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": head})


def test_pages_stay_calm_while_the_database_is_away(app: flask.Flask, tmp_path: Path) -> None:
    away = settings.current().model_copy(update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none"})
    settings.use(away)
    visitor = Visitor(service_app.create_app(), flask.Response)
    answer = visitor.get("/")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"
    assert "We zijn even niet bereikbaar" in answer.text
    health = visitor.get("/healthz")
    assert (health.status_code, health.get_json()["database"]) == (503, "away")
    assert visitor.get("/privacy").status_code == 200
