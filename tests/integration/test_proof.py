"""Proof of work: whose browser calculates for a moment is heard as often as before, others less often, and nobody is
turned away for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import flask
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from service import db, settings, throttle
from service.subscribers import models as subscribers
from service.subscribers import proof
from service.web import forms
from tests import make
from tests.conftest import SECRET
from tests.integration.conftest import Visitor
from tests.integration.races import Beside

NOW = make.NOW
EASY = 2_000  # numbers to try here, where Python does the browser's work


@pytest.fixture(autouse=True)
def _asked_for(app: flask.Flask, doorbells: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = settings.current()
    settings.use(before.model_copy(update={"proof_of_work": True, "signups_per_network_hour": 6}))
    monkeypatch.setattr(proof, "MOST", EASY)
    with db.transaction() as session:
        make.theme(session, "innovatie")
    yield
    settings.use(before)


def asked_for(visitor: Visitor) -> dict[str, str | int]:
    said = json.loads(visitor.get("/proof").text)
    assert isinstance(said, dict)
    return said


def solve(asked: dict[str, str | int], **changed: object) -> str:
    """What static/proof.js makes of it."""
    salt, wanted = asked["salt"], asked["challenge"]
    found = next(n for n in range(EASY + 1) if hashlib.sha256(f"{salt}{n}".encode()).hexdigest() == wanted)
    kept = {name: asked[name] for name in ("algorithm", "challenge", "salt", "signature")}
    return packed({**kept, "number": found, **changed})


def packed(said: object) -> str:
    return base64.b64encode(json.dumps(said).encode()).decode()


def unpacked(solution: str) -> dict[str, str | int]:
    said = json.loads(base64.b64decode(solution))
    assert isinstance(said, dict)
    return said


def spent(solution: str, now: datetime = NOW) -> bool:
    with db.transaction() as session:
        return proof.spend(session=session, now=now, solution=solution)


def sign_up(visitor: Visitor, who: str, solution: str) -> TestResponse:
    """From our own form, a minute after it was shown."""
    mark = forms.started(datetime.now(UTC) - timedelta(minutes=1))
    form = {"email": f"{who}@gemeente.example", "themes": "innovatie", "language": "nl", "started": mark}
    return visitor.post("/subscribe", data={**form, "altcha": solution})


def mails() -> int:
    with db.transaction() as session:
        make.taken(session)
    return db.reading().scalar(select(func.count()).select_from(subscribers.Confirmation)) or 0


def test_the_challenge_is_altchas_and_asking_for_it_keeps_nothing(visitor: Visitor) -> None:
    answers = [visitor.get("/proof") for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers
    first, second = (json.loads(answer.text) for answer in answers)
    assert set(first) == {"algorithm", "challenge", "maxnumber", "salt", "signature"}
    assert first["algorithm"] == "SHA-256"
    assert first["salt"] != second["salt"]
    assert db.reading().scalar(select(func.count()).select_from(throttle.Attempt)) == 0
    with db.transaction() as session:
        assert proof.spend(session=session, now=datetime.now(UTC), solution=solve(first))


def test_without_the_setting_there_is_no_challenge_and_no_script(visitor: Visitor) -> None:
    settings.use(settings.current().model_copy(update={"proof_of_work": False}))
    assert visitor.get("/proof").status_code == 404
    page = visitor.get("/")
    assert "<script" not in page.text
    assert "altcha" not in page.text
    assert "connect-src" not in page.headers["Content-Security-Policy"]
    for number in range(6):
        sign_up(visitor, f"n{number}", "")
    assert mails() == 6


def test_the_form_brings_a_small_script_of_our_own(visitor: Visitor) -> None:
    page = visitor.get("/")
    assert page.text.count("<script") == 1
    address = page.text.partition('<script src="')[2].partition('"')[0]
    assert address.startswith("/static/proof.js?v=")
    assert len(visitor.get(address).data) < 3_000
    assert 'data-proof="/proof"' in page.text
    policy = page.headers["Content-Security-Policy"].split("; ")
    assert {"script-src 'self'", "connect-src 'self'", "default-src 'none'"} <= set(policy)
    assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_with_proof_a_network_is_heard_as_often_as_before_and_without_it_less(visitor: Visitor) -> None:
    for number in range(4):
        sign_up(visitor, f"n{number}", "")
    assert mails() == 2, "a third of six"
    for number in range(4, 10):
        sign_up(visitor, f"n{number}", solve(asked_for(visitor)))
    assert mails() == 6


def test_a_proof_counts_once(visitor: Visitor) -> None:
    solution = solve(asked_for(visitor))
    for number in range(6):
        assert sign_up(visitor, f"n{number}", solution).status_code == 200
    kept = db.reading().scalars(select(subscribers.SignupRequest.unproven).order_by(subscribers.SignupRequest.id))
    assert kept.all() == [False, *[True] * 5]
    assert mails() == 2


def test_a_form_with_a_mistake_spends_no_proof(visitor: Visitor) -> None:
    solution = solve(asked_for(visitor))
    assert visitor.post("/subscribe", data={"email": "saskia@", "altcha": solution}).status_code == 422
    sign_up(visitor, "saskia", solution)
    assert db.reading().scalars(select(subscribers.SignupRequest.unproven)).all() == [False]


def test_answer_and_evidence_are_the_same_with_and_without_proof(visitor: Visitor) -> None:
    settings.use(settings.current().model_copy(update={"signups_per_network_hour": 30}))
    with_it = sign_up(visitor, "saskia", solve(asked_for(visitor)))
    without = sign_up(visitor, "saskia", "not a proof")
    assert (with_it.status_code, with_it.text) == (without.status_code, without.text)
    assert list(with_it.headers) == list(without.headers)
    sign_up(visitor, "ahmed", "")
    assert mails() == 2
    assert set(db.reading().scalars(select(subscribers.Consent.wording))) == {"form-1.nl"}


def test_two_who_send_the_same_proof_at_the_same_moment(app: flask.Flask) -> None:
    solution, heard = solve(proof.challenge(now=NOW)), []

    def second(session: Session) -> None:
        heard.append(proof.spend(session=session, now=NOW, solution=solution))

    beside = Beside(app, second)
    with db.transaction() as session:
        assert proof.spend(session=session, now=NOW, solution=solution)
        beside.start()
    assert beside.refusal() is None
    assert heard == [False]


def test_a_proof_holds_for_ten_minutes(app: flask.Flask) -> None:
    one, other = (solve(proof.challenge(now=NOW)) for _ in range(2))
    assert spent(one, NOW + timedelta(minutes=10))
    assert not spent(other, NOW + timedelta(minutes=10, seconds=1))


def test_what_was_spent_is_forgotten_once_it_is_too_old_by_itself(session: Session) -> None:
    solution = solve(proof.challenge(now=NOW))
    assert proof.spend(session=session, now=NOW, solution=solution)
    throttle.note(session=session, kind="signup_mail", who="saskia", now=NOW)
    throttle.expire(session=session, now=NOW + proof.LIFE)
    assert not proof.spend(session=session, now=NOW + proof.LIFE, solution=solution)
    throttle.expire(session=session, now=NOW + 3 * proof.LIFE)
    assert session.scalars(select(throttle.Attempt.kind)).all() == ["signup_mail"]


def _longer_life(said: dict[str, str | int]) -> dict[str, str | int]:
    return {**said, "salt": str(said["salt"]).replace("expires=1", "expires=2")}


def _digits_moved(said: dict[str, str | int]) -> dict[str, str | int]:
    """CVE-2025-68113: a digit of the number read as part of the hour."""
    number = str(said["number"])
    return {**said, "salt": f"{said['salt']}{number[0]}", "number": int(number[1:] or "0")}


def _without_end(said: dict[str, str | int]) -> dict[str, str | int]:
    return {**said, "salt": str(said["salt"]).partition("?")[0]}


@pytest.mark.parametrize("change", [_longer_life, _digits_moved, _without_end])
def test_nobody_can_make_a_proof_live_longer(app: flask.Flask, change: object) -> None:
    assert callable(change)
    said = unpacked(solve(proof.challenge(now=NOW)))
    assert not spent(packed(change(said)))
    assert spent(packed(said))


def test_only_our_own_challenge_counts(app: flask.Flask) -> None:
    challenge = proof.challenge(now=NOW)
    for name, value in {
        "number": unpacked(solve(challenge))["number"] + 1,  # type: ignore[operator]
        "challenge": hashlib.sha256(b"easy").hexdigest(),
        "signature": "0" * 64,
    }.items():
        assert not spent(solve(challenge, **{name: value})), name
    ours = settings.current()
    settings.use(ours.model_copy(update={"secret_key": SECRET[::-1]}))
    foreign = solve(proof.challenge(now=NOW))
    settings.use(ours)
    assert not spent(foreign)
    assert spent(solve(challenge))


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "é",
        "x",
        "e30=",
        "bnVsbA==",
        packed([]),
        packed("challenge"),
        packed({"challenge": 1, "salt": 2, "number": 3, "signature": 4}),
        packed({"challenge": "\ud800", "salt": "\ud800", "number": "\ud800", "signature": "\ud800"}),
        packed({"challenge": "a", "salt": "b", "number": float("inf"), "signature": "c"}),
        base64.b64encode(b"[" * 100_000).decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        "\x00",
        "A" * 400_000,
    ],
)
def test_whatever_stands_in_the_field_the_form_is_taken(visitor: Visitor, junk: str) -> None:
    assert sign_up(visitor, "saskia", junk).status_code == 200
    assert mails() == 1


def test_a_form_on_another_page_works_without(visitor: Visitor) -> None:
    assert visitor.post("/subscribe", data={"email": "a@gemeente.example", "themes": "innovatie"}).status_code == 200
    assert mails() == 1
