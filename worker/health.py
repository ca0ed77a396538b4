"""`vinkje health`: what a container's health check asks. Exit status 0 is well, 1 is not, with the reason."""

from __future__ import annotations

import http.client
from datetime import UTC, datetime, timedelta

import click
from flask.cli import with_appcontext

from service import db, heartbeat, settings


@click.group()
def health() -> None:
    """Ask whether a part is well. Workers: `celery -A worker.app inspect ping`."""


@health.command()
def web() -> None:
    """The web server on this machine answers /healthz."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.current().port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
    except OSError as fault:
        raise click.ClickException(f"no answer: {fault}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise click.ClickException(f"/healthz answers {answer.status}")
    click.echo("well")


@health.command()
@with_appcontext
def beat() -> None:
    """A tick was done lately: beat rang, the broker carried it, and a worker heard it."""
    last = heartbeat.last(session=db.reading())
    if last is None or datetime.now(UTC) - last > timedelta(seconds=3 * settings.current().tick_seconds + 30):
        raise click.ClickException(f"last tick: {last or 'never'}")
    click.echo("well")
