"""`vinkje theme …`"""

from __future__ import annotations

from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from service import db, themes

group = AppGroup("theme", help="What readers can tick.")


@group.command()
@click.argument("slug")
@click.option("--nl", required=True, metavar="NAME", help="Its name in Dutch.")
@click.option("--en", required=True, metavar="NAME", help="Its name in English.")
def add(slug: str, nl: str, en: str) -> None:
    """Add a theme. SLUG stands in forms, files and List-Id, and stays as it is for good."""
    with db.transaction() as session:
        themes.add(session=session, slug=slug, name_nl=nl, name_en=en)
    click.echo(f"Theme {slug} is open for subscribers.")


@group.command("list")
def every() -> None:
    """One line for each: slug, state, Dutch name, English name; a tab between."""
    for theme in themes.every(session=db.reading()):
        state = "retired" if theme.retired_at else "open"
        click.echo("\t".join((theme.slug, state, theme.name_nl, theme.name_en)))


@group.command()
@click.argument("slug")
def retire(slug: str) -> None:
    """Close a theme for new readers. Who has it keeps it."""
    with db.transaction() as session:
        themes.retire(session=session, slug=slug, now=datetime.now(UTC))
    click.echo(f"Theme {slug} is retired.")
