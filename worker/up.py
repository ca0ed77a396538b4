"""The `vinkje` console script, and `vinkje up`: the whole house in one process (decision 0003)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click
import flask
import flask_migrate
import waitress

from service import app as service_app
from service import cli, db, demo, folder, i18n, settings, themes, urls
from service.delivery import batches
from worker import embedded, health, mailbox

WEB_THREADS = 8
OPEN_DOOR = """
WARNING: others can reach this machine's pages, but no mail leaves it: SMTP_URL is not set.
Whoever signs up waits for a mail in vain. The mailbox holds everybody's links, so it opens only
on this machine, at localhost; each mail is also a file in {folder}."""
# Celery tells each tick, and warns that the worker was told to stop: by us.
CHATTY = {"celery": logging.WARNING, "celery.worker.control": logging.ERROR}


def main() -> None:
    cli.cli.add_command(up)
    cli.cli.add_command(health.health)
    cli.cli()


@click.command()
def up() -> None:
    """Run everything in one process: web, worker, clock and mailbox. Ctrl-C stops all of it.

    Settings come from the environment: PORT, DATA_DIR, and for more than trying out
    DATABASE_URL, REDIS_URL and SMTP_URL.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    left_behind = False
    try:
        with contextlib.ExitStack() as house:
            threads = _serve(house)
        left_behind = not threads.stopped()
    except KeyboardInterrupt:
        pass  # while starting: what was opened is closed by now
    click.echo("\nStopped.")
    if left_behind:
        click.echo("A mail was still under way: its batch goes on at the next start.")
        sys.stdout.flush()
        os._exit(0)  # Python would wait for the thread; its lease and fence guard the batch


def _serve(house: contextlib.ExitStack) -> embedded.Threads:
    """Open everything in order and serve until a signal comes."""
    chosen = settings.current_or_exit()
    house.enter_context(_alone(chosen.data_dir))
    chosen = settings.keep_address(chosen)
    door = house.enter_context(_listening(chosen.host, chosen.port))
    caught = not chosen.smtp_url
    if caught:
        address = house.enter_context(mailbox.catching(chosen.data_dir))
        chosen = settings.use(chosen.model_copy(update={"smtp_url": address}))
        click.echo("mailbox ready: every mail is caught, nothing leaves this machine")
    app = service_app.create_app()
    app.config["MAILBOX_DIR"] = chosen.data_dir / mailbox.FOLDER if caught else None
    for chatty, level in CHATTY.items():
        logging.getLogger(chatty).setLevel(level)
    with app.app_context():
        flask_migrate.upgrade(directory=service_app.MIGRATIONS)
        click.echo(f"database ready: {db.db.engine.url.render_as_string(hide_password=True)}")
        if chosen.embedded:
            with db.transaction() as session:
                batches.let_dead_go(session=session, now=datetime.now(UTC))
        seeded = _seed(caught=caught)
    # Not imported above: it reads the settings, and `vinkje --help` must work without any.
    worker_app = importlib.import_module("worker.app")
    threads = house.enter_context(embedded.running(worker_app.app))
    app.extensions["vinkje_threads"] = threads.named()
    click.echo("worker and clock ready")
    _welcome(chosen, seeded, caught=caught)
    _answer(app, door)
    return threads


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Two processes on one DATA_DIR would have a worker each that can't hear the other's bell."""
    folder.make(data_dir)
    with (data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise click.ClickException(
                f"Vinkje is running already on {data_dir}. Stop it first, or set another DATA_DIR."
            ) from None
        yield


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The port, taken before anything is written; who comes early waits until we answer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        door = socket.create_server((host, port), family=family, backlog=256)
    except OSError as fault:
        taken = f"Port {port} is taken by another program. Choose another, as in PORT={port + 1}."
        raise click.ClickException(
            taken if fault.errno == errno.EADDRINUSE else f"Can't listen on {host}, port {port}: {fault.strerror}."
        ) from None
    with door:
        yield door


def _seed(*, caught: bool) -> demo.Seeded | None:
    """Where mail really goes out, nothing may stand that nobody asked for: no theme, no editor, no planned issue."""
    if not caught:
        if not themes.every(session=db.reading()):
            click.echo("no themes yet, and no demo where mail goes out: `vinkje theme add`, then `vinkje editor add`")
        return None
    with db.transaction() as session:
        seeded = demo.seed(session=session, now=datetime.now(UTC))
    if seeded is not None:
        click.echo(
            f"demo ready: themes, items, readers and an issue planned for {i18n.day_and_hour('en', seeded.send_at)}"
        )
    return seeded


def _welcome(chosen: settings.Settings, seeded: demo.Seeded | None, *, caught: bool) -> None:
    click.echo(f"\nSign-up   {chosen.base_url}/\nNewsroom  {chosen.base_url}/newsroom/")
    if caught:
        click.echo(f"Mailbox   http://localhost:{chosen.port}/mailbox")
    if caught and (chosen.host not in urls.LOOPBACK or chosen.secure):
        click.secho(OPEN_DOOR.format(folder=chosen.data_dir / mailbox.FOLDER), bold=True)
    if seeded is not None:
        click.echo("\nTo sign in to the newsroom (shown once, keep it):")
        click.echo(f"  e-mail    {seeded.email}\n  password  {seeded.password}")
    click.echo("\nCtrl-C stops.")


def _answer(app: flask.Flask, door: socket.socket) -> None:
    # What a proxy says is left for the application, which knows whether to believe it and whom to keep out.
    server = waitress.create_server(
        app, sockets=[door], threads=WEB_THREADS, ident=None, clear_untrusted_proxy_headers=False
    )
    try:
        server.run()
    finally:
        server.close()
