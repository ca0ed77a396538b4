"""What a tick asks the database: each step looks for rows whose time has come and rings for them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from service import heartbeat, jobs, outbox, settings
from service.delivery import breaker, inbox, limits, nudges, rounds
from service.issues import alarms, rota, stops
from service.newsroom.models import Notice
from service.privacy import erasure, ledger, night, retention
from service.subscribers import intake
from service.subscribers.models import Confirmation, Letter

LEAST_QUIET = 5.0  # seconds a nudge has to be heard, however short the tick


def beat(session: Session, now: datetime) -> None:
    heartbeat.beat(session=session, now=now)


def hold(session: Session, now: datetime) -> None:
    rota.hold_missed(session=session, now=now)


def assemble(session: Session, now: datetime) -> None:
    for issue_id in rota.due_for_assembly(session=session, now=now):
        jobs.enqueue(session, jobs.ASSEMBLE_ISSUE, issue_id)


def start(session: Session, now: datetime) -> None:
    for issue_id in rota.due_to_start(session=session, now=now):
        jobs.enqueue(session, jobs.START_ROUND, issue_id)


def nudge(session: Session, now: datetime) -> None:
    quiet = max(settings.current().tick_seconds, LEAST_QUIET)
    nudges.sweep(session=session, now=now, quiet=timedelta(seconds=quiet))


def probe(session: Session, now: datetime) -> None:
    if breaker.due(session=session, now=now):
        jobs.enqueue(session, jobs.PROBE_RELAY)
    limits.forget(session=session, now=now)


def read_inbox(session: Session, now: datetime) -> None:
    inbox.ring(session=session, now=now)


def finish(session: Session, now: datetime) -> None:
    rounds.finish_all(session=session, now=now)


def take(session: Session, now: datetime) -> None:
    for request_id in intake.waiting(session=session, now=now):
        jobs.enqueue(session, jobs.TAKE_SIGNUP, request_id)


def alarm(session: Session, now: datetime) -> None:
    alarms.tell(session=session, now=now)


def tell_chiefs(session: Session, now: datetime) -> None:
    stops.tell(session=session, now=now)


def mail_due(session: Session, now: datetime) -> None:
    kinds = ((Confirmation, jobs.SEND_CONFIRMATION), (Letter, jobs.SEND_LETTER), (Notice, jobs.SEND_NOTICE))
    for model, job in kinds:
        for row_id in outbox.due(session=session, model=model, now=now):
            jobs.enqueue(session, job, row_id)


def expire(session: Session, now: datetime) -> None:
    retention.apply_often(session=session, now=now)


def retain(session: Session, now: datetime) -> None:
    night.ring(session=session, now=now)


def keep_erased(session: Session, now: datetime) -> None:
    erasure.follow_up(session=session, now=now)
    ledger.keep(session=session, now=now)


STEPS = (
    hold, assemble, start, probe, nudge, finish, read_inbox, take, alarm, tell_chiefs, mail_due,
    expire, retain, keep_erased, beat,
)  # fmt: skip
