"""The compose file without a Docker engine: it follows the specification, and each of our services' own
commands and health checks works as a process, against a real PostgreSQL and a real Redis-protocol server.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from service import settings
from tests import fakes, processes

FILE = processes.ROOT / "docker-compose.yml"
GIVEN = {
    "POSTGRES_PASSWORD": "not-so-secret",
    "SECRET_KEY": "x" * 64,
    "BASE_URL": "http://localhost:8000",
    "MAIL_FROM": "Vinkje <nieuws@vinkje.example>",
    "ORGANISATION": "Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
}
# The image's own: where it listens and writes, and a word for one command (`docker compose run -e VINKJE_PASSWORD …`).
INSIDE = {"DATA_DIR", "HOST", "PORT", "VINKJE_PASSWORD"}
SET_BY_THE_FILE = {"DATABASE_URL", "REDIS_URL"}
OURS = ("web", "worker-newsletter", "worker-confirmation", "beat")
VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})")


def filled_in(node: Any, given: dict[str, str]) -> Any:
    """`node` with its variables replaced, as in the compose specification's chapter on interpolation."""

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        value = given.get(found[1], "")
        if not value and found[2] == "?":
            raise KeyError(found[1])
        return value or found[3] or ""

    if isinstance(node, dict):
        return {key: filled_in(value, given) for key, value in node.items()}
    if isinstance(node, list):
        return [filled_in(value, given) for value in node]
    return VARIABLE.sub(replace, node) if isinstance(node, str) else node


def services(given: dict[str, str] = GIVEN) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = filled_in(yaml.safe_load(FILE.read_text()), given)["services"]
    return found


def test_the_file_follows_the_compose_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_waits_for_another_waits_for_its_health() -> None:
    found = services()
    assert {*OURS, "migrate", "postgres", "redis", "mail"} == set(found)
    for name, service in found.items():
        check = service["healthcheck"]
        assert check.get("test") or (name == "migrate" and check["disable"])
        for other, wait in service.get("depends_on", {}).items():
            healthy = "service_completed_successfully" if other == "migrate" else "service_healthy"
            assert wait["condition"] == healthy
    assert "--appendonly yes" in " ".join(found["redis"]["command"])


def test_postgresql_logs_no_value_of_a_row(postgres: Callable[[str], str]) -> None:
    """Neither of a statement that fails nor of one that is logged: an address there would outlive its erasure."""
    first, *options = services()["postgres"]["command"]
    assert first == "postgres"
    given = dict(option.split("=") for option in options if option != "-c")
    with psycopg.connect(postgres("told"), autocommit=True) as connection:
        shown = connection.execute("SHOW data_directory").fetchone()
        assert shown is not None
        log = Path(shown[0]) / "log"
        connection.execute("CREATE TABLE told (email text UNIQUE)")
        connection.execute("SET log_min_duration_statement = 0")
        for wordy in (True, False):
            before = log.stat().st_size
            if not wordy:
                for name, value in given.items():
                    connection.execute(f"SET {name} = {value}")
            for _ in range(2):
                with contextlib.suppress(psycopg.errors.UniqueViolation):
                    connection.execute("INSERT INTO told VALUES (%s)", [f"saskia{wordy}@gemeente.example"])
            said = log.read_text()[before:]
            assert "duplicate key value" in said
            assert ("gemeente.example" in said) is wordy


@pytest.mark.parametrize("secret", ["SECRET_KEY", "POSTGRES_PASSWORD"])
def test_no_secret_has_a_default(secret: str) -> None:
    with pytest.raises(KeyError, match=secret):
        services({**GIVEN, secret: ""})


def test_every_setting_reaches_the_containers() -> None:
    names = {name.upper() for name in settings.Settings.model_fields} - INSIDE
    given = {**dict.fromkeys(names, "as given"), **GIVEN}
    for name in (*OURS, "migrate"):
        reached = services(given)[name]["environment"]
        assert set(reached) == names
        assert {key for key in names - SET_BY_THE_FILE if reached[key] != given[key]} == set()


def test_what_is_not_given_gets_our_own_default_but_for_the_proxy_in_front(data_dir: Path) -> None:
    """An empty value counts as not set."""
    written = {name.lower(): value for name, value in services()["web"]["environment"].items() if value}
    found = settings.load(data_dir=data_dir, **written)
    assert found.trusted_proxies == 1
    same = set(settings.Settings.model_fields) - {name.lower() for name in (*GIVEN, *SET_BY_THE_FILE, *INSIDE)}
    for name in same - {"trusted_proxies", "smtp_url"}:
        assert getattr(found, name) == settings.Settings.model_fields[name].default, name


@pytest.fixture
def house(
    postgres: Callable[[str], str], valkey: str, relay: fakes.Relay, tmp_path: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The services of the file, with the addresses inside the containers replaced by those of the wheels' servers."""
    port = processes.free_port()
    found = services()
    for service in found.values():
        service["command"] = [
            part.replace("0.0.0.0:8000", f"127.0.0.1:{port}").replace("/tmp/", f"{tmp_path}/")
            for part in service.get("command", [])
        ]
        service["healthcheck"]["test"] = [
            part.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for part in service["healthcheck"].get("test", [])
        ]
    env = {
        **found["web"]["environment"],
        "DATABASE_URL": postgres("compose"),
        "REDIS_URL": valkey.removesuffix("/0") + "/9",
        "SMTP_URL": relay.url,
        "DATA_DIR": str(tmp_path / "data"),
        "PORT": str(port),
        "TICK_SECONDS": "1",
        "HOSTNAME": socket.gethostname(),
        "PATH": f"{processes.BIN}:{os.environ['PATH']}",
    }
    return found, env


def well(service: dict[str, Any], env: dict[str, str]) -> bool:
    kind, *command = service["healthcheck"]["test"]
    command = ["sh", "-c", *command] if kind == "CMD-SHELL" else [str(processes.BIN / command[0]), *command[1:]]
    return subprocess.run(command, env=env, cwd=processes.ROOT, capture_output=True, timeout=60).returncode == 0


def test_each_service_s_command_runs_and_its_health_check_tells(
    house: tuple[dict[str, dict[str, Any]], dict[str, str]], tmp_path: Path
) -> None:
    found, env = house
    migrated = processes.run(*found["migrate"]["command"], env=env)
    assert migrated.returncode == 0, migrated.stderr
    with ThreadPoolExecutor(len(OURS)) as pool:
        assert not any(pool.map(lambda name: well(found[name], env), OURS))
    running = {name: processes.Process(found[name]["command"], env, tmp_path / f"{name}.log") for name in OURS}
    try:
        for name in OURS:
            if name.startswith("worker"):
                processes.wait_until(lambda name=name: " ready." in running[name].text(), 60, name)  # type: ignore[misc]
            processes.wait_until(lambda name=name: well(found[name], env), 60, name)  # type: ignore[misc]
        with ThreadPoolExecutor(len(running)) as pool:  # all at once, as when a machine goes down
            ended = dict(
                zip(running, pool.map(lambda process: process.stop(signal.SIGTERM), running.values()), strict=True)
            )
        assert ended == dict.fromkeys(running, 0)
        assert not well(found["web"], env)
    finally:
        for process in running.values():
            process.kill()
