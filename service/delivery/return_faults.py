"""Mails that come back because of us: our policy, signature or content, not their readers (requirements 1.10).

The relay took them, so the breaker saw nothing. Each says little; many of one issue stop its round, for a person to
look at: it goes on by hand only, since those that would tell that all is well again come back too late.
"""

from __future__ import annotations

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.delivery.models import Report, ReportKind
from service.issues import models
from service.issues.models import IssueState

NOTE = "mail_comes_back"  # of an issue that was paused for it
SHARE = 0.05  # of an issue's mails
FEWEST = 5  # and not for less, however small the audience: that may be one odd mail server
# Enough in a larger one, whatever their share; but a stranger with some sign-ups of their own stops none of a million.
MANY, THOUSANDTH = 20, 0.001

log = structlog.get_logger()


def weigh(*, session: Session, issue_id: int, status: str) -> None:
    """For each new one. The reader isn't charged. Who goes on all the same isn't stopped before as many came again."""
    issue = models.lock(session=session, issue_id=issue_id)
    query = select(func.count()).where(Report.issue_id == issue_id, Report.kind == ReportKind.FAULT)
    count = session.scalar(query) or 0
    log.error("mail_came_back_for_our_fault", issue=issue_id, status=status, count=count)
    if issue.state is IssueState.SENDING and count % enough(issue.audience) == 0:
        issue.move(IssueState.PAUSED)
        issue.note = NOTE
        log.error("round_paused", issue=issue_id, note=NOTE)


def enough(audience: int) -> int:
    """How many stop a round."""
    return max(FEWEST, min(round(audience * SHARE), max(MANY, round(audience * THOUSANDTH))))
