"""POST /reports: a provider hands over what came back (requirements 6.2)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator

import flask
import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from service import db, links, settings
from service.delivery.models import Report, ReportCount
from service.issues.models import IssueState
from tests import came_back, make
from tests.integration.conftest import Visitor

SECRET = "a secret for reports, of more than 32 characters"
MEGABYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def _secret(app: flask.Flask, doorbells: object) -> Iterator[None]:
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"return_address": "bounces@vinkje.example", "report_secret": SECRET}))
    yield
    settings.use(chosen)


@pytest.fixture
def raw(app: flask.Flask) -> bytes:
    with db.transaction() as session:
        reader = make.reader(session, "saskia@gemeente.example", "innovatie")
        issue = make.approved(session)
        issue.state, issue.cut_at = IssueState.SENT, make.NOW
        session.flush()
        return came_back.bounce(links.return_path(issue.id, reader.id))


def signature(raw: bytes, *, age: int = 0, secret: str = SECRET) -> str:
    moment = int(time.time()) - age
    return f"t={moment},v1={hmac.new(secret.encode(), f'{moment}.'.encode() + raw, hashlib.sha256).hexdigest()}"


def post(visitor: Visitor, raw: bytes, said: str | None, kind: str = "message/rfc822") -> TestResponse:
    headers = {} if said is None else {"Vinkje-Signature": said}
    return visitor.post("/reports", data=raw, headers=headers, content_type=kind)


def rows() -> tuple[int, dict[str, int]]:
    with db.transaction() as session:
        counts = {row.sort: row.count for row in session.scalars(select(ReportCount))}
        return session.scalar(select(func.count()).select_from(Report)) or 0, counts


@pytest.mark.parametrize("kind", ["message/rfc822", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_signed_mail_is_taken_without_a_cookie_whatever_its_content_type(
    visitor: Visitor, raw: bytes, kind: str
) -> None:
    """curl says that what it posts is a form, unless it is told."""
    said = signature(raw)
    given = post(visitor, raw, said, kind)
    assert (given.status_code, given.text) == (200, "Taken.\n")
    assert "Set-Cookie" not in given.headers
    assert given.headers["Cache-Control"] == "no-store"
    assert rows() == (1, {})
    assert post(visitor, raw, said, kind).status_code == 200, "the same once more"
    assert rows() == (1, {"repeated": 1})


def test_another_site_is_no_obstacle(visitor: Visitor, raw: bytes) -> None:
    headers = {"Vinkje-Signature": signature(raw), "Origin": "https://a.example", "Sec-Fetch-Site": "cross-site"}
    assert visitor.post("/reports", data=raw, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "t=,v1=",
        "v1=" + "0" * 64,
        "t=99999999999999999999,v1=" + "0" * 64,
        "t=１２,v1=" + "0" * 64,
        "t=1,v1=zz",
    ],
)
def test_a_mail_without_a_good_signature_is_refused(visitor: Visitor, raw: bytes, said: str | None) -> None:
    encoded = said.encode().decode("latin-1") if said else said
    given = post(visitor, raw, encoded)
    assert given.status_code == 401
    assert given.headers["WWW-Authenticate"] == "Vinkje-Signature"
    assert rows() == (0, {})


@pytest.mark.parametrize(("age", "status"), [(290, 200), (-290, 200), (310, 401), (-310, 401)])
def test_a_signature_counts_for_five_minutes_either_way(visitor: Visitor, raw: bytes, age: int, status: int) -> None:
    assert post(visitor, raw, signature(raw, age=age)).status_code == status


def test_a_signature_of_another_body_moment_or_secret_is_refused(visitor: Visitor, raw: bytes) -> None:
    said = signature(raw)
    moment = int(said[2 : said.index(",")])
    for other in (
        signature(raw + b"x"),
        said.replace(f"t={moment}", f"t={moment - 1}"),
        signature(raw, secret=SECRET + "!"),
        said.upper(),
        said[:-1],
    ):
        assert post(visitor, raw, other).status_code == 401
    assert rows() == (0, {})


def test_a_body_of_more_than_a_megabyte_is_refused_unread(visitor: Visitor) -> None:
    """Half of one is more than any form of ours may have."""
    large = b"X-Long: x\r\n" * (MEGABYTE // 11)
    assert post(visitor, large, signature(large)).status_code == 200
    large += b"x" * (MEGABYTE + 1 - len(large))
    given = post(visitor, large, signature(large))
    assert (given.status_code, given.text) == (413, "Larger than a megabyte.\n")
    assert given.mimetype == "text/plain", "a machine reads it"
    assert rows() == (0, {"unknown": 1})


def test_without_a_secret_there_is_no_such_page(visitor: Visitor, raw: bytes) -> None:
    settings.use(settings.current().model_copy(update={"report_secret": ""}))
    assert post(visitor, raw, signature(raw, secret="")).status_code == 404
    assert rows() == (0, {})


def test_it_only_takes(visitor: Visitor) -> None:
    assert visitor.get("/reports").status_code == 405
