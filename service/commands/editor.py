"""`vinkje editor …`"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from service import db, i18n, settings
from service.newsroom import editors
from service.newsroom.models import Role

group = AppGroup("editor", help="Who writes, and what they may do.")


@group.command()
@click.argument("email")
@click.option("--name", required=True, help="As colleagues know this editor.")
@click.option("--role", required=True, type=click.Choice([str(role) for role in Role]), help="Each may do more.")
@click.option("--language", type=click.Choice(i18n.LANGUAGES), default="nl", show_default=True)
def add(email: str, name: str, role: str, language: str) -> None:
    """Add an editor who can sign in at once.

    The password is asked for, or taken from VINKJE_PASSWORD.
    """
    password = _password()
    with db.transaction() as session:
        editors.add(
            session=session,
            now=datetime.now(UTC),
            email=email,
            name=name,
            role=Role(role),
            password=password,
            language=language,
        )
    click.echo(f"Added {name} as {role}.")


@group.command()
@click.argument("email")
def password(email: str) -> None:
    """Set an editor's password, and sign them out everywhere.

    The password is asked for, or taken from VINKJE_PASSWORD.
    """
    chosen = _password()
    with db.transaction() as session:
        name = editors.reset_password(session=session, now=datetime.now(UTC), email=email, password=chosen).name
    click.echo(f"{name} has a new password.")


def _password() -> str:
    return settings.current().vinkje_password or _ask()


def _ask() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("There's nobody to ask for a password: set VINKJE_PASSWORD, or use a terminal.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt="The same again"))
