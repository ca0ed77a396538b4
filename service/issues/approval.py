"""A chief's word that an issue may go out as it stands; from then on its text is frozen."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from service import errors, jobs
from service.issues import editions, models
from service.issues.models import Issue, IssueState


def approve(*, session: Session, now: datetime, issue_id: int, editor_id: int | None, seen: str | None) -> Issue:
    """`seen` is the fingerprint of what the chief looked at; Conflict when the issue has changed since,
    or when another chief was first. None (from the command line) approves what stands.
    """
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.approved_at is not None and issue.state is not IssueState.ASSEMBLED:
        who = issue.approved_by.name if issue.approved_by else "vinkje"
        raise errors.Conflict("This issue was approved already, by %(who)s.", who=who)
    if issue.state is not IssueState.ASSEMBLED:
        raise errors.Conflict("This issue is “%(state)s”: assemble it before you approve.", state=str(issue.state))
    if not issue.placements:
        raise errors.Conflict("This issue has no items. Assemble it again, or cancel it.")
    editions.freeze(session=session, now=now, issue=issue, seen=seen)
    issue.move(IssueState.APPROVED)
    issue.approved_at, issue.approved_by_id = now, editor_id
    if issue.send_at <= now and issue.held_since is None:
        jobs.enqueue(session, jobs.START_ROUND, issue.id)
    session.flush()
    return issue


def reopen(*, session: Session, now: datetime, issue_id: int) -> Issue:
    """Take the approval back, to mend something before the hour comes."""
    issue = models.lock(session=session, issue_id=issue_id)
    issue.move(IssueState.ASSEMBLED)
    editions.thaw(session=session, issue=issue)
    issue.approved_at = issue.approved_by_id = None
    session.flush()
    return issue
