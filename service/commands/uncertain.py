"""`vinkje issue uncertain` and `vinkje issue settle`: mails of which nobody knows whether they went out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import click
from flask.cli import with_appcontext
from sqlalchemy.orm import Session

from service import db
from service.commands import issue
from service.delivery import uncertain
from service.delivery.uncertain import Doubtful, Word


@click.command("uncertain")
@click.argument("issue_id", metavar="ID", type=issue.ISSUE_ID)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def listing(issue_id: int, as_json: bool) -> None:
    """Whose mails are in doubt, and what is known of each.

    One line for each: address (an erased reader's number), language, since when, why, how often tried, Message-ID
    (to look it up in the relay's log), and "left" when that reader isn't mailed again; a tab between.
    """
    session = db.reading()
    counted = uncertain.tally(session=session, issue_id=issue_id)
    mails = _every(session, issue_id)
    if as_json:
        listed = [{**dataclasses.asdict(mail), "at": mail.at.isoformat()} for mail in mails]
        click.echo(json.dumps({"id": issue_id, **dataclasses.asdict(counted), "mails": listed}))
        return
    for mail in mails:
        who = mail.email or str(mail.subscriber_id)
        since = mail.at.isoformat(timespec="seconds")
        known = (who, mail.language or "erased", since, mail.why, str(mail.attempts), mail.message_id)
        click.echo("\t".join((*known, "left") if mail.left else known))
    held = f" and {counted.held} in batches that are being sent now" if counted.held else ""
    click.echo(f"{counted.uncertain} uncertain{held}; {counted.again} sent again after doubt.", err=True)
    if counted.nameless:
        were = "was" if counted.nameless == 1 else "were"
        click.echo(f"{counted.nameless} more {were} uncertain when the rows of who got it were deleted.", err=True)


def _every(session: Session, issue_id: int) -> Iterator[Doubtful]:
    after = 0
    while page := uncertain.listed(session=session, issue_id=issue_id, after=after, limit=1000):
        yield from page
        after = page[-1].subscriber_id


@click.command()
@click.argument("issue_id", metavar="ID", type=issue.ISSUE_ID)
@click.argument("names", metavar="[ADDRESS]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="All that are in doubt now.")
@click.option("--arrived", is_flag=True, help="Count as accepted.")
@click.option("--again", is_flag=True, help="Send once more, with the same Message-ID.")
@click.option("--leave", is_flag=True, help="Count as given up.")
@with_appcontext
def settle(issue_id: int, names: tuple[str, ...], everybody: bool, **words: bool) -> None:
    """Say what becomes of mails in doubt. For an erased reader give the number instead of an ADDRESS."""
    chosen = [word for word, given in words.items() if given]
    if len(chosen) != 1:
        raise click.UsageError("Say one of --arrived, --again and --leave.")
    if everybody == bool(names):
        raise click.UsageError("Give addresses, or --all.")
    with db.transaction() as session:
        now, said = datetime.now(UTC), Word(chosen[0])
        if everybody:
            count = uncertain.settle_all(
                session=session, now=now, issue_id=issue_id, word=said, seen=None, editor_id=None
            )
        else:
            readers = uncertain.find(session=session, issue_id=issue_id, names=names)
            count = uncertain.settle(
                session=session, now=now, issue_id=issue_id, word=said, readers=readers, editor_id=None
            )
    done = {Word.ARRIVED: "counted as accepted", Word.AGAIN: "to be sent again", Word.LEAVE: "counted as given up"}
    click.echo(f"{count} {'mail' if count == 1 else 'mails'} {done[said]}.")
