"""`vinkje report …`"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import BinaryIO

import click
import structlog
from flask.cli import AppGroup, ScriptInfo

from service import db
from service.delivery import inbox, report_counts, returned

group = AppGroup("report", help="What comes back: bounces, complaints, and mails that ask to leave.")

WORDS = {
    "hard": "the address is dead",
    "soft": "not delivered, but it may pass",
    "complaint": "reported as spam",
    "fault": "sent back because of us",
    "unsubscribe": "asked to leave",
    "delayed": "still being tried",
    "auto_reply": "an automatic answer",
    "not_spam": "said not to be spam",
    "unknown": "not understood",
    "unsigned": "without a return address of a newsletter",
    "forged": "with a return address that isn't ours",
    "gone": "about a reader or an issue that isn't there any more",
    "outdated": "about an address that changed or was confirmed since",
    "repeated": "had before, or about who left already",
    "failed": "not handled: flagged in the mailbox",
}

log = structlog.get_logger()


class TryLater(click.ClickException):
    exit_code = 75  # EX_TEMPFAIL: a mail server keeps the mail, and comes back with it


@group.command(with_appcontext=False)
@click.argument("files", nargs=-1, required=True, type=click.File("rb"), metavar="-|FILE...")
@click.pass_context
def ingest(context: click.Context, files: tuple[BinaryIO, ...]) -> None:
    """Take mails that came in to RETURN_ADDRESS: from a mail server on standard input (-), or from files.

    Exit status 0: taken, also when nothing follows from it. 75: not now, try again.
    """
    failed = 0
    for file in files:
        raw = file.read(returned.LARGEST)
        while file.read(returned.LARGEST):
            pass  # a mail server may mind that we don't listen to the end
        failed += not _take(context, raw)
    if failed:
        raise TryLater(f"{failed} of {len(files)} not taken")


@group.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def listing(as_json: bool) -> None:
    """What came in on each of the last 30 days, and what nothing followed from."""
    session, now = db.reading(), datetime.now(UTC)
    lines = report_counts.listing(session=session, now=now)
    read = inbox.last_read(session=session)
    if as_json:
        days = [{"day": line.day.isoformat(), "sort": line.sort, "count": line.count} for line in lines]
        found = {"days": days, "totals": report_counts.totals(lines), "mailbox_read": read and read.isoformat()}
        click.echo(json.dumps(found))
        return
    for line in lines:
        click.echo(f"{line.day}  {line.count:>6}  {line.sort:<12} {WORDS.get(line.sort, '')}".rstrip())
    if not lines:
        click.echo(f"Nothing came in, in {report_counts.DAYS} days.")
    if read:
        click.echo(f"The mailbox was last read at {read:%Y-%m-%d %H:%M} UTC.")


def _take(context: click.Context, raw: bytes) -> bool:
    """Whatever is wrong, also with a setting, the mail must not be lost: someone mends it, and it comes again."""
    try:
        with context.ensure_object(ScriptInfo).load_app().app_context(), db.transaction() as session:
            returned.take(session=session, now=datetime.now(UTC), raw=raw)
    except (Exception, SystemExit) as fault:
        log.error("report_not_taken", fault=type(fault).__name__, why=str(fault).partition("\n")[0])
        return False
    return True
