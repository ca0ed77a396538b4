"""Who left a theme after the backup that is put back: the ledger remembers it, and they don't get it again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
import structlog
from sqlalchemy import delete, select

from service import db, heartbeat, links, settings
from service.privacy import erasure, forgetting, ledger
from service.privacy.spellings import Spelled
from service.subscribers import addresses, confirmation, leavings, signup, unsubscribe
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    EndReason,
    State,
    Subscriber,
    Subscription,
    SuppressionReason,
)
from service.themes import Theme
from tests import make
from tests.integration.backups import backup, restored
from tests.integration.operator import done

SASKIA, BO = "Saskia.de.Vries@gemeente.example", "bo@gemeente.example"
BEFORE = datetime.now(UTC) - timedelta(days=10)
DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture(autouse=True)
def folder(app: flask.Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(ledger, "_told", [])  # a process says once of two moments that the ledger wasn't replayed
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"data_dir": tmp_path}))
    yield tmp_path
    settings.use(chosen)


def joined(email: str = SASKIA, *slugs: str, at: datetime = BEFORE) -> int:
    with db.transaction() as session:
        for slug in slugs:
            make.theme(session, slug)
        signup.sign_up(session=session, now=at, email=email, slugs=list(slugs), language="nl", network=f"{email} {at}")
        asked = session.scalars(select(Confirmation).order_by(Confirmation.id.desc())).first()
        assert asked is not None
        confirmation.confirm(session=session, now=at, confirmation_id=asked.id)
        return asked.subscriber_id


def leaves(number: int, slug: str, at: datetime) -> None:
    with db.transaction() as session:
        theme_id = make.theme(session, slug).id
        unsubscribe.leave(session=session, now=at, subscriber_id=number, theme_id=theme_id, channel=Channel.ONE_CLICK)


def tick(now: datetime) -> list[str]:
    """What is said."""
    with structlog.testing.capture_logs() as logged, db.transaction() as session:
        ledger.keep(session=session, now=now)
    return [str(line["event"]) for line in logged]


def states() -> dict[tuple[str, str], tuple[State, EndReason | None]]:
    query = select(Subscriber.email, Theme.slug, Subscription.state, Subscription.end_reason)
    query = query.join(Subscription, Subscription.subscriber_id == Subscriber.id)
    with db.transaction() as session:
        rows = session.execute(query.join(Theme, Theme.id == Subscription.theme_id)).all()
        return {(email, slug): (state, reason) for email, slug, state, reason in rows}


ACTIVE, LEFT = (State.ACTIVE, None), (State.ENDED, EndReason.UNSUBSCRIBED)


def test_who_left_a_theme_is_out_of_it_again(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "innovatie", "zorg")
    joined(BO, "zorg")
    kept = backup()
    left_at = BEFORE + 2 * DAY
    leaves(number, "zorg", left_at)
    tick(BEFORE + 3 * DAY)
    told = (folder / ledger.FILE).read_text()

    with db.transaction() as session:
        restored(session, kept)
    assert tick(BEFORE + 4 * DAY) == ["ledger_not_replayed"]
    assert (folder / ledger.FILE).read_text() == told, "who left is all that the copy knows more, and it isn't lost"
    said = done(app, "privacy", "replay", folder / ledger.FILE)
    assert said.startswith("0 readers erased again, 0 not to be mailed any more, 1 themes left again.\n")
    assert states() == {(SASKIA, "innovatie"): ACTIVE, (SASKIA, "zorg"): LEFT, (BO, "zorg"): ACTIVE}
    with db.transaction() as session:
        row = session.scalars(select(Consent).order_by(Consent.id.desc())).first()
        assert row is not None
        assert (row.event, row.channel, row.at) == ("withdrawn", Channel.LEDGER, left_at), "we know when, and not how"
    assert done(app, "privacy", "replay", folder / ledger.FILE).startswith("0 readers erased again, 0 not to be")
    assert tick(BEFORE + 5 * DAY) == []


def test_who_came_back_after_the_ledger_was_written_stays(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "zorg")
    leaves(number, "zorg", BEFORE + DAY)
    tick(BEFORE + DAY)
    joined(SASKIA, "zorg", at=BEFORE + 2 * DAY)
    done(app, "privacy", "replay", folder / ledger.FILE)
    assert states() == {(SASKIA, "zorg"): ACTIVE}


def test_who_came_back_for_one_theme_after_a_complaint_doesnt_get_the_other(app: flask.Flask, folder: Path) -> None:
    """The new sign-up lifts the complaint, so that mark isn't there to say it."""
    number = joined(SASKIA, "innovatie", "zorg")
    kept = backup()
    with db.transaction() as session:
        addresses.suppress(
            session=session, now=BEFORE + DAY, email_key=SASKIA.lower(), reason=SuppressionReason.COMPLAINT
        )
        unsubscribe.end_all(
            session=session, now=BEFORE + DAY, subscriber_id=number, reason=EndReason.COMPLAINT, channel=Channel.REPORT
        )
    joined(SASKIA, "zorg", at=BEFORE + 2 * DAY)
    tick(BEFORE + 3 * DAY)
    with db.transaction() as session:
        restored(session, kept)
    done(app, "privacy", "replay", folder / ledger.FILE)
    assert states() == {(SASKIA, "innovatie"): LEFT, (SASKIA, "zorg"): ACTIVE}


def test_who_left_is_out_while_a_strangers_form_waits_and_after_it(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "zorg")
    kept = backup()
    leaves(number, "zorg", BEFORE + DAY)
    with db.transaction() as session:
        signup.sign_up(session=session, now=BEFORE + 2 * DAY, email=SASKIA, slugs=["zorg"], language="nl", network="x")
    for later in (2, 6):
        with db.transaction() as session:
            confirmation.expire(session=session, now=BEFORE + later * DAY)
        tick(BEFORE + later * DAY)
        assert "left," in (folder / ledger.FILE).read_text()
    with db.transaction() as session:
        restored(session, kept)
    done(app, "privacy", "replay", folder / ledger.FILE)
    assert states() == {(SASKIA, "zorg"): LEFT}


def test_the_ledger_names_nobody_and_forgets_as_backups_do(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "zorg")
    left_at = BEFORE + DAY
    leaves(number, "zorg", left_at)
    tick(left_at)
    said = (folder / ledger.FILE).read_text()
    assert said.count("left,") == 1
    assert "zorg" not in said
    assert not Spelled(SASKIA).inside(said.encode())
    with db.transaction() as session:
        assert ledger.of(session=session, now=left_at + forgetting.ERASURES).left != {}
        assert ledger.of(session=session, now=left_at + forgetting.ERASURES + timedelta(seconds=1)).left == {}


def test_an_old_mark_that_the_database_lets_go_is_no_restored_backup(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "zorg")
    leaves(number, "zorg", BEFORE)
    tick(BEFORE)
    with db.transaction() as session:  # as a process that dies just after writing leaves it
        session.execute(delete(heartbeat.Heartbeat))
    late = BEFORE + forgetting.ERASURES + DAY
    assert tick(late) == []
    assert "left," not in (folder / ledger.FILE).read_text()


def test_a_tick_that_was_killed_is_no_restored_backup_later(app: flask.Flask, folder: Path) -> None:
    """It wrote the copy, and the database never heard of it."""
    number, other = joined(SASKIA, "zorg", "innovatie"), joined(BO, "zorg")
    tick(BEFORE)
    leaves(number, "zorg", BEFORE + DAY)
    early = backup()
    with contextlib.suppress(InterruptedError), db.transaction() as session:
        ledger.keep(session=session, now=BEFORE + DAY)
        raise InterruptedError
    assert tick(BEFORE + DAY + timedelta(minutes=1)) == []

    joined(SASKIA, "zorg", at=BEFORE + 2 * DAY)  # a mark goes
    assert tick(BEFORE + 2 * DAY) == []
    leaves(other, "zorg", BEFORE + 3 * DAY)  # and one comes
    assert tick(BEFORE + 3 * DAY) == []
    told = (folder / ledger.FILE).read_text()
    assert told.count("left,") == 1
    with db.transaction() as session:
        restored(session, early)
    assert tick(BEFORE + 4 * DAY) == ["ledger_not_replayed"], "and a backup that was put back is known for one"
    assert (folder / ledger.FILE).read_text() == told


def test_its_mark_is_found_and_goes_with_the_reader(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "zorg", "innovatie")
    leaves(number, "zorg", BEFORE + DAY)
    tick(BEFORE + DAY)
    found = json.loads(done(app, "privacy", "find", SASKIA, "--json"))["marks"]
    assert found == {"attempts.who": 1, f"file {ledger.FILE}": 1}
    with db.transaction() as session:
        erasure.erase(session=session, now=BEFORE + 2 * DAY, subscriber_id=number)
    tick(BEFORE + 2 * DAY)
    kept = (folder / ledger.FILE).read_text()
    assert ("left," in kept, "erasure," in kept) == (False, True)


def test_a_new_secret_key_knows_who_left_under_the_old_one(app: flask.Flask, folder: Path) -> None:
    number = joined(SASKIA, "zorg")
    kept = backup()
    leaves(number, "zorg", BEFORE + DAY)
    tick(BEFORE + DAY)
    with db.transaction() as session:
        restored(session, kept)
    older = settings.current()
    changed = {
        "secret_key": "another secret, of more than 32 characters too",
        "secret_keys_previous": (older.secret_key,),
    }
    settings.use(older.model_copy(update=changed))
    try:
        assert len(leavings.marks(email_key=SASKIA.lower(), slug="zorg")) == len(links.keyed_hashes("any", "x"))
        done(app, "privacy", "replay", folder / ledger.FILE)
    finally:
        settings.use(older)
    assert states() == {(SASKIA, "zorg"): LEFT}
