"""A real mailbox, on Debian's Dovecot, that the worker reads and empties."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import flask
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from service import db, jobs, links, settings
from service.delivery import inbox as hours
from service.delivery.models import Delivery, Outcome, Report, ReportCount
from service.issues.models import IssueState
from service.subscribers.models import Subscription
from tests import came_back, fakes, make
from tests.conftest import SECRET
from tests.system import dovecot
from worker import inbox

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot starts as root only"),
]

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
READERS = 30
Rung = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[dovecot.Dovecot]:
    if not dovecot.COMMAND.exists():
        pytest.fail("Dovecot is missing: apt-get install -y dovecot-imapd")
    with dovecot.Dovecot() as server:
        yield server


@pytest.fixture
def env(mailbox: dovecot.Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SSL_CERT_FILE", str(fakes.CERTIFICATE))
    with mailbox.opened() as emptied:
        emptied.uid("STORE", "1:*", "+FLAGS", r"(\Deleted)")
        emptied.expunge()
    return {
        "DATA_DIR": str(tmp_path / "data"),
        "SECRET_KEY": SECRET,
        "RETURN_ADDRESS": "bounces@vinkje.example",
        "INBOX_URL": f"imaps://{who()}@localhost:{mailbox.tls}/INBOX",
    }


def who(password: str = dovecot.PASSWORD) -> str:
    return f"{quote(dovecot.USER, safe='')}:{quote(password, safe='')}"


@pytest.fixture
def back(house: flask.Flask) -> list[str]:
    """The return addresses of the mails of one issue, by reader."""
    with db.transaction() as session:
        for number in range(READERS):
            make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=NOW - timedelta(days=1))
        issue = make.approved(session)
        issue.state, issue.cut_at = IssueState.SENT, NOW
        ids = session.scalars(select(Subscription.subscriber_id).order_by(Subscription.subscriber_id)).all()
        taken = {"outcome": Outcome.ACCEPTED, "at": NOW, "first_at": NOW, "status": "250"}
        session.add_all(Delivery(issue_id=issue.id, subscriber_id=number, **taken) for number in ids)
        return [links.return_path(issue.id, number) for number in ids]


def read(**chosen: str) -> None:
    settings.use(settings.current().model_copy(update=chosen))
    inbox.read(clock=lambda: NOW, halted=lambda: False)


def states(session: Session) -> list[str]:
    query = select(Subscription).order_by(Subscription.subscriber_id)
    return [row.end_reason or row.state for row in session.scalars(query)]


def now_known() -> tuple[list[str], Counter[str], dict[str, int]]:
    """How readers stand, what was reported, and what was counted only."""
    with db.transaction() as session:
        counts = {row.sort: row.count for row in session.scalars(select(ReportCount))}
        return states(session), Counter(str(kind) for kind in session.scalars(select(Report.kind))), counts


def mails(back: list[str]) -> list[bytes]:
    """Of ten readers each: a dead address, a full mailbox, a complaint."""
    dead = [came_back.bounce(address) for address in back[:10]]
    full = [came_back.bounce(address, "5.2.2", said="mailbox full") for address in back[10:20]]
    spam = [came_back.complaint(f"Return-Path: <{address}>\n") for address in back[20:]]
    return [raw for three in zip(dead, full, spam, strict=True) for raw in three]


AFTER = ["hard_bounce"] * 10 + ["active"] * 10 + ["complaint"] * 10


def test_thirty_mails_are_taken_and_the_mailbox_is_empty_but_for_the_one_that_nothing_can_handle(
    mailbox: dovecot.Dovecot, house: flask.Flask, back: list[str], doorbells: Rung
) -> None:
    """The poisonous one stands in the middle, and holds up nobody behind it."""
    with db.transaction() as session:
        poisonous = session.scalars(select(Subscription.subscriber_id).order_by(Subscription.subscriber_id)).all()[14]
        # What no code of ours foresees: the database itself won't have it.
        session.execute(
            text(
                f"CREATE TRIGGER poison BEFORE INSERT ON reports WHEN NEW.subscriber_id = {poisonous} "
                "BEGIN SELECT RAISE(ABORT, 'poison'); END"
            )
        )
    mailbox.put(mails(back))
    with capture_logs() as logs:
        read()
    assert (mailbox.held(), mailbox.held("FLAGGED")) == (1, 1)
    assert now_known() == (AFTER, Counter(hard=10, soft=9, complaint=10), {"failed": 1})
    assert "lezer" not in str(logs)
    with db.transaction() as session:
        assert hours.last_read(session=session) == NOW

    read()  # it isn't tried again and again
    assert (mailbox.held(), now_known()[2]) == (1, {"failed": 1})

    with db.transaction() as session:
        session.execute(text("DROP TRIGGER poison"))
    with mailbox.opened() as looked_into:
        looked_into.store("1", "-FLAGS", r"(\Flagged)")  # an operator has looked at it
    read()
    assert mailbox.held() == 0
    assert now_known()[1] == Counter(hard=10, soft=10, complaint=10)


class Killed(BaseException):
    """What no code can catch, in the middle of a mail."""


def test_a_mail_that_kills_its_reader_is_set_aside_and_holds_up_nobody(
    mailbox: dovecot.Dovecot, house: flask.Flask, back: list[str], doorbells: Rung
) -> None:
    def dies() -> datetime:
        raise Killed

    mailbox.put(mails(back)[:3])
    with pytest.raises(Killed):
        inbox.read(clock=dies, halted=lambda: False)
    assert (mailbox.held(), mailbox.held("FLAGGED")) == (3, 1)
    read()
    assert (mailbox.held(), mailbox.held("FLAGGED")) == (1, 1)
    assert now_known()[1].total() == 2


def test_what_was_taken_before_the_line_broke_goes_at_the_next_reading(
    mailbox: dovecot.Dovecot, back: list[str], doorbells: Rung
) -> None:
    mailbox.put(mails(back)[:3])
    with mailbox.opened() as broken:
        broken.store("2", "+FLAGS", r"(\Deleted)")
    assert mailbox.held() == 3
    read()
    assert (mailbox.held(), now_known()[1].total()) == (0, 2)


def test_two_that_read_at_once_do_no_harm(
    mailbox: dovecot.Dovecot, house: flask.Flask, back: list[str], doorbells: Rung
) -> None:
    mailbox.put(mails(back))
    barrier = threading.Barrier(2)

    def worker() -> None:
        with house.app_context():
            barrier.wait(10)
            inbox.read(clock=lambda: NOW, halted=lambda: False)
            db.db.session.remove()

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert mailbox.held() == 0
    known, reports, counts = now_known()
    assert (known, reports) == (AFTER, Counter(hard=10, soft=10, complaint=10))
    assert set(counts) <= {"repeated"}


def test_a_mailbox_that_holds_more_than_fits_in_one_go_is_read_again_at_once(
    mailbox: dovecot.Dovecot, back: list[str], doorbells: Rung, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "AT_ONCE", 20)
    monkeypatch.setattr(inbox, "WINDOW", 7)
    mailbox.put([*mails(back), came_back.bounce(back[0], headers="X-Long: x\n" * 200_000)])
    doorbells.clear()
    read()
    assert (mailbox.held(), doorbells) == (11, [(jobs.READ_INBOX, ())])
    doorbells.clear()
    read()
    assert (mailbox.held(), doorbells) == (0, [])
    known, _, counts = now_known()
    assert (known, counts) == (AFTER, {"repeated": 1}), "one of two megabytes is read at its beginning"


def test_while_the_database_is_away_all_stays_in_the_mailbox(
    mailbox: dovecot.Dovecot, house: flask.Flask, back: list[str], doorbells: Rung
) -> None:
    mailbox.put(mails(back)[:3])
    with db.transaction() as session:
        session.execute(text("ALTER TABLE reports RENAME TO elsewhere"))
    with capture_logs() as logs:
        read()
    assert [line["event"] for line in logs] == ["database_away"]
    assert (mailbox.held(), mailbox.held("FLAGGED")) == (3, 0)
    with db.transaction() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO reports"))
    read()
    assert (mailbox.held(), now_known()[1].total()) == (0, 3)


@pytest.mark.parametrize("wrong", ["password", "certificate", "folder", "port"])
def test_a_mailbox_that_is_not_to_be_had_is_said_and_stops_nothing(
    mailbox: dovecot.Dovecot, back: list[str], doorbells: Rung, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    mailbox.put(mails(back)[:1])
    url = f"imaps://{who()}@localhost:{mailbox.tls}/INBOX"
    if wrong == "certificate":
        monkeypatch.delenv("SSL_CERT_FILE")
    url = {
        "password": url.replace(who(), who("wrong")),
        "certificate": url,
        "folder": url.replace("/INBOX", "/Nowhere"),
        "port": url.replace(str(mailbox.tls), "1"),
    }[wrong]
    with capture_logs() as logs:
        read(inbox_url=url)
    assert [line["event"] for line in logs] == ["inbox_unread"]
    assert dovecot.PASSWORD not in str(logs)
    assert mailbox.held() == 1
    with db.transaction() as session:
        assert hours.last_read(session=session) is None


def test_beside_the_mail_server_it_needs_no_tls(mailbox: dovecot.Dovecot, back: list[str], doorbells: Rung) -> None:
    mailbox.put(mails(back)[:1])
    read(inbox_url=f"imap://{who()}@127.0.0.1:{mailbox.plain}")
    assert mailbox.held() == 0


def test_the_tick_has_it_read_each_five_minutes(house: flask.Flask, doorbells: Rung) -> None:
    def tick(later: timedelta) -> list[str]:
        doorbells.clear()
        with db.transaction() as session:
            hours.ring(session=session, now=NOW + later)
        return [name for name, _ in doorbells]

    assert tick(timedelta(0)) == [jobs.READ_INBOX]
    assert tick(timedelta(seconds=299)) == []
    assert tick(timedelta(seconds=300)) == [jobs.READ_INBOX]
    settings.use(settings.current().model_copy(update={"inbox_url": ""}))
    assert tick(timedelta(hours=1)) == []
