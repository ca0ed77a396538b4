"""`vinkje item …`"""

from __future__ import annotations

from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from service import db, i18n, themes
from service.newsroom import items

group = AppGroup("item", help="Pieces of news.")


@group.command()
@click.option("--theme", "slug", required=True, metavar="SLUG")
@click.option("--title", required=True)
@click.option("--body", required=True, metavar="MARKDOWN")
@click.option("--url", default="", help="The source.")
@click.option("--language", type=click.Choice(i18n.LANGUAGES), default="nl", show_default=True)
@click.option("--publish", is_flag=True, help="Ready for the next issue of its theme; otherwise it's a draft.")
def add(slug: str, title: str, body: str, url: str, language: str, publish: bool) -> None:
    """Write an item. Prints its id and nothing else."""
    now = datetime.now(UTC)
    with db.transaction() as session:
        theme = themes.by_slug(session=session, slug=slug)
        item = items.write(
            session=session,
            now=now,
            editor_id=None,
            theme_id=theme.id,
            title=title,
            body=body,
            url=url,
            language=language,
        )
        if publish:
            items.publish(session=session, now=now, item_id=item.id)
        item_id = item.id
    click.echo(item_id)
