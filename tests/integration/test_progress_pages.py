"""The page of an issue while it goes out, the fragment that it is followed by, and the mail server's page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import flask
import pytest
from markupsafe import escape
from sqlalchemy import select, update

from service import db, i18n, settings
from service.delivery import breaker, limits, progress, rounds
from service.delivery.models import Batch, BatchState, Delivery, Outcome, Relay, Sender, Trouble
from service.issues.models import Issue, IssueState
from service.newsroom.models import Role
from tests import make
from tests.integration.newsroom import Desk

RELAY = "/newsroom/relay"
SCRIPT = re.compile(r'<script src="/static/follow\.js\?v=[0-9a-f]+" defer></script>')


@pytest.fixture(autouse=True)
def _bells(doorbells: object) -> object:
    return doorbells


@pytest.fixture
def issue(app: flask.Flask) -> str:
    """The page of a round of thirty readers that a worker has begun."""
    before, now = settings.current(), datetime.now(UTC)
    settings.use(before.model_copy(update={"batch_size": 10}))
    with db.transaction() as session:
        for number in range(30):
            make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=now - timedelta(days=1))
        issue_id = rounds.start(session=session, now=now, issue_id=make.approved(session, now=now).id).id
        limits.report(session=session, now=now, name="one", issue_id=issue_id, connections=3, rate=0.5)
        first = session.scalars(select(Batch).order_by(Batch.id)).first()
        assert first is not None
        first.recorded, first.state = 10, BatchState.DONE
    settings.use(before)
    return f"/newsroom/issues/{issue_id}"


def tripped(trouble: Trouble) -> str:
    """When it is tried again."""
    with db.transaction() as session:
        now = datetime.now(UTC)
        breaker.trip(session=session, now=now, trouble=trouble, status="550 5.7.1", text="<b>go away</b>")
        probe_at = breaker.look(session=session).probe_at
    assert probe_at is not None
    return i18n.hour(probe_at)


def state() -> IssueState:
    with db.transaction() as session:
        return session.scalars(select(Issue.state)).one()


def test_the_page_shows_how_it_goes(app: flask.Flask, issue: str) -> None:
    page = Desk(app, Role.WRITER).text(issue)
    assert "10 van 30 lezers zijn aan de beurt geweest" in page
    assert '<progress id="done" max="30" value="10">' in page
    assert "0,5 per seconde" in page
    assert "ongeveer 40 seconden" in page
    assert f"3 van hoogstens {settings.current().relay_connections}" in page
    assert "geen storing bekend" in page
    assert SCRIPT.search(page)
    assert f'data-follow="{issue}/progress"' in page


def test_the_fragment_has_the_parts_of_the_page_and_nothing_else(app: flask.Flask, issue: str) -> None:
    desk = Desk(app, Role.WRITER)
    fragment, page = desk.text(f"{issue}/progress"), desk.text(issue)
    parts = re.findall(r'data-part="(\w+)"', fragment)
    assert parts == ["pause", "bar", "pace", "books", "uncertain"]
    assert set(parts) < set(re.findall(r'data-part="(\w+)"', page))
    assert 'data-state="sending"' in fragment
    for outside in ("<html", "<script", "csrf_token", "<h1"):
        assert outside not in fragment
        assert outside in page


def test_the_books_can_be_left_out_of_a_fragment(app: flask.Flask, issue: str) -> None:
    desk = Desk(app, Role.WRITER)
    assert float(re.findall(r'data-rest="([0-9.]+)"', desk.text(f"{issue}/progress"))[0]) >= 0
    spared = desk.text(f"{issue}/progress?books=no")
    assert re.findall(r'data-part="(\w+)"', spared) == ["pause", "bar", "pace"]
    assert "10 van 30 lezers" in spared


def test_only_a_page_that_follows_may_ask_for_more(app: flask.Flask, issue: str) -> None:
    desk = Desk(app, Role.ADMIN)
    for address in (issue, RELAY):
        assert "connect-src 'self'" in desk.get(address).headers["Content-Security-Policy"]
    policy = desk.get("/newsroom/").headers["Content-Security-Policy"]
    assert "connect-src" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("over", [IssueState.SENT, IssueState.CANCELLED])
def test_a_round_that_is_over_is_not_followed(app: flask.Flask, issue: str, over: IssueState) -> None:
    with db.transaction() as session:
        session.scalars(select(Issue)).one().state = over
    page = Desk(app).text(issue)
    assert not SCRIPT.search(page)
    assert "data-follow" not in page
    assert "Lezers bij het begin" in page
    assert re.search(r'data-part="pace" hidden', page)


def test_an_approved_issue_is_followed_from_shortly_before_its_hour(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue = make.approved(session, now=datetime.now(UTC))
    desk, address = Desk(app), f"/newsroom/issues/{issue.id}"
    for minutes, followed in ((60, False), (10, True), (-1, True)):
        with db.transaction() as session:
            session.scalars(select(Issue)).one().send_at = datetime.now(UTC) + timedelta(minutes=minutes)
        page = desk.text(address)
        assert ("data-follow" in page) == followed
        assert "Cijfers</h2>" not in page
    assert "Cijfers</h2>" not in desk.text(f"{address}/progress")
    with db.transaction() as session:
        session.scalars(select(Issue)).one().held_since = datetime.now(UTC)
    assert "data-follow" not in desk.text(address)


@pytest.mark.parametrize("trouble", list(Trouble))
@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_a_round_that_waits_for_the_mail_server_says_so_in_words(
    app: flask.Flask, issue: str, trouble: Trouble, language: str
) -> None:
    hour = tripped(trouble)
    desk = Desk(app, language=language)
    why = i18n.gettext(language, progress.WHY[trouble])
    then = i18n.gettext(language, progress.AND_THEN[trouble], hour=hour)
    for address in (issue, f"{issue}/progress"):
        page = desk.get(address).text
        assert why in page
        assert then in page
        assert "&lt;b&gt;go away&lt;/b&gt;" in page
        assert "<b>" not in page
        assert str(trouble) in page  # for the script alone
    words = re.sub(r"<[^>]*>", "", desk.text(issue))
    assert str(trouble) not in words
    assert i18n.gettext(language, "Try now") in words
    assert desk.post(f"{issue}/resume").status_code == 302
    assert state() is IssueState.SENDING
    assert why not in desk.text(issue)


def test_a_pause_of_an_editor_stays_one(app: flask.Flask, issue: str) -> None:
    desk = Desk(app)
    desk.post(f"{issue}/pause")
    page = desk.text(issue)
    assert "Verder versturen" in page
    assert "Het versturen wacht op de mailserver" not in page
    assert "het staat stil" in page


def test_chiefs_are_led_to_the_uncertain_mails_once_there_are_any(app: flask.Flask, issue: str) -> None:
    chief, writer = Desk(app), Desk(app, Role.WRITER)
    assert f"{issue}/uncertain" not in chief.text(issue)
    with db.transaction() as session:
        issue_id, now = session.scalars(select(Issue.id)).one(), datetime.now(UTC)
        session.add(Delivery(issue_id=issue_id, subscriber_id=1, outcome=Outcome.UNCERTAIN, at=now, first_at=now))
    for address in (issue, f"{issue}/progress"):
        assert f'href="{issue}/uncertain"' in chief.text(address)
        assert f'href="{issue}/uncertain"' not in writer.text(address)
    assert chief.get(f"{issue}/uncertain").status_code == 200


def test_a_sent_issue_is_not_done_with_while_mails_are_uncertain(app: flask.Flask, issue: str) -> None:
    chief, writer = Desk(app), Desk(app, Role.WRITER)
    with db.transaction() as session:
        session.execute(update(Issue).values(state=IssueState.SENT))
    assert "Het is verstuurd. U hoeft niets meer te doen." in chief.text(issue)
    with db.transaction() as session:
        made = session.scalars(select(Issue)).one()
        session.add(
            Delivery(
                issue_id=made.id,
                subscriber_id=1,
                outcome=Outcome.UNCERTAIN,
                at=made.send_at,
                first_at=made.send_at,
            )
        )
    for desk, said in ((chief, "Zeg wat er met 1 onzekere mail moet"), (writer, "Een hoofdredacteur zegt")):
        page = desk.text(issue)
        assert said in page
        assert "Het is verstuurd. U hoeft niets meer te doen." not in page


def test_an_issue_that_is_not_there_has_no_progress(app: flask.Flask) -> None:
    assert Desk(app).get("/newsroom/issues/4711/progress").status_code == 404


def test_the_mail_server_is_for_admins(app: flask.Flask) -> None:
    assert Desk(app).get(RELAY).status_code == 403
    admin = Desk(app, Role.ADMIN)
    assert f'href="{RELAY}"' in admin.text("/newsroom/")
    page = admin.text(RELAY)
    assert "geen storing bekend" in page
    assert f"hoogstens {settings.current().relay_connections}<" in re.sub(r"\s+<", "<", page)


def test_an_admin_sees_the_mail_servers_trouble(app: flask.Flask, issue: str) -> None:
    hour = tripped(Trouble.REFUSES)
    admin = Desk(app, Role.ADMIN)
    page = admin.text(RELAY)
    assert "weigert onze mail" in page
    assert f"<dd>{hour}</dd>" in page
    assert "550 5.7.1 &lt;b&gt;go away&lt;/b&gt;" in admin.get(RELAY).text
    assert re.search(r"Workers die versturen</dt><dd>1<", page)
    assert re.search(r"Open verbindingen</dt><dd>3<", page)
    assert f'href="{RELAY}"' in admin.text(issue)


def test_an_admin_changes_the_limits_and_gives_them_back(app: flask.Flask) -> None:
    admin = Desk(app, Role.ADMIN)
    assert admin.post(RELAY, {"connections": "7", "rate": "2,5"}).headers["Location"] == RELAY
    page = admin.text(RELAY)
    assert "De grenzen zijn gewijzigd." in page
    assert "hoogstens 2,5 per seconde" in page
    assert re.search(r'name="connections" type="text" value="7"', page)
    assert re.search(r'name="rate" type="text" value="2,5"', page)
    assert "Tempo" in page
    with db.transaction() as session:
        assert limits.of(row=breaker.look(session=session)) == limits.Limits(7, 2.5)
    admin.post(RELAY, {"connections": "", "rate": "0"})
    with db.transaction() as session:
        row = session.scalars(select(Relay)).one()
        assert (row.connections, row.rate) == (None, 0.0)
    admin.post(RELAY, {"connections": "", "rate": ""})
    with db.transaction() as session:
        assert session.scalars(select(Relay.rate)).one() is None


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"connections": "0", "rate": ""}, "connections"),
        ({"connections": "een paar", "rate": ""}, "connections"),
        ({"connections": "99999", "rate": ""}, "connections"),
        ({"connections": "4", "rate": "-1"}, "rate"),
        ({"connections": "4", "rate": "1.000"}, "rate"),
        ({"connections": "4", "rate": '"><b>'}, "rate"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_its_field(app: flask.Flask, form: dict[str, str], field: str) -> None:
    admin = Desk(app, Role.ADMIN)
    refused = admin.post(RELAY, form)
    assert refused.status_code == 422
    assert f'id="{field}-error"' in refused.text
    assert f'value="{escape(form[field])}"' in refused.text
    with db.transaction() as session:
        assert limits.of(row=breaker.look(session=session)).connections == settings.current().relay_connections


def test_who_looked_long_ago_does_not_count(app: flask.Flask, issue: str) -> None:
    """Workers that died send no more, whatever stands in their row."""
    with db.transaction() as session:
        session.execute(update(Sender).values(seen_at=datetime.now(UTC) - timedelta(minutes=1)))
    page = Desk(app).text(f"{issue}/progress")
    assert "0 per seconde" in page
    assert "nog niet bekend" in page
    assert "0 workers" in page
