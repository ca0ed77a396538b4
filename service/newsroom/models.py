"""Editors, their sessions, the notices mailed to them, and the items they write."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.db import Base
from service.outbox import Outgoing
from service.themes import Theme


class Role(StrEnum):
    """Each may do all that the ones before may."""

    WRITER = "writer"
    CHIEF = "chief"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class EditorState(StrEnum):
    INVITED = "invited"
    ACTIVE = "active"
    LEFT = "left"


class ItemState(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"
    PLACED = "placed"
    WITHDRAWN = "withdrawn"


class NoticeKind(StrEnum):
    INVITATION = "invitation"
    READY = "ready"
    TEST_SEND = "test_send"
    ALARM = "alarm"
    HELD = "held"  # these three: service/issues/stops.py
    PAUSED = "paused"
    WAITS = "waits"


class Editor(Base):
    """`password_version` counts passwords set: it makes an invitation work once."""

    __tablename__ = "editors"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    role: Mapped[Role]
    state: Mapped[EditorState]
    language: Mapped[str] = mapped_column(String(2), default="nl")
    password_hash: Mapped[str] = mapped_column(String(200), default="")
    password_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    invited_at: Mapped[datetime | None]
    left_at: Mapped[datetime | None]


class EditorSession(Base):
    """A signed-in browser. The cookie holds the token, this row its SHA-256; `revoked_at` ends it."""

    __tablename__ = "editor_sessions"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    editor_id: Mapped[int] = mapped_column(ForeignKey("editors.id"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

    editor: Mapped[Editor] = relationship()


class Item(Base):
    """`body` is Markdown. `version` grows with each change: a save that started from an older one is refused.

    `frozen_at`: its issue was approved then. What readers were sent must stay what the record says.
    """

    __tablename__ = "items"
    __table_args__ = (Index(None, "theme_id", "state"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    theme_id: Mapped[int] = mapped_column(ForeignKey("themes.id"))
    language: Mapped[str] = mapped_column(String(2), default="nl")
    title: Mapped[str] = mapped_column(String(120))
    body: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(String(500), default="")
    state: Mapped[ItemState] = mapped_column(default=ItemState.DRAFT)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("editors.id"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    frozen_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)

    theme: Mapped[Theme] = relationship()
    author: Mapped[Editor | None] = relationship()


class Notice(Outgoing, Base):
    """A mail to one editor. `issue_id` and `language` say which edition a test send is of."""

    __tablename__ = "notices"
    __table_args__ = ({"sqlite_autoincrement": True},)

    kind: Mapped[NoticeKind]
    editor_id: Mapped[int] = mapped_column(ForeignKey("editors.id"))
    issue_id: Mapped[int | None] = mapped_column(ForeignKey("issues.id"))
    language: Mapped[str] = mapped_column(String(2))
    created_at: Mapped[datetime]

    editor: Mapped[Editor] = relationship()

    @property
    def made_at(self) -> datetime:
        return self.created_at
