"""A round: one issue going out. Start, pause, resume, cancel, finish (design: the round, step 10).

Locks go from the issue to its batches: a worker shares the issue's while it claims a batch, and once it
holds the batch it never asks for the issue's in the same transaction.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from sqlalchemy import Exists, exists, or_, select, update
from sqlalchemy.orm import Session

from service import errors, jobs, settings, themes
from service.delivery import batches, breaker, nudges
from service.delivery.models import OPEN, Batch, BatchState, Delivery, Outcome
from service.issues import assembly, models
from service.issues.models import Issue, IssueState

log = structlog.get_logger()


def start(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """Cut the audience and let the workers go; an issue without readers is sent at once."""
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.state is not IssueState.APPROVED:
        raise errors.Conflict("This issue is “%(state)s”: it can’t start.", state=str(issue.state))
    issue.move(IssueState.SENDING)
    issue.held_since, issue.note = None, ""
    issue.cut_at = themes.cut(session=session, theme_id=issue.theme_id, now=now)
    session.flush()
    issue.audience = batches.cut(
        session=session, now=now, issue=issue, cut_at=issue.cut_at, size=settings.current().batch_size
    )
    session.flush()
    nudges.ring(session=session, now=now, issue_id=issue.id)
    log.info("round_started", issue=issue.id, audience=issue.audience)
    return _finish(session, now, issue)


def send_now(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """Don't wait for the hour; also lets go of an issue that was held."""
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.state is not IssueState.APPROVED:
        raise errors.Conflict("This issue is “%(state)s”: it can’t start.", state=str(issue.state))
    issue.send_at, issue.held_since, issue.note = now, None, ""
    jobs.enqueue(session, jobs.START_ROUND, issue.id)
    return issue


def pause(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """Workers stop within a second, after the mails in flight. One that waits for the relay then stays paused
    when the relay is well again.
    """
    issue = models.lock(session=session, issue_id=issue_id)
    if not (issue.state is IssueState.PAUSED and issue.note in breaker.NOTES):
        issue.move(IssueState.PAUSED)
    issue.note = ""
    log.info("round_paused", issue=issue.id)
    return issue


def resume(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """When it waits for the relay: try now, with everything that waits for it."""
    issue = models.find(session=session, issue_id=issue_id)
    if issue.state is IssueState.PAUSED and issue.note in breaker.NOTES:
        breaker.heal(session=session, now=now)
        return _finish(session, now, models.lock(session=session, issue_id=issue_id))
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.state is not IssueState.PAUSED:
        raise errors.Conflict("This issue is “%(state)s”: only a paused one goes on.", state=str(issue.state))
    issue.move(IssueState.SENDING)
    issue.note = ""
    session.flush()
    nudges.ring(session=session, now=now, issue_id=issue.id)
    log.info("round_resumed", issue=issue.id)
    return _finish(session, now, issue)


def cancel(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """What went out stays out. When nothing can have, the items wait for the theme's next issue."""
    issue = models.lock(session=session, issue_id=issue_id)
    issue.move(IssueState.CANCELLED)
    issue.finished_at, issue.held_since = now, None
    session.flush()
    give_up(session=session, now=now, issue_id=issue.id)
    if not _anything_went_out(session, issue):
        assembly.free_items(session=session, issue=issue)
    log.info("issue_cancelled", issue=issue.id)
    return issue


def finish(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """Sent, once no batch is open; harmless before that."""
    return _finish(session, now, models.lock(session=session, issue_id=issue_id))


def finish_all(*, session: Session, now: datetime) -> int:
    """For the tick: rounds whose last worker died between its last batch and `finish`. Gives how many."""
    query = select(Issue.id).where(Issue.state == IssueState.SENDING, ~_open_batch()).order_by(Issue.id)
    found = session.scalars(query).all()
    for issue_id in found:
        finish(session=session, now=now, issue_id=issue_id)
    return len(found)


def give_up(*, session: Session, now: datetime, issue_id: int) -> None:
    """Nobody will try the deferred of a cancelled round again."""
    session.execute(
        update(Delivery)
        .where(Delivery.issue_id == issue_id, Delivery.outcome == Outcome.DEFERRED)
        .values(outcome=Outcome.GIVEN_UP, at=now, retry_at=None)
        .execution_options(synchronize_session=False)
    )


def _finish(session: Session, now: datetime, issue: Issue) -> Issue:
    if issue.state is IssueState.SENDING and not session.scalar(select(_open_batch()).where(Issue.id == issue.id)):
        issue.move(IssueState.SENT)
        issue.finished_at = now
        log.info("round_finished", issue=issue.id, audience=issue.audience)
    session.flush()
    return issue


def _open_batch() -> Exists:
    """For a query on issues."""
    return exists().where(Batch.issue_id == Issue.id, Batch.state.in_(OPEN))


def _anything_went_out(session: Session, issue: Issue) -> bool:
    """A batch that a worker holds counts: what it has sent may not be recorded yet."""
    gone = exists().where(Delivery.issue_id == issue.id, Delivery.outcome.in_((Outcome.ACCEPTED, Outcome.UNCERTAIN)))
    held = exists().where(Batch.issue_id == issue.id, Batch.state == BatchState.SENDING)
    return bool(session.scalar(select(or_(gone, held))))
