"""Must show 7 of the road: the import contracts hold, and each notices when it is broken."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from service import settings

ROOT = settings.source_root()
LAYERS = "Each room imports only what stands lower (design: rooms)"
FLASK = "Flask stays at the doors"
CELERY = "Celery stays in service.jobs and worker"
WORKER = "The service never imports the worker"
PURE = "Pure modules know no database, no framework and no network"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The house without its furniture: nothing but code and contracts."""
    for package in ("service", "worker"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache"],
        cwd=house,
        env={"PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    for name in (LAYERS, FLASK, CELERY, WORKER, PURE):
        assert f"{name} KEPT" in done.stdout


def test_each_contract_notices_when_it_is_broken(copy: Path) -> None:
    breaches = {
        "service/themes.py": "import worker.app",
        "service/mail.py": "from service import themes",
        "service/newsroom/items.py": "from service.subscribers import signup",
        "service/subscribers/preferences.py": "import flask",
        "service/outbox.py": "import celery",
        "service/delivery/outcomes.py": "import sqlalchemy",
    }
    for path, line in breaches.items():
        with (copy / path).open("a") as module:
            module.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    for name in (LAYERS, FLASK, CELERY, WORKER, PURE):
        assert f"{name} BROKEN" in done.stdout
    for told in (
        "service.themes -> worker.app",
        "service.mail -> service.themes",
        "service.newsroom.items -> service.subscribers.signup",
        "service.subscribers.preferences -> flask",
        "service.outbox -> celery",
        "service.delivery.outcomes -> sqlalchemy",
    ):
        assert told in done.stdout


def test_a_room_without_a_place_is_noticed(copy: Path) -> None:
    (copy / "service" / "attic.py").write_text("")
    done = lint(copy)
    assert done.returncode != 0
    assert "attic" in done.stdout + done.stderr
