"""`vinkje issue …`"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from service import db, i18n, themes
from service.commands import watch
from service.delivery import books, rounds
from service.issues import approval, assembly, models, rota

group = AppGroup("issue", help="One theme, one week: from plan to sent.")
ISSUE_ID = click.IntRange(min=1, max=2**31 - 1)
NUMBERS = ("audience", "accepted", "deferred", "rejected", "given_up", "uncertain", "left", "waiting")


@group.command()
@click.option("--theme", "slug", required=True, metavar="SLUG")
@click.option("--week", required=True, metavar="2026-W49", help="The ISO week.")
@click.option(
    "--send-at",
    metavar="2026-12-03T09:00",
    help="Date and hour in Europe/Amsterdam; otherwise Thursday 09:00 of that week.",
)
def plan(slug: str, week: str, send_at: str | None) -> None:
    """Plan an issue. Prints its id and nothing else."""
    with db.transaction() as session:
        theme = themes.by_slug(session=session, slug=slug)
        hour = rota.parse_local(send_at) if send_at is not None else None
        issue_id = rota.plan(session=session, now=datetime.now(UTC), theme_id=theme.id, week=week, send_at=hour).id
    click.echo(issue_id)


def _move(issue_id: int, step: Callable[..., models.Issue], **more: object) -> None:
    with db.transaction() as session:
        issue = step(session=session, now=datetime.now(UTC), issue_id=issue_id, **more)
        said = f"Issue {issue.id} is {issue.state}" + (f" ({issue.note})." if issue.note else ".")
    click.echo(said)


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
def assemble(issue_id: int) -> None:
    """Gather the theme's published items. Again: add what was published since."""
    _move(issue_id, assembly.assemble, top_up=True)


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
def approve(issue_id: int) -> None:
    """Freeze the editions. The issue goes out at its hour."""
    _move(issue_id, approval.approve, editor_id=None, seen=None)


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
def send(issue_id: int) -> None:
    """Send an approved issue now, without waiting for its hour."""
    with db.transaction() as session:
        rounds.send_now(session=session, now=datetime.now(UTC), issue_id=issue_id)
    click.echo(f"Issue {issue_id} starts as soon as a worker hears it.")


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
def pause(issue_id: int) -> None:
    """Stop sending after the mails in flight."""
    _move(issue_id, rounds.pause)


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
def resume(issue_id: int) -> None:
    """Go on with a paused issue."""
    _move(issue_id, rounds.resume)


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
def cancel(issue_id: int) -> None:
    """Call an issue off. What went out stays out."""
    _move(issue_id, rounds.cancel)


@group.command()
@click.argument("issue_id", metavar="ID", type=ISSUE_ID)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--watch", "watched", is_flag=True, help="Follow it with a bar until it's over; Ctrl-C stops looking.")
def show(issue_id: int, as_json: bool, watched: bool) -> None:
    """Its state and its numbers."""
    if as_json and watched:
        raise click.UsageError("Give --json or --watch, not both.")
    if watched:
        watch.follow(issue_id)
    session = db.reading()
    issue = models.find(session=session, issue_id=issue_id)
    counted = books.of(session=session, issue_id=issue_id)
    shown: dict[str, object] = {
        "id": issue.id,
        "theme": issue.theme.slug,
        "week": issue.week,
        "state": str(issue.state),
        **{name: getattr(counted, name) for name in NUMBERS},
    }
    if as_json:
        click.echo(json.dumps(shown))
        return
    shown["send at"] = i18n.day_and_hour("en", issue.send_at)
    for name, value in shown.items():
        click.echo(f"{name.replace('_', ' '):<10} {value}")
