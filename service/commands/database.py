"""`vinkje db …`"""

from __future__ import annotations

import click
import flask_migrate
from flask.cli import AppGroup

from service import app

group = AppGroup("db", help="The database's tables.")


@group.command()
def upgrade() -> None:
    """Make the tables, or bring them up to date. Safe to run twice."""
    flask_migrate.upgrade(directory=app.MIGRATIONS)
    click.echo("The database is up to date.")
