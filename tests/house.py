"""The repository as the house tests read it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path

from service import settings

ROOT = settings.source_root()
PACKAGES = ("service", "worker")


@dataclass(frozen=True)
class Module:
    """`name` is the path from the root, as in "service/web/pages.py"."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Each call with the dotted name that is called, as in ("errors.Refused", …)."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    """Our own code; migrations are written by a tool."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(
        Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
        if "migrations" not in path.parts
    )


def files() -> Iterator[Path]:
    """Every file that is kept: what .gitignore names is left out."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    skip = [".git", *(line.strip("/") for line in ignored if line)]
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if not any(fnmatch(name, pattern) for pattern in skip)]
        yield from (Path(folder) / name for name in names if not any(fnmatch(name, pattern) for pattern in skip))
