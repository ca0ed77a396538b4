"""What a page shows of a round that it follows, and how long the books then rest (service/delivery/progress.py)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from service.delivery import progress
from service.delivery.models import Trouble
from service.i18n import N_
from service.issues.models import Issue, IssueState

SOON = timedelta(minutes=15)
STATES: dict[Trouble | None, str] = {
    None: N_("no trouble known"),
    Trouble.DOWN: N_("doesn’t answer"),
    Trouble.LOGIN: N_("doesn’t let us log in"),
    Trouble.REFUSES: N_("refuses our mail"),
    Trouble.SLOW_DOWN: N_("wants us to wait"),
}


def of(*, session: Session, now: datetime, issue: Issue, counted: bool) -> dict[str, object]:
    """For newsroom/_pause.html and newsroom/_numbers.html."""
    before = time.perf_counter()
    found = progress.of(session=session, now=now, issue_id=issue.id, counted=counted)
    return {
        "progress": found,
        "books": found.books,
        "rest": progress.rest(seconds=time.perf_counter() - before),
        "why": progress.WHY,
        "and_then": progress.AND_THEN,
        "comes_back": progress.COMES_BACK,
        "relay_word": STATES[found.relay.trouble],
        "started": issue.cut_at is not None,
        "follow": worthwhile(now=now, issue=issue),
    }


def worthwhile(*, now: datetime, issue: Issue) -> bool:
    """Does it go out, or will it start by itself while somebody looks?"""
    starts = issue.state is IssueState.APPROVED and not issue.held_since and issue.send_at - now <= SOON
    return starts or issue.state in (IssueState.SENDING, IssueState.PAUSED)
