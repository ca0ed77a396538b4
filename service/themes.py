"""Themes: what a reader can tick. Here the newsroom and the subscribers meet."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from service import errors
from service.db import Base

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST = 40


class Theme(Base):
    """`retired_at` closes a theme for new ticks; who has it keeps it. `cut_at` is its last audience's hour."""

    __tablename__ = "themes"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(LONGEST), unique=True)
    name_nl: Mapped[str] = mapped_column(String(80))
    name_en: Mapped[str] = mapped_column(String(80))
    retired_at: Mapped[datetime | None]
    cut_at: Mapped[datetime | None]

    def name(self, language: str) -> str:
        return self.name_en if language == "en" else self.name_nl


def add(*, session: Session, slug: str, name_nl: str, name_en: str) -> Theme:
    for problem in problems(session=session, slug=slug, name_nl=name_nl, name_en=name_en):
        raise problem
    theme = Theme(slug=slug, name_nl=name_nl.strip(), name_en=name_en.strip())
    try:
        with session.begin_nested():
            session.add(theme)
    except IntegrityError:  # two admins add it at once
        raise _taken(slug) from None
    return theme


def problems(*, session: Session, slug: str, name_nl: str, name_en: str) -> list[errors.Refused]:
    """Everything that `add` would refuse, in the order of the form."""
    found = [
        refused
        for name, refused in (
            (name_nl, errors.Refused("nl", "A theme needs a Dutch name, of 80 characters at most.")),
            (name_en, errors.Refused("en", "A theme needs an English name, of 80 characters at most.")),
        )
        if not name.strip() or len(name) > 80 or not name.isprintable()
    ]
    if not _is_slug(slug):
        found.append(errors.Refused("slug", "A slug has small letters, digits and single hyphens, 40 at most."))
    elif session.scalar(select(Theme.id).where(Theme.slug == slug)):
        found.append(_taken(slug))
    return found


def _taken(slug: str) -> errors.Refused:
    return errors.Refused("slug", "There is a theme “%(slug)s” already.", slug=slug)


def retire(*, session: Session, slug: str, now: datetime) -> Theme:
    theme = by_slug(session=session, slug=slug)
    theme.retired_at = theme.retired_at or now
    return theme


def by_slug(*, session: Session, slug: str) -> Theme:
    theme = session.scalar(select(Theme).where(Theme.slug == slug)) if _is_slug(slug) else None
    if theme is None:
        raise errors.NotFound("There is no theme “%(slug)s”.", slug=slug)
    return theme


def every(*, session: Session) -> Sequence[Theme]:
    return session.scalars(select(Theme).order_by(Theme.name_nl)).all()


def open_themes(*, session: Session) -> Sequence[Theme]:
    return session.scalars(select(Theme).where(Theme.retired_at.is_(None)).order_by(Theme.name_nl)).all()


def chosen(*, session: Session, slugs: Collection[str]) -> Sequence[Theme]:
    """The open themes behind ticked boxes. Refused when one is unknown or retired."""
    wanted = set(slugs)
    found = [theme for theme in open_themes(session=session) if theme.slug in wanted]
    if len(found) != len(wanted):
        raise errors.Refused("themes", "One of these themes isn’t offered any more. Please choose again.")
    return found


def moment_of_consent(*, session: Session, theme_id: int, now: datetime) -> datetime:
    """`now`, or just after the theme's last cut when that is later.

    An audience is "active since before the cut". A confirmation that began before a cut and commits
    after it was not counted, so it must not look as if it had been. Holds off a cut until commit.
    """
    query = select(Theme.cut_at).where(Theme.id == theme_id).with_for_update(read=True)
    cut_at = session.execute(query).scalar_one()
    return now if cut_at is None or cut_at < now else cut_at + timedelta(microseconds=1)


def cut(*, session: Session, theme_id: int, now: datetime) -> datetime:
    """Mark the hour of a new audience and return it; waits for confirmations that are under way."""
    theme = session.scalars(select(Theme).where(Theme.id == theme_id).with_for_update()).one()
    session.refresh(theme)
    theme.cut_at = now if theme.cut_at is None or theme.cut_at < now else theme.cut_at + timedelta(microseconds=1)
    return theme.cut_at


def _is_slug(text: str) -> bool:
    return len(text) <= LONGEST and SLUG.fullmatch(text) is not None
