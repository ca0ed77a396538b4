"""`vinkje health`: does the clock tick? For beat's health check in a container, and for an operator who wonders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from flask.cli import with_appcontext

from service import db, heartbeat, settings

GRACE = timedelta(seconds=30)


@click.command()
@with_appcontext
def health() -> None:
    """Ask whether the clock ticks: beat rings, the broker carries it, a worker hears it.

    Exit status 0: a tick was done in the time of the last three. 1: none was.
    """
    last = heartbeat.last(session=db.reading())
    if last is None:
        raise click.ClickException("no tick was ever done: do beat and a worker for the queue “clock” run?")
    age = datetime.now(UTC) - last
    if age > timedelta(seconds=3 * settings.current().tick_seconds) + GRACE:
        raise click.ClickException(f"the last tick was {age.total_seconds():.0f} seconds ago")
    click.echo(f"The last tick was {age.total_seconds():.0f} seconds ago.")
