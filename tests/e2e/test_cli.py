"""The console script as an operator meets it: what it prints, where, and the status it ends with."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import BIN, ROOT, free_port

TAKE = """
import sys
from pathlib import Path
from service import cli
try:
    cli.cli(["subscriber", "import", sys.argv[1]])
finally:
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""
MANY = """
import json, sys
from service import cli
for words in json.loads(sys.argv[1]):
    cli.cli.main(words, standalone_mode=False)
"""


def vinkje(data_dir: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run(data_dir, [str(BIN / "vinkje"), *words], **env)


def run(data_dir: Path, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir), "LOG_LEVEL": "warning", **env},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def _migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrated")
    done = vinkje(folder, "db", "upgrade")
    assert (done.returncode, done.stdout, done.stderr) == (0, "The database is up to date.\n", "")
    assert vinkje(folder, "theme", "add", "zorg", "--nl", "Zorg", "--en", "Care").returncode == 0
    return folder


@pytest.fixture
def migrated(_migrated_once: Path, data_dir: Path) -> Path:
    """A DATA_DIR with tables and one theme."""
    shutil.copytree(_migrated_once, data_dir)
    return data_dir


def test_help_and_version_need_no_settings(data_dir: Path) -> None:
    done = vinkje(data_dir, "--help", DATABASE_URL="nonsense")
    assert done.returncode == 0
    for name in ("up", "db", "theme", "editor", "subscriber", "item", "issue"):
        assert f"\n  {name} " in done.stdout
    assert "run " not in done.stdout.partition("Commands:")[2].replace("\n", " ")
    assert vinkje(data_dir, "--version").stdout.startswith("vinkje 0.")
    assert not data_dir.exists()


def test_a_bad_setting_ends_with_a_clear_line(data_dir: Path) -> None:
    done = vinkje(data_dir, "theme", "list", DATABASE_URL="mysql://u:geheim@host/x", PORT="eight")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "vinkje can't start:",
        "  DATABASE_URL: use postgresql://user:password@host/name, or leave it empty for SQLite",
        "  PORT: Input should be a valid integer, unable to parse string as an integer",
    ]


def test_a_database_that_is_away_has_a_status_of_its_own(data_dir: Path) -> None:
    url = f"postgresql://news:geheim@127.0.0.1:{free_port()}/news"
    for words in (("theme", "list"), ("db", "upgrade")):
        done = vinkje(data_dir, *words, DATABASE_URL=url)
        assert done.returncode == 3
        assert done.stderr.startswith("vinkje: can't use the database: ")
        assert len(done.stderr.splitlines()) == 1
        assert "geheim" not in done.stderr


def test_a_database_without_tables_says_what_to_do(data_dir: Path) -> None:
    done = vinkje(data_dir, "theme", "list")
    assert done.returncode == 3
    assert done.stderr == "vinkje: the database has no tables yet, or older ones: run `vinkje db upgrade` first\n"


def test_a_broker_that_is_away_does_not_hold_a_command_up(migrated: Path) -> None:
    commands = [
        ["item", "add", "--theme", "zorg", "--title", "Een", "--body", "Tekst.", "--publish"],
        ["issue", "plan", "--theme", "zorg", "--week", "2099-W10"],
        ["issue", "assemble", "1"],
        ["issue", "approve", "1"],
        ["issue", "send", "1"],
    ]
    env = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "SECRET_KEY": "x" * 32}
    started = time.monotonic()
    done = run(migrated, [sys.executable, "-c", MANY, json.dumps(commands)], **env)
    assert done.stdout.splitlines()[-1] == "Issue 1 starts as soon as a worker hears it.", done.stderr
    assert "doorbell_unheard" in done.stderr
    assert time.monotonic() - started < 20


def test_a_refusal_is_one_line_and_no_traceback(migrated: Path) -> None:
    done = vinkje(migrated, "issue", "show", "7")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "vinkje: There is no issue 7.\n")


def test_a_password_is_asked_for_twice_on_a_terminal_and_not_shown(migrated: Path) -> None:
    command = [str(BIN / "vinkje"), "editor", "add", "noor@bureau.example", "--name", "Noor", "--role", "admin"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(command[0], command, {"PATH": os.environ["PATH"], "DATA_DIR": str(migrated)})
    seen = b""
    for prompt in (b"Password: ", b"The same again: "):
        while not seen.endswith(prompt):
            seen += os.read(terminal, 1024)
        os.write(terminal, b"vink in de perenboom\n")
    while not seen.rstrip().endswith(b"Added Noor as admin."):
        seen += os.read(terminal, 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert b"perenboom" not in seen


def test_a_password_can_not_be_asked_of_nobody(migrated: Path) -> None:
    done = vinkje(migrated, "editor", "add", "noor@bureau.example", "--name", "Noor", "--role", "admin")
    assert done.returncode == 2
    assert "VINKJE_PASSWORD" in done.stderr


def test_a_long_import_takes_no_more_memory_than_a_short_one(migrated: Path, tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        file = tmp_path / f"{rows}.csv"
        lines = (f"reader{number}@x.example,zorg,2024-05-01,form\n" for number in range(rows))
        file.write_text("email,themes,consented_at,consent_source\n" + "".join(lines))
        done = run(migrated, [sys.executable, "-c", TAKE, str(file)])
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # no progress bar where nobody looks
        return int(done.stdout.split()[-1])

    short, long = peak(2000), peak(9000)
    assert long - short < 5_000, f"{short} kB grew to {long} kB"
