"""DOOR: the `vinkje` command. `worker.up` adds `up` and calls `cli.main()`.

Exit status: 0 done; 1 refused, with the reason on one line; 2 wrong usage or a bad setting;
3 the database is away or its tables are not there; 4 an import that refused lines.
"""

from __future__ import annotations

from importlib import metadata
from typing import IO, Any

import click
from flask.cli import AppGroup, ScriptInfo
from sqlalchemy.exc import DBAPIError, OperationalError

from service import app, db, errors
from service.commands import (
    database,
    dkim,
    editor,
    issue,
    item,
    privacy,
    relay,
    report,
    stats,
    subscriber,
    theme,
    uncertain,
)


class Failed(click.ClickException):
    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"vinkje: {self.message}", file=file, err=file is None)


class DatabaseAway(Failed):
    exit_code = 3


class Vinkje(AppGroup):
    """Not a FlaskGroup: that one reads FLASK_* variables and starts the application for `--help`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        extra.setdefault("obj", ScriptInfo(create_app=app.create_app, set_debug_flag=False))
        return super().make_context(info_name, args, parent=parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.VinkjeError as refused:
            raise Failed(str(refused)) from None
        except DBAPIError as fault:
            message = _database_fault(fault)
            if message is None:
                raise
            raise DatabaseAway(message) from None


def _database_fault(fault: DBAPIError) -> str | None:
    """One line for what an operator can mend; None for what only a programmer can."""
    if db.lacks_tables(fault):
        return "the database has no tables yet, or older ones: run `vinkje db upgrade` first"
    if isinstance(fault, OperationalError):
        return f"can't use the database: {str(fault.orig).strip().partition(chr(10))[0]}"
    return None


@click.group(cls=Vinkje, name="vinkje", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("vinkje"), message="%(prog)s %(version)s")
def cli() -> None:
    """Vinkje, a newsletter service: what an operator does by hand."""


for group in (
    database.group, theme.group, editor.group, subscriber.group, item.group, issue.group, relay.group, report.group,
    privacy.group, dkim.group,
):  # fmt: skip
    cli.add_command(group)
cli.add_command(stats.show)
for command in (uncertain.listing, uncertain.settle):
    issue.group.add_command(command)
