from __future__ import annotations

import csv
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from service import db, settings, themes
from service.subscribers import addresses, confirmation, consent, preferences, signup, unsubscribe
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    ConsentEvent,
    State,
    Subscriber,
    Subscription,
    SuppressionReason,
)
from tests import make
from tests.integration.operator import refused, vinkje

HEADER = "email,themes,language,consented_at,consent_source\n"
GOOD = "saskia@gemeente.example,innovatie;zorg,nl,2024-05-01,beurs Gent 2024\n"
NOW = datetime.now(UTC)  # the command's clock is the real one
Import = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "readers.csv"


@pytest.fixture
def take(app: flask.Flask, file: Path) -> Import:
    """Import a text or bytes; gives the counts that the command prints."""
    with db.transaction() as session:
        for slug in ("innovatie", "zorg"):
            make.theme(session, slug)
        themes.retire(session=session, slug=make.theme(session, "oud").slug, now=NOW)

    def run(content: str | bytes) -> str:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        result, beside = vinkje(app, "subscriber", "import", file), file.with_suffix(".refused.csv")
        summary, *more = result.stdout.splitlines()
        assert more == ([f"The reasons stand in {beside}."] if beside.exists() else [])
        assert result.exit_code == (4 if beside.exists() else 0)
        assert result.stderr == ""
        return summary

    return run


def counts(added: int = 0, already: int = 0, partly: int = 0, refused: int = 0) -> str:
    return f"{added} lines added, {already} already there, {partly} added in part, {refused} refused."


def reasons(file: Path) -> dict[int, str]:
    with file.with_suffix(".refused.csv").open(encoding="utf-8", newline="") as source:
        return {int(row["line"]): row["reason"] for row in csv.DictReader(source)}


def states() -> dict[tuple[str, str], State]:
    """(address, slug) → state."""
    query = (
        select(Subscriber.email, themes.Theme.slug, Subscription.state)
        .join(Subscription, Subscription.subscriber_id == Subscriber.id)
        .join(themes.Theme, themes.Theme.id == Subscription.theme_id)
    )
    db.reading().rollback()
    return {(email, slug): state for email, slug, state in db.reading().execute(query)}


def evidence() -> list[Consent]:
    db.reading().rollback()
    return list(db.reading().scalars(select(Consent).where(Consent.event == ConsentEvent.IMPORTED)))


def test_readers_come_in_with_their_evidence(take: Import, file: Path) -> None:
    assert take(HEADER + GOOD + "Bo@Bücher.example,zorg,en,2024-05-01T10:00:00+02:00,form\n") == counts(added=2)
    assert states() == {
        ("saskia@gemeente.example", "innovatie"): State.ACTIVE,
        ("saskia@gemeente.example", "zorg"): State.ACTIVE,
        ("Bo@xn--bcher-kva.example", "zorg"): State.ACTIVE,
    }
    first = next(row for row in evidence() if row.source == "beurs Gent 2024")
    assert first.channel is Channel.IMPORT
    assert first.at == datetime(2024, 4, 30, 22, 0, tzinfo=UTC)  # a date is its first moment in Amsterdam
    assert (first.wording, first.wording_hash) == (f"{consent.IMPORT}.nl", consent.wording(consent.IMPORT, "nl").hash)
    readers = db.reading().scalars(select(Subscriber).order_by(Subscriber.id)).all()
    assert [reader.language for reader in readers] == ["nl", "en"]
    assert readers[1].email_key == "bo@xn--bcher-kva.example"
    assert not file.with_suffix(".refused.csv").exists()


def test_a_second_run_changes_nothing(take: Import) -> None:
    take(HEADER + GOOD)
    before = (states(), len(evidence()), db.reading().scalar(select(func.max(Subscription.confirmed_at))))
    assert take(HEADER + GOOD) == counts(already=1)
    assert (states(), len(evidence()), db.reading().scalar(select(func.max(Subscription.confirmed_at)))) == before


def test_one_address_on_several_lines_is_one_reader(take: Import) -> None:
    lines = (
        "saskia@gemeente.example,innovatie,nl,2024-05-01,one\n"
        "SASKIA@gemeente.example,zorg,en,2024-05-02,two\n"
        "saskia@GEMEENTE.example,zorg;innovatie,nl,2024-05-03,three\n"
    )
    assert take(HEADER + lines) == counts(added=2, already=1)
    assert len(states()) == 2
    assert sorted(row.source for row in evidence()) == ["one", "two"]
    assert db.reading().scalar(select(func.count(Subscriber.id))) == 1


def test_who_has_the_theme_is_left_alone(take: Import) -> None:
    with db.transaction() as session:
        make.reader(session, "saskia@gemeente.example", "innovatie", language="en", at=NOW - timedelta(days=9))
    assert take(HEADER + GOOD) == counts(added=1)
    assert [row.theme_id for row in evidence()] == [themes.by_slug(session=db.reading(), slug="zorg").id]
    assert db.reading().scalars(select(Subscriber.language)).one() == "en"
    oldest = db.reading().scalar(select(func.min(Subscription.confirmed_at)))
    assert oldest == NOW - timedelta(days=9)


def test_a_request_that_waits_becomes_active_with_evidence(take: Import) -> None:
    with db.transaction() as session:
        signup.sign_up(
            session=session,
            now=NOW,
            email="saskia@gemeente.example",
            slugs=["zorg"],
            language="nl",
            network="192.0.2.0/24",
        )
    assert take(HEADER + GOOD) == counts(added=1)
    assert set(states().values()) == {State.ACTIVE}
    assert len(evidence()) == 2
    with db.transaction() as session:
        asked = session.scalars(select(Confirmation)).one()
        confirmation.confirm(session=session, now=NOW, confirmation_id=asked.id)
        confirmation.expire(session=session, now=NOW + timedelta(days=99))
    assert set(states().values()) == {State.ACTIVE}


def test_who_left_is_not_brought_back(take: Import, file: Path) -> None:
    take(HEADER + GOOD)
    with db.transaction() as session:
        reader = session.scalars(select(Subscriber)).one()
        zorg = themes.by_slug(session=session, slug="zorg")
        unsubscribe.leave(
            session=session, now=NOW, subscriber_id=reader.id, theme_id=zorg.id, channel=Channel.ONE_CLICK
        )
    assert take(HEADER + GOOD) == counts(refused=1)
    assert states()["saskia@gemeente.example", "zorg"] is State.ENDED
    assert reasons(file)[2].startswith("Left zorg earlier")
    # Nor when somebody typed the address into the form since.
    with db.transaction() as session:
        signup.sign_up(
            session=session,
            now=NOW,
            email="saskia@gemeente.example",
            slugs=["zorg"],
            language="nl",
            network="192.0.2.0/24",
        )
    assert take(HEADER + GOOD) == counts(refused=1)
    assert states()["saskia@gemeente.example", "zorg"] is State.PENDING


def test_a_line_of_which_a_part_can_be_taken_says_which_part_not(take: Import, file: Path) -> None:
    with db.transaction() as session:
        reader = make.reader(session, "saskia@gemeente.example", "zorg")
        unsubscribe.leave_all(session=session, now=NOW, subscriber_id=reader.id, channel=Channel.PREFERENCES)
    assert take(HEADER + GOOD) == counts(partly=1)
    assert states()["saskia@gemeente.example", "innovatie"] is State.ACTIVE
    assert states()["saskia@gemeente.example", "zorg"] is State.ENDED
    assert reasons(file)[2].startswith("Left zorg earlier")


@pytest.mark.parametrize("reason", SuppressionReason)
def test_suppression_wins(take: Import, file: Path, reason: SuppressionReason) -> None:
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key="saskia@gemeente.example", reason=reason)
    assert take(HEADER + GOOD) == counts(refused=1)
    assert states() == {}
    assert "may not be mailed" in reasons(file)[2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("saskia,innovatie,nl,2024-05-01,beurs", "no e-mail address"),
        (f"{'a' * 300}@gemeente.example,innovatie,nl,2024-05-01,beurs", "too long"),
        ("säskia@gemeente.example,innovatie,nl,2024-05-01,beurs", "before the @"),
        (",innovatie,nl,2024-05-01,beurs", "Fill in"),
        ("saskia@gemeente.example,onbekend,nl,2024-05-01,beurs", "no open theme onbekend"),
        ("saskia@gemeente.example,innovatie;oud,nl,2024-05-01,beurs", "no open theme oud"),
        ("saskia@gemeente.example,saskia@gemeente.example,nl,2024-05-01,beurs", "slugs"),
        ("saskia@gemeente.example,,nl,2024-05-01,beurs", "no theme"),
        ("saskia@gemeente.example,;,nl,2024-05-01,beurs", "no theme"),
        ("saskia@gemeente.example,innovatie,de,2024-05-01,beurs", "nl or en"),
        ("saskia@gemeente.example,innovatie,nl,,beurs", "must be a date"),
        ("saskia@gemeente.example,innovatie,nl,1 mei 2024,beurs", "must be a date"),
        ("saskia@gemeente.example,innovatie,nl,2024-02-30,beurs", "must be a date"),
        ("saskia@gemeente.example,innovatie,nl,2999-01-01,beurs", "in the future"),
        ("saskia@gemeente.example,innovatie,nl,0001-01-01,beurs", "date"),
        ("saskia@gemeente.example,innovatie,nl,2024-05-01,", "consent_source"),
        (f"saskia@gemeente.example,innovatie,nl,2024-05-01,{'x' * 201}", "consent_source"),
        ("saskia@gemeente.example,innovatie,nl,2024-05-01,a\x00b", "consent_source"),
        ("saskia@gemeente.example,innovatie,nl,2024-05-01", "4 fields instead of 5"),
        ("saskia@gemeente.example,innovatie,zorg,nl,2024-05-01,beurs", "6 fields instead of 5"),
        ('saskia@gemeente.example,"innovatie,nl,2024-05-01,beurs', "quotes"),
        (f"saskia@gemeente.example,innovatie,nl,2024-05-01,{'x' * 50_000}", "too long"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_the_others_go_on(
    take: Import, file: Path, line: str, reason: str
) -> None:
    other = "bo@gemeente.example,zorg,nl,2024-05-01,beurs\n"
    assert take(f"{HEADER}{other}{line}\n{GOOD}") == counts(added=2, refused=1)
    assert list(reasons(file)) == [3]
    assert reason in reasons(file)[3]
    assert "saskia" not in reasons(file)[3]
    assert len(states()) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + (HEADER + GOOD).encode(),
        (HEADER + GOOD).replace("\n", "\r\n").encode(),
        (HEADER + GOOD).replace("\n", "\r").encode(),
        (HEADER + GOOD).rstrip("\n").encode(),
        b"\xef\xbb\xbfemail;themes;language;consented_at;consent_source\r\n"
        b'saskia@gemeente.example;"innovatie;zorg";nl;2024-05-01;"beurs ""Gent"" 2024"\r\n',
        (HEADER + GOOD).replace(",", "\t").encode(),
        b'"Consent_Source" , "E-mail", email ,consented_at,"THEMES"\n'
        b"beurs, x , saskia@gemeente.example ,2024-05-01, innovatie ; zorg ;\n",
        (HEADER + "\n,,,,\n" + GOOD + "\n  \n").encode(),
        (HEADER.strip() + ",,\n" + GOOD.strip() + ",,\n").encode(),
        (HEADER + GOOD.strip() + ",,\n").encode(),
    ],
    ids=[
        "BOM", "Windows", "old Mac", "no last line end", "semicolons", "tabs", "own order", "empty lines",
        "empty columns", "more cells",
    ],
)  # fmt: skip
def test_files_as_programs_write_them(take: Import, content: bytes) -> None:
    assert take(content) == counts(added=1)
    assert set(states()) == {("saskia@gemeente.example", "innovatie"), ("saskia@gemeente.example", "zorg")}


def test_a_line_with_broken_bytes_is_refused_and_the_others_go_on(take: Import, file: Path) -> None:
    broken = "bo@gemeente.example,zorg,nl,2024-05-01,café\n".encode("latin-1")
    assert take((HEADER + GOOD).encode() + broken + b"ed@x.example,zorg,nl,2024-05-01,a\n") == counts(
        added=2, refused=1
    )
    assert reasons(file) == {3: "The line is not UTF-8."}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"\r\n\r\n", "empty"),
        (b"email,themes,language\n", "missing: consented_at, consent_source"),
        (GOOD.encode(), "missing: email, themes, consented_at, consent_source"),
        (HEADER.replace("language", "email").encode(), "twice"),
        ((HEADER + GOOD).encode("utf-16"), "missing"),
        (b"\x00" * 100_000, "missing"),
    ],
)
def test_a_file_without_its_columns_is_refused_whole(
    app: flask.Flask, take: Import, file: Path, content: bytes, said: str
) -> None:
    file.write_bytes(content)
    assert said in refused(app, "subscriber", "import", file)
    assert states() == {}
    assert [path.name for path in file.parent.iterdir()] == ["readers.csv"]


def test_a_file_with_a_header_only_is_no_fault(take: Import, file: Path) -> None:
    assert take(HEADER) == counts()


def test_the_reasons_of_an_earlier_run_do_not_stay(take: Import, file: Path) -> None:
    take(HEADER + "saskia,zorg,nl,2024-05-01,beurs\n")
    assert list(reasons(file)) == [2]
    take(HEADER + GOOD)
    assert not file.with_suffix(".refused.csv").exists()


BAD = "saskia,zorg,nl,2024-05-01,beurs\n"


def elsewhere(name: str) -> Path:
    """Where the reasons go that can't stand beside their file."""
    return settings.current().data_dir / name


@pytest.fixture
def kept_out(app: flask.Flask, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Makes a file that can't be written, not even by root; and a DATA_DIR of our own."""
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"data_dir": tmp_path / "data"}))

    def take_place(path: Path) -> None:
        path.mkdir(parents=True)

    yield take_place
    settings.use(chosen)


def test_reasons_that_cant_stand_beside_the_file_stand_in_data_dir(
    app: flask.Flask, take: Import, file: Path, kept_out: Callable[[Path], None]
) -> None:
    file.write_text(HEADER + GOOD + BAD)
    kept_out(file.with_suffix(".refused.csv"))
    other = elsewhere("readers.refused.csv")
    result = vinkje(app, "subscriber", "import", file)
    assert result.exit_code == 4
    assert result.stderr == f"Reasons for refused lines go to {other}.\n"  # said before anything is taken
    assert result.stdout.splitlines() == [counts(added=1, refused=1), f"The reasons stand in {other}."]
    assert "no e-mail address" in other.read_text()


def test_reasons_that_can_be_written_nowhere_are_printed(
    app: flask.Flask, take: Import, file: Path, kept_out: Callable[[Path], None]
) -> None:
    file.write_text(HEADER + BAD + GOOD + BAD)
    for path in (file.with_suffix(".refused.csv"), elsewhere("readers.refused.csv")):
        kept_out(path)
    result = vinkje(app, "subscriber", "import", file)
    assert result.exit_code == 4
    first, *more = result.stderr.splitlines()
    assert first == "Reasons for refused lines can be written nowhere: they are printed here."
    assert [line.partition(":")[0] for line in more] == ["Line 2", "Line 4"]
    assert "no e-mail address" in more[0]
    assert result.stdout.splitlines() == [counts(added=1, refused=2)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full: Linux has one")
def test_a_disk_that_fills_meanwhile_loses_no_reason(
    app: flask.Flask, take: Import, file: Path, kept_out: Callable[[Path], None]
) -> None:
    file.write_text(HEADER + BAD)
    file.with_suffix(".refused.csv").symlink_to("/dev/full")
    result = vinkje(app, "subscriber", "import", file)
    assert result.exit_code == 4
    assert "no e-mail address" in elsewhere("readers.refused.csv").read_text()
    assert result.stdout.splitlines()[1] == f"The reasons stand in {elsewhere('readers.refused.csv')}."


def test_readers_that_another_program_hands_over_are_taken_whole(
    app: flask.Flask, take: Import, tmp_path: Path, kept_out: Callable[[Path], None]
) -> None:
    """As in `vinkje subscriber import <(…)`: a pipe has no place, and no size."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = HEADER + BAD + "".join(f"r{number}@x.example,zorg,nl,2024-05-01,b\n" for number in range(2100))
    writing = threading.Thread(target=pipe.write_text, args=[lines])
    writing.start()
    result = vinkje(app, "subscriber", "import", pipe)
    writing.join()
    assert result.exit_code == 4
    assert result.stdout.splitlines()[0] == counts(added=2100, refused=1)
    assert "no e-mail address" in elsewhere("import.refused.csv").read_text()
    assert not list(tmp_path.glob("pipe.*"))


def test_reasons_are_written_before_the_lines_around_them_are_taken(take: Import, file: Path) -> None:
    """Whatever happens in between, nobody is left without them."""
    at_commit: list[str] = []

    def look(session: Session) -> None:
        beside = file.with_suffix(".refused.csv")
        at_commit.append(beside.read_text() if beside.exists() else "")

    event.listen(Session, "before_commit", look)
    try:
        take(HEADER + GOOD + BAD)
    finally:
        event.remove(Session, "before_commit", look)
    assert "no e-mail address" in at_commit[0]


def test_an_import_while_a_round_is_cut_is_not_of_that_audience(take: Import) -> None:
    with db.transaction() as session:
        cut_at = themes.cut(session=session, theme_id=make.theme(session, "zorg").id, now=NOW + timedelta(minutes=5))
    take(HEADER + GOOD)
    zorg = themes.by_slug(session=db.reading(), slug="zorg").id
    rows = db.reading().execute(select(Subscription.theme_id, Subscription.confirmed_at > cut_at)).all()
    assert {theme_id == zorg: bool(later) for theme_id, later in rows} == {True: True, False: False}


def test_a_reader_can_leave_and_change_while_an_import_runs(app: flask.Flask, take: Import, file: Path) -> None:
    """Two doors that take the same rows must not wait for each other."""
    with db.transaction() as session:
        readers = [make.reader(session, f"reader{number}@x.example", "zorg").id for number in range(40)]
    file.write_text(HEADER + "".join(f"reader{n}@x.example,innovatie;zorg,nl,2024-05-01,b\n" for n in range(40)))
    faults: list[BaseException] = []

    def change() -> None:
        try:
            for reader in readers:
                with app.app_context():
                    with db.transaction() as session:
                        preferences.change(
                            session=session, now=NOW, subscriber_id=reader, slugs=["innovatie"], language="en"
                        )
                    db.db.session.remove()
        except BaseException as fault:
            faults.append(fault)

    other = threading.Thread(target=change)
    other.start()
    results = [vinkje(app, "subscriber", "import", file).exit_code for _ in range(4)]
    other.join()
    assert faults == []
    assert set(results) <= {0, 4}  # who left in between is refused
    assert {state for (_, slug), state in states().items() if slug == "innovatie"} == {State.ACTIVE}
    assert {state for (_, slug), state in states().items() if slug == "zorg"} == {State.ENDED}
