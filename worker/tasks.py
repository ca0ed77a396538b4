"""The jobs. Each is safe to run twice: the row in the database decides whether there is anything to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from weakref import WeakSet

import structlog
from sqlalchemy.orm import Session

from service import db, errors, jobs, mail, outbox, settings
from service.delivery import nudges, rounds, unreachable
from service.delivery.outcomes import Verdict
from service.issues import assembly, notices, rota
from service.newsroom.models import Notice
from service.privacy import night, retention
from service.subscribers import intake, letters
from service.subscribers.models import Confirmation, Letter
from worker import halt, inbox, lines, pace, probe, sender, single, steps
from worker.file_journal import FileJournal
from worker.redis_journal import RedisJournal

ROUND_THREADS = 2  # of embedded.CONCURRENCY
RETENTION_STEPS = 100  # in one job

log = structlog.get_logger()
# Lines serve one thread and one stream: a sign-up doesn't wait behind a round's connections.
_mine = threading.local()
_round = threading.BoundedSemaphore(ROUND_THREADS)
_lines: WeakSet[lines.Lines | single.Relay] = WeakSet()


def tick() -> None:
    """Ask the database what is due. A step that fails doesn't stop the others; the next tick tries it again."""
    for step in steps.STEPS:
        try:
            with db.transaction() as session:
                step(session, _now())
        except Exception:
            log.exception("tick_step_failed", step=step.__name__)


def assemble_issue(issue_id: int) -> None:
    with db.transaction() as session:
        if issue_id in rota.due_for_assembly(session=session, now=_now()):
            assembly.assemble(session=session, now=_now(), issue_id=issue_id)


def start_round(issue_id: int) -> None:
    """The doorbell may be old: whether the hour has come stands in the row."""
    try:
        with db.transaction() as session:
            if issue_id in rota.due_to_start(session=session, now=_now()):
                rounds.start(session=session, now=_now(), issue_id=issue_id)
    except errors.Conflict:
        log.info("round_started_already", issue=issue_id)


def send_batch(batch_id: int) -> None:
    """In one process with all else a round has two threads: a sign-up must not wait behind it (the round, step 11)."""
    if not settings.current().embedded:
        sender.send(batch_id=batch_id, desk=_desk())
    elif _round.acquire(blocking=False):
        try:
            sender.send(batch_id=batch_id, desk=_desk())
        finally:
            _round.release()
            with db.transaction() as session:  # a bell that was heard meanwhile is rung again
                nudges.next_ones(session=session, now=_now(), count=ROUND_THREADS)


def close_books(batch_id: int) -> None:
    sender.close_books(batch_id=batch_id, desk=_desk())


def probe_relay() -> None:
    probe.probe(sender=mail.return_address(), clock=_now)


def read_inbox() -> None:
    inbox.read(clock=_now, halted=halt.asked)


def take_signup(request_id: int) -> None:
    with db.transaction() as session:
        intake.take(session=session, now=_now(), request_id=request_id)


def send_confirmation(confirmation_id: int) -> None:
    def compose(session: Session) -> mail.Outbound | None:
        return letters.compose(session=session, now=_now(), confirmation_id=confirmation_id)

    _send_one(Confirmation, confirmation_id, compose)


def send_letter(letter_id: int) -> None:
    def compose(session: Session) -> mail.Outbound | None:
        return letters.compose_letter(session=session, now=_now(), letter_id=letter_id)

    _send_one(Letter, letter_id, compose)


def send_notice(notice_id: int) -> None:
    def compose(session: Session) -> mail.Outbound | None:
        return notices.compose(session=session, now=_now(), notice_id=notice_id)

    _send_one(Notice, notice_id, compose)


def apply_retention() -> None:
    """Many small transactions, so that nobody waits long for one; and not too many, so that no tick waits for all.
    A line of the table that fails doesn't stop the others; it is tried again a quarter of an hour later.
    """
    steps_left, failed = RETENTION_STEPS, False
    for line in retention.TABLE:
        try:
            while line.apply and _retained(line):
                steps_left -= 1
                if not steps_left:
                    with db.transaction() as session:
                        night.go_on(session=session, now=_now())
                    return
        except Exception:
            log.exception("retention_failed", line=line.key)
            failed = True
    if not failed:
        with db.transaction() as session:
            night.finish(session=session, now=_now())


def _retained(line: retention.Line) -> int:
    with db.transaction() as session:
        return retention.apply(session=session, now=_now(), line=line)


def end_unreachable(after: int) -> None:
    """A step a job, so that no tick waits for all. A bell that is lost is rung again the next night, from the start."""
    with db.transaction() as session:
        last = unreachable.end_some(session=session, now=_now(), after=after)
        if last:
            jobs.enqueue(session, jobs.END_UNREACHABLE, last)


JOBS: Mapping[str, Callable[..., None]] = {
    jobs.TICK: tick,
    jobs.TAKE_SIGNUP: take_signup,
    jobs.SEND_CONFIRMATION: send_confirmation,
    jobs.SEND_LETTER: send_letter,
    jobs.SEND_NOTICE: send_notice,
    jobs.ASSEMBLE_ISSUE: assemble_issue,
    jobs.START_ROUND: start_round,
    jobs.SEND_BATCH: send_batch,
    jobs.CLOSE_BOOKS: close_books,
    jobs.PROBE_RELAY: probe_relay,
    jobs.READ_INBOX: read_inbox,
    jobs.APPLY_RETENTION: apply_retention,
    jobs.END_UNREACHABLE: end_unreachable,
}


def hang_up() -> None:
    """Say goodbye to the relay on every line of this process."""
    for line in list(_lines):
        line.close()


def _send_one(model: type[outbox.Outgoing], row_id: int, compose: Callable[[Session], mail.Outbound | None]) -> None:
    """claim → commit → compose → send → settle: a mail that can't be made must not stay claimed for nobody."""
    with db.transaction() as session:
        if not outbox.claim(session=session, model=model, row_id=row_id, now=_now()):
            return
    with db.transaction() as session:
        made = compose(session)
        if made is None:
            outbox.refused(session=session, model=model, row_id=row_id, now=_now())
            return
    reply = _line().deliver(sender=made.sender, recipient=made.recipient, message=made.message)
    log.info("mail_tried", kind=model.__name__, row=row_id, verdict=str(reply.verdict), status=reply.status)
    with db.transaction() as session:
        _settle(session, model, row_id, reply.verdict)


def _settle(session: Session, model: type[outbox.Outgoing], row_id: int, verdict: Verdict) -> None:
    now = _now()
    if verdict in (Verdict.ACCEPTED, Verdict.UNCERTAIN):  # at most once: who asks again gets a new one
        outbox.sent(session=session, model=model, row_id=row_id, now=now)
    elif verdict in (Verdict.DEAD, Verdict.REFUSED):
        outbox.refused(session=session, model=model, row_id=row_id, now=now)
    else:
        charged = verdict is not Verdict.NOBODY
        outbox.later(session=session, model=model, row_id=row_id, now=now, charged=charged)


def _line() -> single.Relay:
    chosen = settings.current()
    mine: dict[str, single.Relay] = _mine.__dict__.setdefault("single", {})
    if chosen.smtp_url not in mine:
        mine[chosen.smtp_url] = single.Relay(chosen.relay, hello=chosen.mail_domain, cap=chosen.relay_messages)
        _lines.add(mine[chosen.smtp_url])
    return mine[chosen.smtp_url]


def _desk() -> sender.Desk:
    """What newsletters are sent with: opened once a thread, used from batch to batch."""
    chosen = settings.current()
    mine: dict[str, sender.Desk] = _mine.__dict__.setdefault("desks", {})
    if chosen.smtp_url not in mine:
        opened = lines.Lines(chosen.relay, hello=chosen.mail_domain, cap=chosen.relay_messages)
        _lines.add(opened)
        kept = FileJournal(chosen.data_dir) if chosen.embedded else RedisJournal(chosen.redis_url)
        mine[chosen.smtp_url] = sender.Desk(opened, kept, pace.Pace(), clock=_now, halted=halt.asked)
    return mine[chosen.smtp_url]


def _now() -> datetime:
    return datetime.now(UTC)
