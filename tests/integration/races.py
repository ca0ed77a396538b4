"""Two who press at once: one unit of work in a thread, beside the one that the test holds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from service import db, errors
from tests import processes

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


class Beside:
    """`start` it inside `db.transaction()`, and the deed soon waits for what the test's own work holds;
    on SQLite at its first statement already.
    """

    def __init__(self, app: flask.Flask, deed: Callable[[Session], object]) -> None:
        self.app, self.deed = app, deed
        self.fault: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with self.app.app_context(), db.transaction() as session:
                self.deed(session)
        except BaseException as fault:
            self.fault = fault

    def start(self) -> None:
        self.thread.start()
        if db.db.engine.dialect.name == "postgresql":
            with db.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
                processes.wait_until(lambda: looking.scalar(WAITING) or not self.thread.is_alive(), 10)

    def refusal(self) -> errors.VinkjeError | None:
        """Once the test's own work is over: why the deed was refused. Any other fault is raised here."""
        self.thread.join(20)
        assert not self.thread.is_alive()
        if self.fault is None or isinstance(self.fault, errors.VinkjeError):
            return self.fault
        raise self.fault
