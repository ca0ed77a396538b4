"""The background jobs' names, and the doorbell that starts them.

A job's row in the database is the job; the queue is only a nudge. Redis may lose every message:
the tick finds rows that should have moved and nudges again.
"""

from __future__ import annotations

import structlog
from celery import Celery
from kombu.exceptions import KombuError
from sqlalchemy import event
from sqlalchemy.orm import Session

from service import settings

TICK = "vinkje.tick"
TAKE_SIGNUP = "vinkje.take_signup"
SEND_CONFIRMATION = "vinkje.send_confirmation"
SEND_LETTER = "vinkje.send_letter"
SEND_NOTICE = "vinkje.send_notice"
ASSEMBLE_ISSUE = "vinkje.assemble_issue"
START_ROUND = "vinkje.start_round"
SEND_BATCH = "vinkje.send_batch"
CLOSE_BOOKS = "vinkje.close_books"
PROBE_RELAY = "vinkje.probe_relay"
READ_INBOX = "vinkje.read_inbox"
APPLY_RETENTION = "vinkje.apply_retention"
END_UNREACHABLE = "vinkje.end_unreachable"

# A round of a million must not delay a sign-up, nor the clock: a queue for each.
QUEUES = {
    TICK: "clock",
    TAKE_SIGNUP: "confirmation",
    SEND_CONFIRMATION: "confirmation",
    SEND_LETTER: "confirmation",
    SEND_NOTICE: "confirmation",
    ASSEMBLE_ISSUE: "clock",
    START_ROUND: "clock",
    SEND_BATCH: "newsletter",
    CLOSE_BOOKS: "clock",
    PROBE_RELAY: "newsletter",
    READ_INBOX: "clock",
    APPLY_RETENTION: "clock",
    END_UNREACHABLE: "clock",
}

log = structlog.get_logger()
_broker: list[Celery] = []


def broker() -> Celery:
    """The Celery app of this process, connected at the first call."""
    if not _broker:
        _broker.append(_connect(settings.current()))
    return _broker[0]


def _connect(chosen: settings.Settings) -> Celery:
    app = Celery("vinkje", broker=chosen.redis_url or "memory://localhost/", set_as_current=True)
    app.set_default()  # without it worker threads use another app: decision 0004
    options: dict[str, object] = (
        {"polling_interval": 0.05}
        if chosen.embedded
        # A visitor waits while we ring: one try, and not for long.
        else {"visibility_timeout": 3600, "socket_connect_timeout": 2, "socket_timeout": 5, "max_retries": 0}
    )
    app.conf.update(
        broker_transport_options=options,
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
        task_publish_retry=False,
        task_routes={name: {"queue": queue} for name, queue in QUEUES.items()},
        task_default_queue="clock",
        timezone="UTC",
    )
    return app


def enqueue(session: Session, name: str, *args: int) -> None:
    """Ring for job `name` once this session commits; a rollback forgets it."""
    session.info.setdefault("doorbells", []).append((name, args))


@event.listens_for(Session, "after_commit")
def _ring(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released: nobody else sees the rows yet
    for name, args in session.info.pop("doorbells", []):
        try:
            broker().send_task(name, args=args)
        except (KombuError, OSError) as fault:
            log.warning("doorbell_unheard", job=name, fault=type(fault).__name__)
            return  # the rest would wait for the same time-out; the tick nudges them


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was undone: the rest may still be committed; a bell too many is harmless
    session.info.pop("doorbells", None)
