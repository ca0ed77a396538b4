"""`vinkje privacy`: where an address stands, how it goes, and how a restored backup is brought back in line."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
import redis
import structlog
from sqlalchemy import JSON, Column, Integer, LargeBinary, MetaData, String, Table, delete, event, func, select
from sqlalchemy.orm import Session

from service import db, heartbeat, settings, throttle
from service.newsroom.models import Editor, EditorState, Role
from service.privacy import erasure, ledger, places
from service.privacy.spellings import Spelled
from service.subscribers import address_change, addresses, confirmation, own_data, signup
from service.subscribers.models import (
    Confirmation,
    EndReason,
    Erasure,
    SignupRequest,
    State,
    Subscriber,
    Subscription,
    Suppression,
    SuppressionReason,
)
from tests import make
from tests.integration.backups import backup, restored
from tests.integration.operator import done, refused, vinkje
from tests.make import NOW

SASKIA = "Saskia.de.Vries@gemeente.example"
KEY = SASKIA.lower()

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture
def folder(app: flask.Flask, tmp_path: Path) -> Path:
    settings.use(settings.current().model_copy(update={"data_dir": tmp_path}))
    return tmp_path


def lines(said: str) -> dict[str, int]:
    """place → how often, of what can be read."""
    return {place: int(count) for place, count, *mark in (line.split("\t") for line in said.splitlines()) if not mark}


def marked(said: str) -> set[str]:
    return {line.split("\t")[0] for line in said.splitlines() if line.endswith("can't be read back")}


def joined(email: str = SASKIA, at: datetime = NOW) -> int:
    with db.transaction() as session:
        make.theme(session)
        signup.sign_up(session=session, now=at, email=email, slugs=["innovatie"], language="nl", network=email)
        asked = session.scalars(select(Confirmation).order_by(Confirmation.id.desc())).first()
        assert asked is not None
        confirmation.confirm(session=session, now=at, confirmation_id=asked.id)
        return asked.subscriber_id


def test_find_erase_and_find_again(folder: Path) -> None:
    joined()
    (folder / "mailbox").mkdir()
    mail = folder / "mailbox" / "01795000000000000000.eml"
    mail.write_bytes(b"To: saskia.de.=\r\nvries@gemeente.example\r\n\r\nHallo\r\n")
    (folder / "notes.txt").write_bytes(b"body=" + base64.b64encode(b"xx" + SASKIA.encode()))
    where = {"subscribers.email": 1, "subscribers.email_key": 1, "file notes.txt": 1, f"file mailbox/{mail.name}": 1}
    app = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    found = vinkje(app, "privacy", "find", SASKIA.upper(), "--gone")
    assert (found.exit_code, lines(found.stdout), marked(found.stdout)) == (1, where, {"attempts.who"})
    assert json.loads(done(app, "privacy", "find", SASKIA, "--json"))["places"] == where

    first = vinkje(app, "privacy", "erase", SASKIA, "--yes")
    assert (first.exit_code, lines(first.stdout)) == (1, {"file notes.txt": 1})
    assert "Places: 1" in first.stderr  # what somebody put there by hand stays theirs to remove
    (folder / "notes.txt").unlink()
    said = done(app, "privacy", "find", SASKIA, "--gone")
    assert (lines(said), marked(said)) == ({}, {"attempts.who", "erasures.address_hash"})
    held = json.loads(done(app, "privacy", "export", SASKIA))
    assert {name for name, told in held["marks"].items() if told} == {"tries", "erasures"}


def test_erase_asks_first(app: flask.Flask) -> None:
    joined()
    result = vinkje(app, "privacy", "erase", SASKIA)  # nobody answers
    assert result.exit_code == 1
    assert f"Erase everything about {SASKIA}?" in result.stderr
    assert json.loads(done(app, "privacy", "export", SASKIA.upper()))["address"] == SASKIA


def test_a_slip_of_the_pen_erases_nobody_and_says_so(app: flask.Flask) -> None:
    joined()
    assert "This address stands nowhere" in refused(app, "privacy", "erase", "sakia@gemeente.example", "--yes")
    with db.transaction() as session:
        assert session.scalars(select(Erasure)).all() == []


def test_each_try_of_an_address_is_found(app: flask.Flask) -> None:
    """Whoever counts tries under another name is found too: the table says which names there are."""
    number = joined()
    with db.transaction() as session:
        own_data.ask(session=session, now=NOW, subscriber_id=number)
        address_change.ask(session=session, now=NOW, subscriber_id=number, email="saskia@nieuw.example")
        throttle.note(session=session, kind="added later", who=KEY, now=NOW)
        kinds = set(session.scalars(select(throttle.Attempt.kind)))
    assert {signup.MAILED, own_data.ASKED, address_change.ASKED, "added later"} <= kinds
    found = json.loads(done(app, "privacy", "find", SASKIA, "--json"))
    assert found["marks"] == {"attempts.who": 4}
    assert json.loads(done(app, "privacy", "find", "saskia@nieuw.example", "--json"))["marks"] == {"attempts.who": 1}


def test_a_reader_s_erasure_is_searched_for_once(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is left, after it. Before it, only the address of nobody is looked for: it may be spelled wrong."""
    searches: list[Spelled] = []
    search = places.in_tables

    def noted(*, session: Session, spelled: Spelled) -> Counter[str]:
        searches.append(spelled)
        return search(session=session, spelled=spelled)

    monkeypatch.setattr(places, "in_tables", noted)
    joined()
    done(app, "privacy", "erase", SASKIA, "--yes")
    assert len(searches) == 1
    with db.transaction() as session:
        make.item(session, body="Mail bo@gemeente.example.")
    assert "Places: 1" in vinkje(app, "privacy", "erase", "bo@gemeente.example", "--yes").stderr
    assert len(searches) == 3


def test_what_is_no_address_is_refused(app: flask.Flask) -> None:
    for command in ("find", "export"):
        assert "no e-mail address" in refused(app, "privacy", command, "saskia")


def test_a_name_in_the_newsroom_is_found_and_not_taken(app: flask.Flask) -> None:
    with db.transaction() as session:
        session.add(
            Editor(email=KEY, name="Saskia", role=Role.CHIEF, state=EditorState.ACTIVE, created_at=NOW, language="nl")
        )
        make.item(session, body=f"Vragen? Mail %73askia.de.vries%40gemeente.example of {SASKIA}.")
    result = vinkje(app, "privacy", "erase", SASKIA, "--yes")
    assert (result.exit_code, set(lines(result.stdout))) == (1, {"editors.email", "items.body"})


@pytest.fixture
def added(app: flask.Flask) -> Iterator[Table]:
    """A table that nobody told anything about."""
    table = Table(
        "later", MetaData(), Column("id", Integer, primary_key=True), Column("note", String(9999)),
        Column("raw", LargeBinary), Column("more", JSON),
    )  # fmt: skip
    table.create(db.db.engine)
    yield table
    db.reading().rollback()
    table.drop(db.db.engine)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("note", f"aan {SASKIA.upper()}, graag"),
        ("note", "aan=saskia.de.vries%40gemeente.example"),
        ("note", "Beste saskia.de.vries=\r\n@gemeente.example,"),
        ("note", base64.encodebytes(b"Een regel van een mail, en dan " + SASKIA.encode()).decode()),
        ("more", {"to": [{"name": "Saskia", "mail": SASKIA}]}),
        ("raw", b"\x00\xff" + SASKIA.encode() + b"\x00"),
    ],
)
def test_a_table_that_is_added_later_is_searched_too(added: Table, column: str, value: object) -> None:
    with db.transaction() as session:
        session.execute(added.insert().values({column: value}))
        session.execute(added.insert().values(note="x" + SASKIA, more={"to": KEY + ".org"}, raw=b"x" + KEY.encode()))
    found = places.in_tables(session=db.reading(), spelled=Spelled(SASKIA))
    assert found == {f"later.{column}": 1}


def test_every_table_of_ours_is_looked_into(app: flask.Flask) -> None:
    looked = {f"{table.name}.{column.name}" for table in places._tables(db.reading()) for column in table.columns}
    texts = {
        f"{table.name}.{column.name}"
        for table in db.Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, String | JSON)
    }
    assert texts
    assert texts <= looked


@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "hash", "stream", "key"])
def test_each_kind_of_key_in_redis_is_searched(app: flask.Flask, valkey: str, kind: str) -> None:
    settings.use(settings.current().model_copy(update={"redis_url": valkey}))
    message = json.dumps({"body": base64.b64encode(json.dumps([SASKIA]).encode()).decode()})
    with redis.Redis.from_url(valkey) as client:
        client.flushdb()
        client.set("other", "x" + SASKIA)
        match kind:
            case "string":
                client.set("here", message)
            case "list":
                client.rpush("here", "a", message)
            case "set":
                client.sadd("here", "a", message)
            case "zset":
                client.zadd("here", {message: 1})
            case "hash":
                client.hset("here", "a", message)
            case "stream":
                client.xadd("here", {"a": message})
            case _:
                client.set(f"here:{SASKIA}", "1")
        found = places.in_redis(spelled=Spelled(SASKIA))
        client.flushdb()
    assert [name.split()[0] + name.split()[1][:4] for name in found] == ["redishere"]


def test_what_cant_be_searched_is_said(app: flask.Flask) -> None:
    settings.use(settings.current().model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    assert "Redis can’t be searched" in refused(app, "privacy", "find", SASKIA)


# The ledger.


def copied() -> str:
    """What the tick keeps in DATA_DIR."""
    return (settings.current().data_dir / ledger.FILE).read_text()


def tick(now: datetime) -> None:
    with db.transaction() as session:
        ledger.keep(session=session, now=now)


def erase(number: int, at: datetime) -> None:
    with db.transaction() as session:
        erasure.erase(session=session, now=at, subscriber_id=number)


def test_the_ledger_names_nobody_and_can_be_read(app: flask.Flask, folder: Path) -> None:
    erase(joined(), NOW + timedelta(hours=1))
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key="bo@x.example", reason=SuppressionReason.COMPLAINT)
    said = done(app, "privacy", "ledger")
    rows = [row for row in csv.reader(io.StringIO(said)) if row[0] != "number"]
    assert [row[0] for row in rows] == ["what", "erasure", "suppression", "written"]
    assert rows[1][2:] == ["", "2026-11-24T10:00:00+00:00"]
    assert rows[2][2:] == ["complaint", "2026-11-24T09:00:00+00:00"]
    assert "@" not in said
    assert not Spelled(SASKIA).inside(said.encode())
    found = ledger.read(io.StringIO(said))
    assert (len(found.erasures), len(found.suppressions), found.used["subscribers"] > 0) == (1, 1, True)


def test_the_tick_keeps_a_copy_when_something_changed(app: flask.Flask, folder: Path) -> None:
    tick(NOW)
    first = copied()
    tick(NOW + timedelta(minutes=1))
    assert copied() == first
    erase(joined(), NOW)
    tick(NOW + timedelta(minutes=2))
    assert "erasure," in copied()
    assert (folder / ledger.FILE).stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir()] == [ledger.FILE]


def test_a_tick_reads_no_marks_when_nothing_changed(app: flask.Flask, folder: Path) -> None:
    said: list[str] = []

    def hear(*seen: object) -> None:
        said.append(str(seen[2]))

    erase(joined(), NOW)
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key="bo@x.example", reason=SuppressionReason.COMPLAINT)
    tick(NOW)
    event.listen(db.db.engine, "before_cursor_execute", hear)
    try:
        tick(NOW + timedelta(minutes=1))
        quiet = [one for one in said if "address_hash" in one]
        tick(NOW + timedelta(hours=1))
    finally:
        event.remove(db.db.engine, "before_cursor_execute", hear)
    assert quiet == []
    assert [one for one in said if "address_hash" in one] != []  # now and then all the same


def test_whatever_changes_is_seen_by_the_next_tick(app: flask.Flask, folder: Path) -> None:
    with db.transaction() as session:
        for key in (KEY, "bo@x.example"):
            addresses.suppress(session=session, now=NOW, email_key=key, reason=SuppressionReason.COMPLAINT)
    tick(NOW)
    first = copied()
    with db.transaction() as session:  # as a replay does: another reason, of long ago
        row = session.scalars(select(Suppression).order_by(Suppression.address_hash)).all()[0]
        row.reason, row.at = SuppressionReason.BLOCKED, NOW - timedelta(days=1)
    tick(NOW + timedelta(minutes=1))
    assert copied() != first
    with db.transaction() as session:
        addresses.lift(session=session, email_key=KEY)
        addresses.lift(session=session, email_key="bo@x.example")
    tick(NOW + timedelta(minutes=2))
    assert copied().count("suppression") == 1
    kept = copied()
    (folder / ledger.FILE).unlink()
    tick(NOW + timedelta(minutes=3))
    assert copied().splitlines()[:-1] == kept.splitlines()[:-1]


@pytest.mark.parametrize(
    "spoiled",
    [
        "",
        "email,themes\n",
        "what,of,value,at\nerasure,kort,,2026-11-24T09:00:00+00:00\n",
        "what,of,value,at\nwritten\n",
    ],
)
def test_half_a_ledger_passes_for_none(app: flask.Flask, tmp_path: Path, spoiled: str) -> None:
    file = tmp_path / "ledger.csv"
    file.write_text(spoiled)
    assert "ledger" in refused(app, "privacy", "replay", file)
    whole = done(app, "privacy", "ledger")
    file.write_text(whole[: whole.rindex("written")])
    assert "Is it whole?" in refused(app, "privacy", "replay", file)


def states() -> dict[str, tuple[State, EndReason | None]]:
    query = select(Subscriber.email, Subscription.state, Subscription.end_reason)
    with db.transaction() as session:
        rows = session.execute(query.join(Subscription, Subscription.subscriber_id == Subscriber.id))
        return {email: (state, reason) for email, state, reason in rows}


def test_a_restored_backup_is_brought_back_in_line(app: flask.Flask, folder: Path) -> None:
    """One was erased after the backup; one complained; one came anew between an erasure and the backup; one stayed."""
    came_anew, complained, stayed = "anew@x.example", "complained@x.example", "stayed@x.example"
    now = datetime.now(UTC)
    erase(joined(came_anew, at=now - timedelta(days=50)), now - timedelta(days=40))
    for email in (came_anew, complained, stayed):
        joined(email, at=now - timedelta(days=10))
    number = joined(at=now - timedelta(days=10))
    kept = backup()
    erase(number, now - timedelta(days=1))
    with db.transaction() as session:
        addresses.suppress(
            session=session, now=now - timedelta(days=1), email_key=complained, reason=SuppressionReason.COMPLAINT
        )
        addresses.suppress(session=session, now=now, email_key="gone@x.example", reason=SuppressionReason.BLOCKED)
    later = joined("later@x.example", at=now - timedelta(hours=1))
    tick(now)
    told = copied()

    with db.transaction() as session:
        restored(session, kept)
    assert SASKIA in states()
    tick(now + timedelta(minutes=1))
    assert copied() == told  # the tick doesn't forget what the database has forgotten

    said = done(app, "privacy", "replay", folder / ledger.FILE)
    assert said.startswith(
        "1 readers erased again, 1 not to be mailed any more, 0 themes left again.\nRow numbers moved"
    )
    assert states() == {
        came_anew: (State.ACTIVE, None),
        complained: (State.ENDED, EndReason.COMPLAINT),
        stayed: (State.ACTIVE, None),
    }
    assert set(lines(done(app, "privacy", "find", SASKIA, "--gone"))) == set()
    with db.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Suppression)) == 2
        assert session.scalar(select(func.count()).select_from(Erasure)) == 2
        assert addresses.blocked(session=session, email_key="gone@x.example")
    assert joined("new@x.example", at=datetime.now(UTC)) > later  # a link of who came later opens nobody's page

    assert done(app, "privacy", "replay", folder / ledger.FILE).startswith("0 readers erased again, 0 not")
    tick(datetime.now(UTC))
    assert copied() != told


def unreplayed(now: datetime) -> int:
    """How often a tick says that the copy wasn't replayed."""
    with structlog.testing.capture_logs() as logged:
        tick(now)
    return [line["event"] for line in logged].count("ledger_not_replayed")


def test_an_older_copy_doesnt_destroy_the_newer_one(app: flask.Flask, folder: Path, tmp_path: Path) -> None:
    """Two were erased since the backup, and the copy beside it knows of one."""
    now = datetime.now(UTC)
    first, second = (joined(email, at=now - timedelta(days=10)) for email in ("first@x.example", "second@x.example"))
    kept = backup()
    erase(first, now - timedelta(days=2))
    tick(now - timedelta(days=2))
    older = tmp_path / "older.csv"
    older.write_text(copied())
    erase(second, now - timedelta(days=1))
    tick(now - timedelta(days=1))
    told = copied()

    with db.transaction() as session:
        restored(session, kept)
    assert unreplayed(now) == 1
    assert done(app, "privacy", "replay", older).startswith("1 readers erased again")
    assert unreplayed(now + timedelta(minutes=1)) == 1  # it is said again: there is more to replay
    assert unreplayed(now + timedelta(minutes=2)) == 0
    assert copied() == told
    assert set(states()) == {"second@x.example"}

    assert done(app, "privacy", "replay", folder / ledger.FILE).startswith("1 readers erased again")
    assert done(app, "privacy", "replay", older).startswith("0 readers erased again")
    assert states() == {}
    joined("new@x.example", at=now)
    tick(now + timedelta(minutes=3))
    assert copied() != told  # it follows again


def test_who_came_back_after_a_complaint_stays(app: flask.Flask, folder: Path) -> None:
    """The file is old: since then the reader pressed the button again, which lifts a complaint."""
    number = joined(at=NOW)
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=KEY, reason=SuppressionReason.COMPLAINT)
    (folder / "old.csv").write_text(done(app, "privacy", "ledger"))
    with db.transaction() as session:
        addresses.lift(session=session, email_key=KEY)
    again = NOW + timedelta(days=1)
    with db.transaction() as session:
        signup.sign_up(session=session, now=again, email=SASKIA, slugs=["innovatie"], language="nl", network="y")
        make.theme(session, "zorg")
        session.get_one(Subscriber, number)
        consented = session.scalars(select(Confirmation.id).order_by(Confirmation.id.desc())).first()
        assert consented is not None
        confirmation.confirm(session=session, now=again, confirmation_id=consented)
        session.get_one(Subscriber, number).created_at = again
    done(app, "privacy", "replay", folder / "old.csv")
    assert states() == {SASKIA: (State.ACTIVE, None)}
    with db.transaction() as session:
        assert addresses.suppressed(session=session, email_keys=[KEY]) == set()


def test_a_complaint_since_the_backup_is_stronger_than_the_bounce_in_it(app: flask.Flask, folder: Path) -> None:
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=KEY, reason=SuppressionReason.COMPLAINT)
    (folder / "new.csv").write_text(done(app, "privacy", "ledger"))
    with db.transaction() as session:  # the backup
        session.execute(delete(Suppression))
        addresses.suppress(
            session=session, now=NOW - timedelta(days=1), email_key=KEY, reason=SuppressionReason.HARD_BOUNCE
        )
    done(app, "privacy", "replay", folder / "new.csv")
    with db.transaction() as session:
        assert session.scalars(select(Suppression.reason)).all() == [SuppressionReason.COMPLAINT]


def test_a_ledger_that_cant_be_kept_stops_nobody(app: flask.Flask, folder: Path) -> None:
    (folder / ledger.FILE).write_text("spoiled")
    tick(NOW)
    assert copied() == "spoiled"
    with db.transaction() as session:
        assert heartbeat.last(session=session, name=ledger.WRITTEN) is None
        assert session.scalars(select(SignupRequest)).all() == []
