"""The sign-up form: what it looks like to a machine that reads it aloud, and what it answers."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import flask
import pytest
import structlog
import time_machine
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from service import db, settings, themes
from service.subscribers import addresses, consent, signup, unsubscribe
from service.subscribers import models as subscribers
from service.web import forms
from tests import make
from tests.integration.conftest import Visitor

NOW = make.NOW
FORM_EMAIL = "saskia@gemeente.example"
FORM = {"email": FORM_EMAIL, "themes": ["innovatie"], "language": "nl"}
Doorbells = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(autouse=True)
def _two_themes(app: flask.Flask, doorbells: Doorbells) -> None:
    with db.transaction() as session:
        make.theme(session, "innovatie")
        make.theme(session, "democratie")
        themes.retire(session=session, slug=make.theme(session, "oud").slug, now=NOW)


def words(response: TestResponse) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def confirmations() -> int:
    """How many there are, once a worker has taken the forms."""
    with db.transaction() as session:
        make.taken(session)
    return db.reading().scalar(select(func.count()).select_from(subscribers.Confirmation)) or 0


def test_form_is_readable_without_eyes_and_ticks_nothing(visitor: Visitor) -> None:
    page = visitor.get("/").text
    assert re.search(r"<fieldset[^>]*>\s*<legend>Waarover wilt u horen\?</legend>", page)
    assert page.count('type="checkbox"') == 2
    assert " checked" not in page
    assert 'value="oud"' not in page
    assert 'value="innovatie"' in page
    assert 'value="democratie"' in page
    field = re.search(r'<input id="email"[^>]*>', page)
    assert field
    for attribute in ('type="email"', 'autocomplete="email"', 'spellcheck="false"', 'aria-required="true"'):
        assert attribute in field[0]
    assert re.search(r"<form[^>]* novalidate>", page)
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert consent.wording(consent.FORM, "nl").text in words
    assert "<script" not in page


@pytest.mark.parametrize(
    ("path", "accept", "language"),
    [
        ("/", "", "nl"),
        ("/", "en-GB,en;q=0.9", "en"),
        ("/", "fr,nl;q=0.5,en;q=0.4", "nl"),
        ("/", "fr", "nl"),
        ("/?lang=en", "nl", "en"),
        ("/?lang=xx", "en", "en"),
        ("/?lang=%00&lang=en", "nl", "nl"),
    ],
)
def test_page_speaks_the_visitors_language(visitor: Visitor, path: str, accept: str, language: str) -> None:
    page = visitor.get(path, headers={"Accept-Language": accept} if accept else {}).text
    assert f'<html lang="{language}"' in page
    assert f'<input type="hidden" name="language" value="{language}">' in page
    assert ("Choose your" in page or "choose your themes" in page) == (language == "en")


def test_sign_up_makes_one_confirmation_in_the_forms_language(visitor: Visitor, doorbells: Doorbells) -> None:
    answer = visitor.post("/subscribe", data={**FORM, "themes": ["innovatie", "democratie"], "language": "en"})
    assert answer.status_code == 200
    assert "Look in your mailbox" in words(answer)
    assert "saskia@gemeente.example" in words(answer)
    assert [name for name, _ in doorbells] == ["vinkje.take_signup"]
    assert confirmations() == 1
    made = db.reading().scalars(select(subscribers.Confirmation)).one()
    assert made.language == "en"
    assert len(made.theme_ids) == 2
    assert doorbells[1:] == [("vinkje.send_confirmation", (made.id,))]


def test_the_form_itself_is_forgotten_once_it_is_taken(visitor: Visitor) -> None:
    visitor.post("/subscribe", data=FORM)
    assert confirmations() == 1
    assert db.reading().scalar(select(func.count()).select_from(subscribers.SignupRequest)) == 0
    assert confirmations() == 1


@pytest.mark.parametrize(
    ("mark_age", "wording"), [(10.0, "form-1.nl"), (None, "elsewhere-1.nl"), (90_000.0, "elsewhere-1.nl")]
)
def test_the_evidence_claims_our_words_only_of_our_own_page(
    visitor: Visitor, mark_age: float | None, wording: str
) -> None:
    mark = "" if mark_age is None else forms.started(datetime.now(UTC) - timedelta(seconds=mark_age))
    visitor.post("/subscribe", data={**FORM, "started": mark})
    assert confirmations() == 1
    assert db.reading().scalars(select(subscribers.Consent)).one().wording == wording


def test_a_proxy_that_is_not_believed_is_told_to_the_operator(visitor: Visitor) -> None:
    forms._told.clear()
    with structlog.testing.capture_logs() as told:
        for _ in range(2):
            visitor.post("/subscribe", data=FORM, headers={"X-Forwarded-For": "203.0.113.9"})
    assert [line["event"] for line in told].count("proxy_not_believed") == 1


def _pending(session: Session) -> None:
    reader = make.reader(session, FORM_EMAIL)
    session.add(
        subscribers.Subscription(
            theme_id=make.theme(session).id,
            subscriber_id=reader.id,
            state=subscribers.State.PENDING,
            requested_at=NOW,
        )
    )


def _left(session: Session) -> None:
    reader = make.reader(session, FORM_EMAIL, "innovatie")
    unsubscribe.leave_all(
        session=session, now=NOW, subscriber_id=reader.id, channel=subscribers.Channel.UNSUBSCRIBE_PAGE
    )


def _suppressed(reason: subscribers.SuppressionReason) -> Callable[[Session], None]:
    def suppress(session: Session) -> None:
        addresses.suppress(session=session, now=NOW, email_key=FORM_EMAIL, reason=reason)

    return suppress


@pytest.mark.parametrize(
    "before",
    [
        _pending,
        _left,
        lambda session: make.reader(session, FORM_EMAIL, "innovatie"),
        _suppressed(subscribers.SuppressionReason.COMPLAINT),
        _suppressed(subscribers.SuppressionReason.BLOCKED),
    ],
    ids=["pending", "left", "subscribed", "complained", "blocked"],
)
def test_answer_tells_nothing_about_the_address(visitor: Visitor, before: Callable[[Session], None]) -> None:
    """requirements 4.6: same page and status, also when the cap is reached."""
    with db.transaction() as session:
        before(session)
    known, again = visitor.post("/subscribe", data=FORM), visitor.post("/subscribe", data=FORM)
    new = visitor.post("/subscribe", data={**FORM, "email": "nobody@gemeente.example"})
    assert known.status_code == again.status_code == new.status_code == 200
    assert known.text == again.text == new.text.replace("nobody@", "saskia@")
    assert list(known.headers.keys()) == list(new.headers.keys())


@contextmanager
def listening() -> Iterator[list[str]]:
    """The statements that the database is asked."""
    heard: list[str] = []

    def hear(connection: object, cursor: object, statement: str, *rest: object) -> None:
        heard.append(statement)

    event.listen(db.db.engine, "before_cursor_execute", hear)
    yield heard
    event.remove(db.db.engine, "before_cursor_execute", hear)


def test_answer_takes_the_same_work_for_whatever_address(visitor: Visitor) -> None:
    """requirements 4.6, timing: what differs is done later, by a worker."""
    with db.transaction() as session:
        make.reader(session, "subscribed@gemeente.example", "innovatie")
        blocked = subscribers.SuppressionReason.BLOCKED
        addresses.suppress(session=session, now=NOW, email_key="blocked@gemeente.example", reason=blocked)
    for _ in range(2):
        visitor.post("/subscribe", data={**FORM, "email": "capped@gemeente.example"})
    confirmations()
    work = set()
    for who in ("new", "subscribed", "blocked", "capped"):
        with listening() as heard:
            assert visitor.post("/subscribe", data={**FORM, "email": f"{who}@gemeente.example"}).status_code == 200
        work.add(tuple(heard))
    assert len(work) == 1
    assert any("INSERT INTO signup_requests" in statement for statement in work.pop())


def test_all_errors_are_told_at_once_and_input_is_kept(visitor: Visitor) -> None:
    answer = visitor.post("/subscribe", data={"email": "saskia@", "language": "nl"})
    page = answer.text
    assert answer.status_code == 422
    assert "<title>Fout: " in page
    summary = re.search(r'<div class="error-summary"[^>]*autofocus[^>]*>.*?</div>', page, re.DOTALL)
    assert summary
    assert 'tabindex="-1"' in summary[0]
    links = re.findall(r'<a href="#(\w+)">([^<]+)</a>', summary[0])
    assert [target for target, _ in links] == ["themes", "email"]
    for target, message in links:
        assert f'id="{target}"' in page
        assert re.search(rf'id="{target}-error">.*?</span>{re.escape(message)}</p>', page)
    email = re.search(r'<input id="email"[^>]*>', page)
    assert email
    assert 'value="saskia@"' in email[0]
    assert 'aria-invalid="true"' in email[0]
    assert 'aria-describedby="email-hint email-error"' in email[0]
    assert confirmations() == 0


def test_ticked_themes_are_kept_when_the_address_is_wrong(visitor: Visitor) -> None:
    page = visitor.post("/subscribe", data={"email": '"><script>alert(1)</script>', "themes": "innovatie"}).text
    assert re.search(r'value="innovatie" checked', page)
    assert len(re.findall(" checked", page)) == 1
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "email",
    [
        "saskia@gemeente.example\r\nBcc: all@gemeente.example",
        "a" * 300 + "@gemeente.example",
        "saskia",
        "saskia@",
        "@gemeente.example",
        "sas kia@gemeente.example",
        "saskia@gemeente.example\x00",
        "\udcff",
        "józef@gemeente.example",
        "saskia@localhost",
        "",
        "   ",
        "\u202esaskia@gemeente.example",
    ],
)
def test_addresses_we_cannot_mail_are_refused_in_words(visitor: Visitor, email: str) -> None:
    body = {**FORM, "email": email.encode("utf-8", "surrogateescape")}
    answer = visitor.post("/subscribe", data=body)
    assert answer.status_code == 422
    assert 'id="email-error"' in answer.text
    assert 'id="themes-error"' not in answer.text
    assert confirmations() == 0


def test_international_domain_is_taken(visitor: Visitor) -> None:
    assert visitor.post("/subscribe", data={**FORM, "email": "info@café-überleven.nl"}).status_code == 200
    assert confirmations() == 1
    made = db.reading().scalars(select(subscribers.Subscriber)).one()
    assert made.email.isascii()
    assert made.email.startswith("info@xn--")


@pytest.mark.parametrize(
    "slugs", [["oud"], ["nergens"], ["innovatie", "nergens"], [""], ["innovatie\x00"], ["' OR 1=1"]]
)
def test_themes_we_do_not_offer_are_refused(visitor: Visitor, slugs: list[str]) -> None:
    answer = visitor.post("/subscribe", data={**FORM, "themes": slugs})
    assert answer.status_code == 422
    assert 'id="themes-error"' in answer.text
    assert "saskia@gemeente.example" in answer.text
    assert confirmations() == 0


def test_who_fills_in_the_trap_gets_the_same_page_and_nothing_happens(visitor: Visitor) -> None:
    caught = visitor.post("/subscribe", data={**FORM, "website": "https://spam.example"})
    assert confirmations() == 0
    honest = visitor.post("/subscribe", data={**FORM, "website": ""})
    assert confirmations() == 1
    assert (caught.status_code, caught.text) == (honest.status_code, honest.text)


def _mark(page: str) -> str:
    found = re.search(r'name="started" value="([^"]+)"', page)
    assert found
    return found[1]


def test_form_sent_within_two_seconds_asks_to_press_again(visitor: Visitor) -> None:
    assert settings.current().form_min_seconds == 2.0
    with time_machine.travel(NOW, tick=False) as clock:
        mark = _mark(visitor.get("/").text)
        clock.shift(1.5)
        fast = visitor.post("/subscribe", data={**FORM, "started": mark})
        assert fast.status_code == 422
        assert "Druk nog één keer op de knop" in words(fast)
        assert _mark(fast.text) == mark
        assert 'value="saskia@gemeente.example"' in fast.text
        assert re.search(r'value="innovatie" checked', fast.text)
        assert confirmations() == 0
        clock.shift(1)
        assert visitor.post("/subscribe", data={**FORM, "started": mark}).status_code == 200
    assert confirmations() == 1


@pytest.mark.parametrize("mark", ["", "x", "1.x", "é.é", "9" * 400, "1764000000000." + "0" * 64, "-.", "\x00"])
def test_form_without_our_mark_is_taken_since_other_sites_cannot_sign(visitor: Visitor, mark: str) -> None:
    assert visitor.post("/subscribe", data={**FORM, "started": mark}).status_code == 200
    assert confirmations() == 1


def test_mark_tells_its_age_and_cannot_be_backdated(app: flask.Flask) -> None:
    mark = forms.started(NOW)
    assert forms.age(mark, NOW + timedelta(seconds=90)) == timedelta(seconds=90)
    moved = str(int(mark.partition(".")[0]) - 60_000) + "." + mark.partition(".")[2]
    assert forms.age(moved, NOW) is None


def test_network_over_its_cap_gets_the_same_answer_and_no_mail(visitor: Visitor) -> None:
    settings.use(settings.current().model_copy(update={"signups_per_network_hour": 2}))
    ours = {**FORM, "started": forms.started(datetime.now(UTC) - timedelta(minutes=1))}
    answers = [visitor.post("/subscribe", data={**ours, "email": f"n{number}@gemeente.example"}) for number in range(4)]
    assert {answer.status_code for answer in answers} == {200}
    assert confirmations() == 2
    known = db.reading().scalar(select(func.count()).select_from(subscribers.Subscriber))
    assert known == 2, "an address over the cap is not kept"
    another = {"REMOTE_ADDR": "198.51.100.7"}
    visitor.post("/subscribe", data={**ours, "email": "n9@gemeente.example"}, environ_base=another)
    assert confirmations() == 3


def test_answer_tells_honestly_what_the_caps_are(visitor: Visitor) -> None:
    page = words(visitor.post("/subscribe", data=FORM))
    assert [(span, most) for span, most in signup.CAPS] == [
        (timedelta(minutes=10), 1),
        (timedelta(days=1), 3),
        (timedelta(days=30), 5),
    ]
    assert "hoogstens één mail per tien minuten, drie per dag en vijf per dertig dagen" in page
    assert "Dan telt dit formulier misschien niet mee." in page


def test_other_fields_and_kinds_of_body_never_break_the_page(visitor: Visitor) -> None:
    bodies = (
        {"data": b"\xff\xfe=%ff&email=%00", "content_type": "application/x-www-form-urlencoded"},
        {"data": b"--x\r\nbroken", "content_type": "multipart/form-data; boundary=x"},
        {"data": b"{}", "content_type": "application/json"},
        {"data": b"", "content_type": "multipart/form-data"},
        {"data": b"themes=" * 2000, "content_type": "application/x-www-form-urlencoded; charset=nonsense"},
    )
    for body in bodies:
        answer = visitor.post("/subscribe", **body)
        assert answer.status_code in (400, 413, 422), body
        assert "<h1>" in answer.text


def test_looking_signs_nobody_up(visitor: Visitor) -> None:
    for path in ("/", "/subscribe?email=saskia@gemeente.example&themes=innovatie"):
        assert visitor.get(path).status_code == visitor.head(path).status_code == 200
    assert confirmations() == 0
