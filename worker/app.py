"""The Celery app: `celery -A worker.app worker -Q newsletter`, `celery -A worker.app beat`."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
import time
from collections.abc import Callable

import flask
import structlog
from celery import Celery, signals
from celery.apps import worker as celery_command
from sqlalchemy.exc import SQLAlchemyError

from service import app as service_app
from service import db, jobs, logs, settings
from worker import halt, schedule, tasks

WAIT_SECONDS = 2.0
GARBAGE = 20_000  # objects made and not freed, before the collector looks at them

log = structlog.get_logger()
chosen = settings.current_or_exit()
app: Celery = jobs.broker()
app.conf.update(
    # A job runs again when its row says so, not when its message comes back: a mail that kills the
    # process which makes it would do so without end (dependencies 2).
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_redirect_stdouts=False,
    broker_connection_max_retries=None,
    result_expires=None,  # there are no results; beat would clean them every night
    beat_schedule=schedule.entries(chosen.tick_seconds),
    beat_scheduler="worker.beat:Scheduler",
)


@functools.cache
def house() -> flask.Flask:
    """The application on whose database the jobs work."""
    return service_app.create_app()


def wait_for_database() -> None:
    """Until it answers and is migrated: services start in any order."""
    with house().app_context():
        while why := _not_ready():
            log.warning("waiting_for_database", why=why)
            time.sleep(WAIT_SECONDS)
        db.db.engine.dispose()  # children that are forked from here must not share a connection


def _not_ready() -> str:
    try:
        with db.db.engine.connect() as connection:
            at = db.migration(connection)
    except SQLAlchemyError as fault:
        return f"no answer ({type(fault).__name__}); is DATABASE_URL right, and is the database running?"
    return "" if at.current else f"it is at migration {at.found}, this code needs {at.wanted}: run `vinkje db upgrade`"


def _as_task(job: Callable[..., None]) -> Callable[..., None]:
    labels = [parameter.removesuffix("_id") for parameter in inspect.signature(job).parameters]

    def run(*numbers: int) -> None:
        bound = structlog.contextvars.bound_contextvars(job=job.__name__, **dict(zip(labels, numbers, strict=True)))
        with bound, house().app_context():
            job(*numbers)

    return run


for _name, _job in tasks.JOBS.items():
    app.task(_as_task(_job), name=_name)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _log_our_way(**_: object) -> None:
    logs.configure(chosen.log_level)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _start(sender: object, **_: object) -> None:
    # Better now than at each job. The worker in `vinkje up` is no command of its own, and rings in memory.
    alone = isinstance(sender, celery_command.Worker)
    settings.current_or_exit(*settings.NEEDED if alone else ("smtp_url",))
    halt.forget()
    wait_for_database()


@signals.beat_init.connect  # type: ignore[untyped-decorator]
def _start_beat(**_: object) -> None:
    if threading.current_thread() is threading.main_thread():  # not as a thread of `vinkje up`
        settings.current_or_exit("redis_url")


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_child(**_: object) -> None:
    with house().app_context():
        db.db.engine.dispose(close=False)
    # What was imported stays for good: the collector needn't look at it again and again, and parent and child
    # go on sharing its memory. A round makes many small objects, hardly any of them in circles.
    gc.freeze()
    gc.set_threshold(GARBAGE)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_soon(**_: object) -> None:
    halt.ask()


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: object) -> None:
    tasks.hang_up()
