from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import flask
import pytest
import time_machine
from click import Group
from sqlalchemy import select

from service import cli, db, jobs, settings
from service.delivery import rounds
from service.newsroom import sessions
from service.newsroom.models import Editor, EditorState, Item, ItemState, Role
from tests import make
from tests.integration.operator import done, refused, vinkje
from tests.make import NOW

Rung = list[tuple[str, tuple[int, ...]]]
KEYS = [
    "id", "theme", "week", "state", "audience",
    "accepted", "deferred", "rejected", "given_up", "uncertain", "left", "waiting",
]  # fmt: skip
BOOK = [*KEYS[4:]]


@pytest.fixture(autouse=True)
def _at_the_hour() -> object:
    with time_machine.travel(NOW):
        yield


@pytest.fixture
def issue_id(app: flask.Flask) -> int:
    """An approved issue with one item and one reader."""
    done(app, "theme", "add", "innovatie", "--nl", "Innovatie", "--en", "Innovation")
    done(
        app,
        "item",
        "add",
        "--theme",
        "innovatie",
        "--title",
        "Gent test deelauto's",
        "--body",
        "Tot **1 juni**.",
        "--publish",
    )
    planned = int(done(app, "issue", "plan", "--theme", "innovatie", "--week", "2026-W49"))
    with db.transaction() as session:
        make.reader(session, "saskia@gemeente.example", "innovatie", at=NOW - timedelta(days=1))
    assert done(app, "issue", "assemble", planned) == f"Issue {planned} is assembled.\n"
    assert done(app, "issue", "approve", planned) == f"Issue {planned} is approved.\n"
    return planned


def shown(app: flask.Flask, issue_id: int) -> dict[str, object]:
    found = json.loads(done(app, "issue", "show", issue_id, "--json"))
    assert isinstance(found, dict)
    return found


def test_themes_are_added_listed_and_retired(app: flask.Flask) -> None:
    done(app, "theme", "add", "zorg", "--nl", "Zorg", "--en", "Care")
    done(app, "theme", "add", "democratie", "--nl", "Democratie", "--en", "Democracy")
    done(app, "theme", "retire", "zorg")
    done(app, "theme", "retire", "zorg")
    assert done(app, "theme", "list") == "democratie\topen\tDemocratie\tDemocracy\nzorg\tretired\tZorg\tCare\n"


def test_an_editor_is_added_with_the_password_of_the_environment(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "vink in de perenboom"
    chosen = settings.current().model_copy(update={"vinkje_password": password})
    monkeypatch.setattr(settings, "_in_use", [chosen])
    said = done(app, "editor", "add", "noor@bureau.example", "--name", "Noor", "--role", "chief", "--language", "en")
    assert password not in said
    editor = db.reading().scalars(select(Editor)).one()
    assert (editor.role, editor.state, editor.language) == (Role.CHIEF, EditorState.ACTIVE, "en")
    with db.transaction() as session:
        assert sessions.sign_in(
            session=session, now=NOW, email="noor@bureau.example", password=password, network="192.0.2.0/24"
        )
    again = refused(app, "editor", "add", "noor@bureau.example", "--name", "Noor", "--role", "chief")
    assert again.startswith("vinkje: ")


def test_ids_are_printed_alone_so_that_scripts_can_use_them(app: flask.Flask) -> None:
    done(app, "theme", "add", "innovatie", "--nl", "Innovatie", "--en", "Innovation")
    draft = done(app, "item", "add", "--theme", "innovatie", "--title", "Een", "--body", "Tekst.")
    ready = done(
        app, "item", "add", "--theme", "innovatie", "--title", "Twee", "--body", "Tekst.",
        "--url", "https://gent.example/", "--language", "en", "--publish",
    )  # fmt: skip
    states = dict(db.reading().execute(select(Item.id, Item.state)).all())
    assert states == {int(draft): ItemState.DRAFT, int(ready): ItemState.PUBLISHED}
    planned = done(app, "issue", "plan", "--theme", "innovatie", "--week", "2026-W49", "--send-at", "2026-12-02T10:30")
    assert planned == f"{int(planned)}\n"
    assert "Wednesday 2 December 2026, 10:30" in done(app, "issue", "show", planned.strip())


def test_an_issue_goes_its_road(app: flask.Flask, issue_id: int, doorbells: Rung) -> None:
    assert list(shown(app, issue_id)) == KEYS
    assert shown(app, issue_id)["state"] == "approved"
    done(app, "issue", "send", issue_id)
    assert doorbells == [(jobs.START_ROUND, (issue_id,))]
    with db.transaction() as session:
        rounds.start(session=session, now=datetime.now(UTC), issue_id=issue_id)
    assert shown(app, issue_id) == {
        **dict.fromkeys(BOOK, 0),
        "id": issue_id,
        "theme": "innovatie",
        "week": "2026-W49",
        "state": "sending",
        "audience": 1,
        "waiting": 1,
    }
    assert done(app, "issue", "pause", issue_id) == f"Issue {issue_id} is paused.\n"
    assert done(app, "issue", "resume", issue_id) == f"Issue {issue_id} is sending.\n"
    assert done(app, "issue", "cancel", issue_id) == f"Issue {issue_id} is cancelled.\n"
    table = dict(line.rsplit(None, 1) for line in done(app, "issue", "show", issue_id).splitlines())
    assert (table["state"], table["given up"]) == ("cancelled", "0")
    assert int(table["audience"]) == sum(int(table[name.replace("_", " ")]) for name in BOOK[1:]) == 1


def test_an_issue_without_items_says_that_it_is_skipped(app: flask.Flask) -> None:
    done(app, "theme", "add", "innovatie", "--nl", "Innovatie", "--en", "Innovation")
    planned = done(app, "issue", "plan", "--theme", "innovatie", "--week", "2026-W49").strip()
    assert done(app, "issue", "assemble", planned) == f"Issue {planned} is skipped (no_items).\n"


def test_what_can_not_be_is_refused_on_one_line(app: flask.Flask) -> None:
    done(app, "theme", "add", "innovatie", "--nl", "Innovatie", "--en", "Innovation")
    planned = done(app, "issue", "plan", "--theme", "innovatie", "--week", "2026-W49").strip()
    add = ("item", "add", "--theme", "innovatie")
    plan = ("issue", "plan", "--theme", "innovatie")
    for words in (
        ("theme", "add", "innovatie", "--nl", "Innovatie", "--en", "Innovation"),
        ("theme", "add", "Innovatie!", "--nl", "Innovatie", "--en", "Innovation"),
        ("theme", "add", "x", "--nl", "", "--en", "X"),
        ("theme", "retire", "zorg"),
        (*add, "--title", "", "--body", "Tekst."),
        (*add, "--title", "Een", "--body", "Tekst.", "--url", "javascript:alert(1)"),
        ("item", "add", "--theme", "zorg", "--title", "Een", "--body", "Tekst."),
        (*plan, "--week", "2026-W49"),
        (*plan, "--week", "2026-W99"),
        (*plan, "--week", "next"),
        (*plan, "--week", "2026-W50", "--send-at", "tomorrow"),
        ("issue", "approve", planned),
        ("issue", "send", planned),
        ("issue", "pause", planned),
        ("issue", "resume", planned),
        ("issue", "show", "999999"),
        ("issue", "cancel", "999999"),
    ):
        assert refused(app, *words).startswith("vinkje: "), words


def test_what_is_refused_leaves_nothing_behind(app: flask.Flask) -> None:
    done(app, "theme", "add", "innovatie", "--nl", "Innovatie", "--en", "Innovation")
    done(app, "theme", "retire", "innovatie")
    vinkje(app, "item", "add", "--theme", "innovatie", "--title", "Een", "--body", "Tekst.", "--publish")
    assert db.reading().scalars(select(Item)).all() == []


@pytest.mark.parametrize(
    "words",
    [
        ["theme", "add", "zorg"],
        ["editor", "add", "noor@bureau.example", "--name", "Noor", "--role", "boss"],
        ["editor", "add", "noor@bureau.example", "--name", "Noor", "--role", "admin"],
        ["issue", "show", "seven"],
        ["issue", "show", "0"],
        ["issue", "show", "99999999999999999999"],
        ["subscriber", "import", "no-such-file.csv"],
        ["subscriber", "import", "."],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_has_status_2(app: flask.Flask, words: list[str]) -> None:
    result = vinkje(app, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: vinkje")


def test_every_command_has_its_help(app: flask.Flask) -> None:
    def walk(group: Group, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = []
        for name, command in group.commands.items():
            assert command.help, name
            found += walk(command, (*path, name)) if isinstance(command, Group) else [(*path, name)]
        return found

    commands = walk(cli.cli, ())
    assert {" ".join(path) for path in commands} >= {
        "db upgrade",
        "theme add",
        "theme list",
        "theme retire",
        "editor add",
        "subscriber import",
        "item add",
        *(f"issue {step}" for step in ("plan", "assemble", "approve", "send", "pause", "resume", "cancel", "show")),
    }
    for path in commands:
        assert done(app, *path, "--help").startswith(f"Usage: vinkje {' '.join(path)}")
