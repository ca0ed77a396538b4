"""The rules of the house that import-linter can't hold (design: rooms)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import i18n, jobs, settings
from tests import house

LONGEST_MODULE, LONGEST_FUNCTION = 250, 40
CLOCKS = re.compile(r"(datetime|date)\.(now|utcnow|today)|time\.(time|time_ns|localtime|gmtime)")
# Doors, and what names a file by the time it came.
CLOCK_READERS = ("service/commands/", "service/web/", "worker/tasks.py", "worker/up.py", "worker/health.py")
FILE_NAMERS = ("worker/mailbox.py",)
MACHINE = (
    re.compile(r"(?<![\w.~/$}-])/(home|root|Users|work|mnt)/"),
    re.compile(r"index-url[ =]\W*https?:|pip\.conf|pythonhosted|127\.0\.0\.1:(5432|6379)"),
    re.compile(r"https?://(\w+:\w+@)?(proxy|mirror|registry|artifactory|nexus)[.:]"),
)


@pytest.mark.parametrize("module", house.modules(), ids=lambda module: module.name)
def test_a_module_can_be_read_at_one_sitting(module: house.Module) -> None:
    assert len(module.text.splitlines()) <= LONGEST_MODULE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_no_room_is_called_utils() -> None:
    stems = {Path(part).stem for module in house.modules() for part in module.name.split("/")}
    assert not stems & {"utils", "util", "helpers", "helper", "common", "misc", "shared"}


def test_the_environment_is_read_in_settings_only() -> None:
    readers = set()
    for module in house.modules():
        for node in ast.walk(module.tree):
            named = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv")
            imported = isinstance(node, ast.ImportFrom) and node.module == "os"
            loaded = isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node).endswith("load_dotenv")
            if named or imported or loaded:
                readers.add(module.name)
        if "BaseSettings" in module.text:
            readers.add(module.name)
    assert readers == {"service/settings.py"}


def test_only_the_database_module_commits() -> None:
    found = {
        module.name for module in house.modules() for name, _ in module.calls() if re.search(r"(?i)\bcommit$", name)
    }
    assert found == {"service/db.py"}


def test_the_clock_is_read_at_the_doors() -> None:
    readers = {module.name for module in house.modules() for name, _ in module.calls() if CLOCKS.search(name)}
    assert {name for name in readers if not name.startswith((*CLOCK_READERS, *FILE_NAMERS))} == set()


def test_numbers_and_dates_are_written_in_one_place() -> None:
    """So that 2,006 never stands beside 2006, nor 23 Nov beside Nov 23."""
    writers = {
        module.name
        for module in house.modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "babel"
    }
    assert writers == {"service/i18n.py"}


def test_a_get_opens_no_transaction() -> None:
    """Who only looks changes nothing. What a view calls elsewhere, the scanner's story tells."""
    looked_at, writers = 0, []
    for module in house.modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and _answers_get(node):
                looked_at += 1
                writers += [
                    f"{module.name}:{node.name}" for inner in ast.walk(node) if _is_call(inner, "db.transaction")
                ]
    assert looked_at > 5
    assert writers == []


def _answers_get(function: ast.FunctionDef) -> bool:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
            if decorator.func.attr == "get":
                return True
            if decorator.func.attr == "route":
                methods = [ast.unparse(given.value) for given in decorator.keywords if given.arg == "methods"]
                return not methods or "GET" in methods[0]
    return False


def _is_call(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == name


def _job_names() -> set[str]:
    return {value for name, value in vars(jobs).items() if name.isupper() and isinstance(value, str)}


def test_every_job_name_has_a_task_and_a_queue(tmp_path: Path) -> None:
    program = "from worker.app import app; print(*(name for name in app.tasks if not name.startswith('celery.')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"DATA_DIR": str(tmp_path)},
        cwd=house.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == _job_names() == set(jobs.QUEUES)


def test_a_job_name_is_written_once() -> None:
    written = [
        (module.name, node.value)
        for module in house.modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in _job_names()
    ]
    assert sorted(written) == sorted(("service/jobs.py", name) for name in _job_names())


def test_every_setting_stands_in_the_example_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    path = house.ROOT / ".env.example"
    written = re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", path.read_text(), re.MULTILINE)
    assert sorted(written) == sorted(name.upper() for name in settings.Settings.model_fields)
    monkeypatch.setitem(settings.Settings.model_config, "env_file", path)
    example = settings.Settings()
    monkeypatch.setitem(settings.Settings.model_config, "env_file", None)
    assert example == settings.Settings()


def test_every_mail_has_its_parts_and_was_read_in_both_languages() -> None:
    folder = house.ROOT / "templates" / "emails"
    mails = [path for path in folder.iterdir() if path.is_dir()]
    assert {path.name for path in mails} >= {"confirmation", "already_subscribed", "issue", "invitation", "ready"}
    for mail in mails:
        assert {path.name for path in mail.iterdir()} == {"subject.txt", "body.txt", "body.mjml"}
        for language in i18n.LANGUAGES:
            assert list((house.ROOT / "tests" / "approved").glob(f"{mail.name}.{language}.*")), (mail.name, language)


def test_a_wheel_holds_the_mails_too() -> None:
    assert 'templates/emails" = "service/emails"' in (house.ROOT / "pyproject.toml").read_text()


def _texts() -> Iterator[tuple[str, str]]:
    for path in house.files():
        try:
            yield path.relative_to(house.ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_each_promise_to_the_data_protection_officer_names_a_test_that_is_there() -> None:
    page = (house.ROOT / "docs" / "data-protection.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in (house.ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    promises = [line for line in page.partition("\n| promise ")[2].partition("\n\n")[0].splitlines()[2:] if line]
    assert len(promises) > 10
    for promise in promises:
        named = set(re.findall(r"`(test_\w+)`", promise))
        assert named, promise
        assert named <= there, named - there


def test_no_file_names_a_machine() -> None:
    found = [
        f"{name}: {line.strip()[:120]}"
        for name, text in _texts()
        if name != "tests/test_house.py"
        for line in text.splitlines()
        if any(pattern.search(line) for pattern in MACHINE)
    ]
    assert found == []
