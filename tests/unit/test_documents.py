"""What the documents say of the house holds."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from service import mail
from tests import house

# What we need without importing it: found by a URL, run as a command, or only data.
UNSEEN = {"psycopg", "redis", "gunicorn", "tzdata"}
DECISIONS = sorted((house.ROOT / "docs" / "decisions").glob("*.md"))


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    for path in DECISIONS:
        title = path.read_text().partition("\n")[0]
        assert re.fullmatch(rf"# {path.name[:4]} \w.*", title), path.name


def test_a_decision_that_is_named_exists() -> None:
    named = {
        (module.name, number) for module in house.modules() for number in re.findall(r"decision (\d{4})", module.text)
    }
    written = {path.name[:4] for path in DECISIONS}
    assert len(named) > 3
    assert {(name, number) for name, number in named if number not in written} == set()


@pytest.mark.parametrize("file", ["README.md", ".env.example"])
def test_every_sender_stands_in_the_documents(file: str) -> None:
    """The relay must be allowed to send as each of them."""
    text = (house.ROOT / file).read_text()
    assert [stream.value for stream in mail.Stream if f"{stream.value}@" not in text] == []


def _imported() -> Iterator[str]:
    for module in house.modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            if isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def test_every_package_that_we_ask_for_is_used() -> None:
    project = tomllib.loads((house.ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[\[<>=]", package)[0] for package in project["dependencies"]}
    packages = metadata.packages_distributions()
    used = {package.lower() for module in set(_imported()) for package in packages.get(module, [])}
    assert asked >= UNSEEN
    assert asked - UNSEEN - used == set()


def _closure(asked: list[str]) -> set[str]:
    """Every package that an installer brings in for `asked`, by the metadata of what is installed here."""
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in asked]
    while todo:
        package = todo.pop()
        for extra in {"", *package.extras}:
            if (package.name, extra) in seen:
                continue
            seen.add((package.name, extra))
            needs = [Requirement(line) for line in metadata.requires(package.name) or ()]
            todo += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_who_installs_us_without_our_lock_gets_what_the_redis_transport_imports() -> None:
    """The lock hides a missing one: hatchling, with which we are built, brings it too."""
    project = tomllib.loads((house.ROOT / "pyproject.toml").read_text())["project"]
    assert {"kombu", "redis", "packaging"} <= _closure(project["dependencies"])
