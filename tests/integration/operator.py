"""An operator's commands, each with an application context of its own, as in a process."""

from __future__ import annotations

import contextvars

import flask
from click.testing import CliRunner, Result
from flask.cli import ScriptInfo

from service import cli


def vinkje(app: flask.Flask, *arguments: object) -> Result:
    info = ScriptInfo(create_app=lambda: app, set_debug_flag=False)
    words = [str(argument) for argument in arguments]
    return contextvars.Context().run(CliRunner().invoke, cli.cli, words, obj=info, prog_name="vinkje")


def done(app: flask.Flask, *arguments: object) -> str:
    """What a command that succeeds prints."""
    result = vinkje(app, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(app: flask.Flask, *arguments: object, status: int = 1) -> str:
    """The one line of a command that is refused."""
    result = vinkje(app, *arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]
