"""Where a story plays: servers, a database of its own, and the house's processes, each of which may die."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import flask
import flask_migrate
import psutil  # type: ignore[import-untyped]
from sqlalchemy import TextClause, bindparam, text

from service import app as service_app
from service import db, heartbeat, settings
from service.delivery import books
from service.issues import approval, assembly, rota
from service.issues.models import Issue, IssueState, find
from tests import make, processes
from tests.chaos.parts import Postgres, Sink, Valkey
from tests.conftest import SECRET

CELERY = ("celery", "-A", "worker.app")
LEASE = 4
TEMPLATE = "migrated"
# In words that both databases know.
READERS = """
    INSERT INTO subscribers (email, email_key, language, created_at)
    WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :readers)
    SELECT address, address, CASE WHEN n % 5 = 0 THEN 'en' ELSE 'nl' END, :before
    FROM (SELECT n, 'lezer' || n || '.' || :slug || '@gemeente' || (n % 37) || '.example' AS address
          FROM counted) AS made
"""
SUBSCRIBED = """
    INSERT INTO subscriptions (theme_id, subscriber_id, state, requested_at, confirmed_at)
    SELECT :theme, id, 'active', :before, :before FROM subscribers WHERE email LIKE '%.' || :slug || '@%'
"""
DEFERRED_BATCHES = """
    UPDATE batches SET due_at = :now, nudged_at = NULL
    WHERE issue_id = :issue AND state = 'waiting' AND due_at > :now
    AND EXISTS (SELECT 1 FROM deliveries AS d WHERE d.issue_id = :issue AND d.outcome = 'deferred'
                AND d.subscriber_id BETWEEN first_id AND last_id)
    RETURNING first_id, last_id
"""
DEFERRED = """
    UPDATE deliveries SET retry_at = :now WHERE issue_id = :issue AND outcome = 'deferred' AND retry_at > :now
    AND subscriber_id BETWEEN :first AND :last
"""
LEAVE = """
    UPDATE subscriptions SET state = 'ended', end_reason = 'unsubscribed', ended_at = :now
    WHERE state = 'active' AND theme_id = (SELECT theme_id FROM issues WHERE id = :issue)
    AND subscriber_id % :one_in = :which
"""
AUDIENCE = """
    SELECT coalesce(s.email, 'subscriber ' || d.subscriber_id), coalesce(d.outcome, ''), coalesce(d.status, ''),
        coalesce(a.end_reason = 'unsubscribed', false)
    FROM (SELECT subscriber_id, end_reason FROM subscriptions
          WHERE theme_id = (SELECT theme_id FROM issues WHERE id = :issue)) AS a
    FULL JOIN (SELECT * FROM deliveries WHERE issue_id = :issue) AS d ON d.subscriber_id = a.subscriber_id
    LEFT JOIN subscribers AS s ON s.id = a.subscriber_id
"""


class Servers:
    """Shared by all stories of a run; what one breaks it mends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres()
        self.valkey = Valkey(folder / "valkey")
        with _house({"DATABASE_URL": self.postgres.create(TEMPLATE), **_settings(folder)}):
            flask_migrate.upgrade(directory=service_app.MIGRATIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.valkey.stop()
        self.postgres.stop()


@dataclass(frozen=True)
class Row:
    """What the database says of one of the audience; `outcome` "" when it has nothing. `left`: unsubscribed."""

    email: str
    outcome: str
    status: str
    left: bool


class Stage:
    """A database, a sink and processes. Within `open()` this process looks at the same database.
    `embedded`: all of the house in one process, with SQLite and without Redis.
    """

    def __init__(self, servers: Servers, name: str, seed: int, *, embedded: bool = False, **chosen: object) -> None:
        self.postgres, self.valkey = servers.postgres, servers.valkey
        self.folder = servers.folder / name
        self.folder.mkdir()
        self.database = f"story_{name.replace('-', '_')}"
        self.sink = Sink(self.folder, seed)
        self.valkey.empty()
        self.env = {
            "DATABASE_URL": "" if embedded else self.postgres.create(self.database, TEMPLATE),
            "REDIS_URL": "" if embedded else self.valkey.url,
            "PORT": str(processes.free_port()),
            "SMTP_URL": self.sink.url,
            **_settings(self.folder),
            **{name.upper(): str(value) for name, value in chosen.items()},
        }
        self.lease = float(self.env["LEASE_SECONDS"])
        self.crew: dict[str, processes.Process] = {}

    @contextlib.contextmanager
    def open(self) -> Iterator[Self]:
        try:
            with _house(self.env):
                if not self.env["DATABASE_URL"]:
                    flask_migrate.upgrade(directory=service_app.MIGRATIONS)
                yield self
        finally:
            for process in self.crew.values():
                process.kill()
            self.sink.kill()

    def staff(self, *names: str, **environment: str) -> None:
        """Start who isn't there: "beat…", "clock…", "up" for all in one, and anybody else sends newsletters."""
        for name in names:
            if name in self.crew and self.crew[name].running:
                continue
            command: Sequence[str] = (*CELERY, "worker", "-Q", "newsletter", "-c", "1", "-n", f"{name}@%h")
            if name.startswith("clock"):
                command = (*CELERY, "worker", "-Q", "confirmation,clock", "-c", "1", "-n", f"{name}@%h")
            elif name.startswith("beat"):
                command = (*CELERY, "beat")
            elif name == "up":
                command = ("vinkje", "up")
            self.crew[name] = processes.Process(command, {**self.env, **environment}, self.folder / f"{name}.log")

    def ready(self, *names: str) -> None:
        """Workers that hear the bell. Beat says nothing of the kind."""
        for name in names:
            log = self.crew[name].log
            processes.wait_until(functools.partial(_says_ready, log), 60, f"{name} isn't ready: see {log}")

    def connections(self, name: str) -> int:
        """To the sink, of a worker with its children."""
        count = 0
        with contextlib.suppress(psutil.Error):
            main = psutil.Process(self.crew[name].pid)
            for process in (main, *main.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    count += sum(
                        bool(end.raddr) and end.raddr.port == self.sink.port for end in process.net_connections("tcp")
                    )
        return count

    def kill_children(self, name: str) -> None:
        for child in psutil.Process(self.crew[name].pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()

    def freeze(self, name: str) -> None:
        """A machine that hangs: the whole process group stands still."""
        os.killpg(self.crew[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        os.killpg(self.crew[name].pid, signal.SIGCONT)

    def issue(self, slug: str, readers: int) -> int:
        """Approved, with its audience; its hour is yet to come."""
        now = datetime.now(UTC)
        with db.transaction() as session:
            theme = make.theme(session, slug)
            make.item(session, slug)
            values = {"before": now - timedelta(days=1), "slug": slug, "readers": readers, "theme": theme.id}
            for statement in (READERS, SUBSCRIBED):
                session.execute(_timed(statement), values)
            week, hour = rota.week_of(now + timedelta(hours=1)), now + timedelta(hours=1)
            made = Issue(theme_id=theme.id, week=week, send_at=hour, planned_at=now, state=IssueState.PLANNED)
            session.add(made)
            session.flush()
            assembly.assemble(session=session, now=now, issue_id=made.id)
            approval.approve(session=session, now=now, issue_id=made.id, editor_id=None, seen=None)
            return made.id

    def start_round(self, issue_id: int) -> None:
        """Its hour comes; the tick will see it."""
        with db.transaction() as session:
            find(session=session, issue_id=issue_id).send_at = datetime.now(UTC)

    def state(self, issue_id: int) -> str:
        with db.transaction() as session:
            return str(find(session=session, issue_id=issue_id).state)

    def hurry(self, issue_id: int) -> None:
        """An operator's clock: who was deferred for five minutes or more is due now. The rows' times are set, as
        when those minutes had gone by; what the product does with them is left as it is.
        """
        now = {"now": datetime.now(UTC), "issue": issue_id}
        with db.transaction() as session:
            for first_id, last_id in session.execute(_timed(DEFERRED_BATCHES), now).all():
                session.execute(_timed(DEFERRED), {**now, "first": first_id, "last": last_id})

    def leave(self, issue_id: int, *, one_in: int, which: int) -> None:
        """So many of its readers end their subscription now."""
        values = {"now": datetime.now(UTC), "issue": issue_id, "one_in": one_in, "which": which}
        with db.transaction() as session:
            session.execute(_timed(LEAVE), values)

    def since_tick(self) -> float:
        """Seconds since the clock last did its round."""
        with db.transaction() as session:
            last = heartbeat.last(session=session)
        return (datetime.now(UTC) - last).total_seconds() if last else 0.0

    def orphans(self, issue_id: int) -> int:
        """Batches whose worker let the lease go by, and which nobody took over yet."""
        query = "SELECT count(*) FROM batches WHERE issue_id = :issue AND state = 'sending' AND due_at <= :now"
        with db.transaction() as session:
            return int(session.execute(_timed(query), {"issue": issue_id, "now": datetime.now(UTC)}).scalar_one())

    def books(self, issue_id: int) -> books.Books:
        with db.transaction() as session:
            return books.of(session=session, issue_id=issue_id)

    def rows(self, issue_id: int) -> list[Row]:
        """One for each of the audience, and for who has a delivery without being in it."""
        with db.transaction() as session:
            return [Row(*row) for row in session.execute(text(AUDIENCE), {"issue": issue_id})]

    def dead(self) -> list[str]:
        """Who isn't running, although nobody killed them."""
        return [name for name, process in self.crew.items() if not process.running]


def _says_ready(log: Path) -> bool:
    """Celery's words, or those of `vinkje up`."""
    said = log.read_text(errors="replace")
    return " ready." in said or "Ctrl-C stops" in said


def _timed(statement: str) -> TextClause:
    """With the house's own kind of time, which SQLite needs."""
    names = [name for name in ("now", "before") if f":{name}" in statement]
    return text(statement).bindparams(*(bindparam(name, type_=db.UtcDateTime()) for name in names))


def _settings(folder: Path) -> dict[str, str]:
    return {
        "BASE_URL": "http://localhost:8000",
        "SECRET_KEY": SECRET,
        "MAIL_FROM": "Vinkje <nieuws@vinkje.example>",
        "ORGANISATION": "Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
        "DATA_DIR": str(folder),
        "TICK_SECONDS": "1",
        "LEASE_SECONDS": str(LEASE),
    }


@contextlib.contextmanager
def _house(env: Mapping[str, str]) -> Iterator[flask.Flask]:
    """Our own view of the database that the processes work on."""
    settings.use(settings.load(**{name.lower(): value for name, value in env.items()}))
    app = service_app.create_app()
    with app.app_context():
        try:
            yield app
        finally:
            db.db.session.remove()
            db.db.engine.dispose()
