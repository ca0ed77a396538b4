"""An edition as its readers will see it, with links that change nothing."""

from __future__ import annotations

from sqlalchemy.orm import Session

from service import mail
from service.issues import editions
from service.issues.models import Issue


def of(*, session: Session, issue: Issue, language: str) -> mail.Rendered | None:
    """Once approved, what was frozen; before, what stands now. None when there are no items."""
    rendered = editions.shown(session=session, issue=issue, language=language)
    return editions.sample(rendered, language=language) if rendered else None
