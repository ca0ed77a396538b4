"""What a new Vinkje shows at its first start, so that a visitor can try each road at once.

Through the domain's own calls: the demo's readers have real consent evidence.
"""

from __future__ import annotations

import secrets
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import themes
from service.issues import rota
from service.newsroom import editors, items
from service.newsroom.models import Role
from service.subscribers import confirmation, signup
from service.subscribers.models import Confirmation, Subscriber

EDITOR = "redactie@vinkje.example"
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class Seeded:
    """`password` is kept nowhere: show it now. `send_at`: the hour of the planned issue."""

    email: str
    password: str
    send_at: datetime


def seed(*, session: Session, now: datetime) -> Seeded | None:
    """Fill an empty house; None when there is a theme already. Only where mail is caught: its readers do not exist."""
    if themes.every(session=session):
        return None
    content = tomllib.loads((Path(__file__).parent / "demo.toml").read_text(encoding="utf-8"))
    theme_ids = _themes(session, content)
    password = "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(4))
    editor = editors.add(session=session, now=now, email=EDITOR, name="Redactie", role=Role.ADMIN, password=password)
    for item in content["item"]:
        _publish(session, now, editor.id, theme_ids[item["theme"]], item)
    for reader in content["reader"]:
        _read(session, now, reader)
    issue = rota.plan(
        session=session, now=now, theme_id=theme_ids[content["planned"]], week=rota.week_of(now), send_at=None
    )
    return Seeded(EDITOR, password, issue.send_at)


def _themes(session: Session, content: dict[str, Any]) -> dict[str, int]:
    return {
        theme["slug"]: themes.add(session=session, slug=theme["slug"], name_nl=theme["nl"], name_en=theme["en"]).id
        for theme in content["theme"]
    }


def _publish(session: Session, now: datetime, editor_id: int, theme_id: int, item: dict[str, str]) -> None:
    written = items.write(
        session=session,
        now=now,
        editor_id=editor_id,
        theme_id=theme_id,
        title=item["title"],
        body=item["body"].strip(),
        url=item["url"],
    )
    items.publish(session=session, now=now, item_id=written.id)


def _read(session: Session, now: datetime, reader: dict[str, Any]) -> None:
    """Sign up and confirm. The confirmation mail counts as sent, so that the mailbox starts empty."""
    signup.sign_up(
        session=session,
        now=now,
        email=reader["email"],
        slugs=reader["themes"],
        language=reader.get("language", "nl"),
        network=reader["email"],  # none: these must not count for a visitor's
    )
    query = select(Confirmation).join(Subscriber).where(Subscriber.email == reader["email"])
    asked = session.scalar(query)
    if asked is not None:  # a low cap on sign-ups per hour may have stopped it
        confirmation.confirm(session=session, now=now, confirmation_id=asked.id)
        asked.due_at, asked.mailed_at = None, now
