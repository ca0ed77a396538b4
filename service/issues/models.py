"""Issues: one theme, one ISO week. The states and the moves between them stand in MOVES."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from service import errors
from service.db import Base
from service.newsroom.models import Editor, Item
from service.themes import Theme


class IssueState(StrEnum):
    PLANNED = "planned"
    ASSEMBLED = "assembled"
    APPROVED = "approved"
    SENDING = "sending"
    PAUSED = "paused"
    SENT = "sent"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


MOVES: dict[IssueState, frozenset[IssueState]] = {
    IssueState.PLANNED: frozenset({IssueState.ASSEMBLED, IssueState.SKIPPED, IssueState.CANCELLED}),
    IssueState.ASSEMBLED: frozenset({IssueState.APPROVED, IssueState.CANCELLED}),
    IssueState.APPROVED: frozenset({IssueState.SENDING, IssueState.ASSEMBLED, IssueState.CANCELLED}),
    IssueState.SENDING: frozenset({IssueState.PAUSED, IssueState.SENT, IssueState.CANCELLED}),
    IssueState.PAUSED: frozenset({IssueState.SENDING, IssueState.CANCELLED}),
    IssueState.SENT: frozenset({IssueState.SENDING}),  # an editor has uncertain mails sent again
    IssueState.SKIPPED: frozenset({IssueState.ASSEMBLED, IssueState.CANCELLED}),
    IssueState.CANCELLED: frozenset({IssueState.PLANNED}),  # only when nothing had gone out: rota.plan
}

EARLY = frozenset({IssueState.PLANNED, IssueState.ASSEMBLED, IssueState.APPROVED})  # the round hasn't started
# A chief can look at its mail and have it mailed as a test.
SHOWABLE = frozenset(IssueState) - {IssueState.PLANNED, IssueState.SKIPPED, IssueState.CANCELLED}
GATHERING = frozenset({IssueState.PLANNED, IssueState.SKIPPED, IssueState.ASSEMBLED})  # no text is frozen


class Issue(Base):
    """`held_since`: its hour was missed by too much, so it waits for an editor's word.
    `note` says in one of our own words why it was skipped, paused or held.
    """

    __tablename__ = "issues"
    __table_args__ = (
        UniqueConstraint("theme_id", "week"),
        Index(None, "state", "send_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    theme_id: Mapped[int] = mapped_column(ForeignKey("themes.id"))
    week: Mapped[str] = mapped_column(String(8))
    send_at: Mapped[datetime]
    state: Mapped[IssueState] = mapped_column(default=IssueState.PLANNED)
    note: Mapped[str] = mapped_column(String(40), default="")
    held_since: Mapped[datetime | None]
    planned_at: Mapped[datetime]
    assembled_at: Mapped[datetime | None]
    approved_at: Mapped[datetime | None]
    approved_by_id: Mapped[int | None] = mapped_column(ForeignKey("editors.id"))
    cut_at: Mapped[datetime | None]
    audience: Mapped[int] = mapped_column(default=0)
    finished_at: Mapped[datetime | None]

    theme: Mapped[Theme] = relationship()
    approved_by: Mapped[Editor | None] = relationship()
    placements: Mapped[list[Placement]] = relationship(
        back_populates="issue", order_by="Placement.position", cascade="all, delete-orphan"
    )

    def move(self, to: IssueState) -> None:
        """Raises Conflict for a move that is not in MOVES. Only on an issue that `lock` gave."""
        if to not in MOVES[self.state]:
            raise errors.Conflict(
                "This issue is “%(state)s”, so it can’t become “%(to)s”.", state=str(self.state), to=str(to)
            )
        self.state = to


class Placement(Base):
    """An item's place in an issue. The unique item is the guard: no item stands in two issues."""

    __tablename__ = "placements"

    issue_id: Mapped[int] = mapped_column(ForeignKey("issues.id"), primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), primary_key=True, unique=True)
    position: Mapped[int]

    issue: Mapped[Issue] = relationship(back_populates="placements")
    item: Mapped[Item] = relationship()


class Edition(Base):
    """An approved issue in one language, frozen. Personal spots stand in it as marks (service/wire.py)."""

    __tablename__ = "editions"

    issue_id: Mapped[int] = mapped_column(ForeignKey("issues.id"), primary_key=True)
    language: Mapped[str] = mapped_column(String(2), primary_key=True)
    subject: Mapped[str] = mapped_column(String(200))
    html: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)


def find(*, session: Session, issue_id: int) -> Issue:
    issue = session.get(Issue, issue_id)
    if issue is None:
        raise errors.NotFound("There is no issue %(id)s.", id=str(issue_id))
    return issue


def lock(*, session: Session, issue_id: int) -> Issue:
    """The newest state, held until commit: two chiefs who press at once go one after the other."""
    query = select(Issue).where(Issue.id == issue_id).with_for_update().execution_options(populate_existing=True)
    issue = session.scalar(query)
    if issue is None:
        raise errors.NotFound("There is no issue %(id)s.", id=str(issue_id))
    return issue
