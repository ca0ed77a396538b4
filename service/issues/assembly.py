"""An issue gathers the published items of its theme; a chief puts them in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from service import errors, jobs, themes
from service.issues import editions, models
from service.issues.models import Issue, IssueState, Placement
from service.newsroom.models import Editor, EditorState, Item, ItemState, Notice, NoticeKind, Role

MOST_ITEMS = 15  # keeps the mail under the size at which Gmail clips it (requirements 5); the rest waits

log = structlog.get_logger()


def assemble(*, session: Session, now: datetime, issue_id: int, top_up: bool = False) -> Issue:
    """Place the theme's published items, oldest first; without any the issue is skipped and says so.

    Harmless to repeat: an assembled issue stays as the chief left it, unless `top_up` asks to add
    what was published since, or anything that waits when it has no items left.
    """
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.state is IssueState.ASSEMBLED and not top_up:
        return issue
    if issue.state not in (IssueState.PLANNED, IssueState.SKIPPED, IssueState.ASSEMBLED):
        raise errors.Conflict("This issue is “%(state)s”: it can’t be assembled any more.", state=str(issue.state))
    _take_turn(session=session, theme_id=issue.theme_id)
    placed = len(issue.placements)
    found = _take(session=session, issue=issue, most=MOST_ITEMS - placed)
    for position, item in enumerate(found, start=placed + 1):
        issue.placements.append(Placement(item=item, position=position))
        item.state = ItemState.PLACED
    if issue.placements and issue.state is not IssueState.ASSEMBLED:
        issue.move(IssueState.ASSEMBLED)
        issue.assembled_at, issue.finished_at, issue.note = now, None, ""
        _tell_chiefs(session=session, now=now, issue=issue)
    elif not issue.placements and issue.state is IssueState.PLANNED:
        issue.move(IssueState.SKIPPED)
        issue.note, issue.finished_at = "no_items", now
        log.info("issue_skipped", issue=issue.id)
    session.flush()
    return issue


def waiting(*, session: Session, issue: Issue) -> int:
    """How many items assembling it, or topping it up, would find; more than fit, perhaps."""
    return session.scalar(select(func.count()).select_from(_found(issue).subquery())) or 0


def reorder(*, session: Session, now: datetime, issue_id: int, seen: Sequence[int], item_ids: Sequence[int]) -> None:
    """Put the items in the order of `item_ids`. Raises Conflict when they no longer stand as `seen`, or
    `item_ids` aren't just those.
    """
    issue = _assembled(session=session, issue_id=issue_id)
    by_item = {placement.item_id: placement for placement in issue.placements}
    stand = [placement.item_id for placement in sorted(issue.placements, key=_place)]
    if stand != list(seen) or sorted(stand) != sorted(item_ids):
        raise errors.Conflict("The items changed while you looked. Look again, then put them in order.")
    for position, item_id in enumerate(item_ids, start=1):
        by_item[item_id].position = position
    session.flush()
    session.expire(issue, ["placements"])


def drop(*, session: Session, now: datetime, issue_id: int, item_id: int) -> None:
    """The item waits for the next issue of its theme."""
    issue = _assembled(session=session, issue_id=issue_id)
    for placement in issue.placements:
        if placement.item_id == item_id:
            placement.item.state = ItemState.PUBLISHED
            issue.placements.remove(placement)
            session.flush()
            return
    raise errors.Conflict("This item doesn’t stand in the issue any more.")


def free_items(*, session: Session, issue: Issue) -> None:
    """For a cancelled issue of which nothing went out: its items wait for the next one."""
    editions.thaw(session=session, issue=issue)
    for placement in issue.placements:
        placement.item.state = ItemState.PUBLISHED
    issue.placements.clear()
    session.flush()


def _place(placement: Placement) -> tuple[int, int]:
    return placement.position, placement.item_id


def _assembled(*, session: Session, issue_id: int) -> Issue:
    issue = models.lock(session=session, issue_id=issue_id)
    if issue.state is not IssueState.ASSEMBLED:
        raise errors.Conflict("This issue is “%(state)s”: its items stand fast.", state=str(issue.state))
    return issue


def _take_turn(*, session: Session, theme_id: int) -> None:
    """Two issues of one theme that are assembled at once must not want the same items."""
    session.execute(select(themes.Theme.id).where(themes.Theme.id == theme_id).with_for_update())


def _found(issue: Issue) -> Select[Item]:
    query = select(Item).where(Item.theme_id == issue.theme_id, Item.state == ItemState.PUBLISHED)
    if issue.state is IssueState.ASSEMBLED and issue.placements:
        return query.where(Item.published_at > issue.assembled_at)  # what was dropped doesn't come back
    return query


def _take(*, session: Session, issue: Issue, most: int) -> Sequence[Item]:
    query = (
        _found(issue)
        .order_by(Item.published_at, Item.id)
        .limit(max(most, 0))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return session.scalars(query).all()


def _tell_chiefs(*, session: Session, now: datetime, issue: Issue) -> None:
    query = select(Editor).where(Editor.state == EditorState.ACTIVE, Editor.role.in_((Role.CHIEF, Role.ADMIN)))
    for editor in session.scalars(query).all():
        notice = Notice(
            kind=NoticeKind.READY,
            editor_id=editor.id,
            issue_id=issue.id,
            language=editor.language,
            created_at=now,
            due_at=now,
        )
        session.add(notice)
        session.flush()
        jobs.enqueue(session, jobs.SEND_NOTICE, notice.id)
