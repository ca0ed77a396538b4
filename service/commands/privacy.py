"""`vinkje privacy …`"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TextIO

import click
from flask.cli import AppGroup
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors, themes
from service.commands import reasons
from service.privacy import erasure, export, find, ledger, replay
from service.privacy.find import Found
from service.subscribers import addresses, consent, evidence
from service.subscribers.models import Subscriber

group = AppGroup("privacy", help="What is kept about whom, and how it goes.")
MARK = "a mark that can't be read back"
COLUMNS = ("email", "theme", "event", "at", "channel", "wording", "text", "source")


@group.command("find")
@click.argument("address", metavar="ADDRESS")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--gone", is_flag=True, help="Exit status 1 when it stands anywhere but as a mark.")
def find_address(address: str, as_json: bool, gone: bool) -> None:
    """Every place where an address stands, in whatever spelling: a line with the place and how often; a tab between.

    Looks in every table, in Redis and in every file of DATA_DIR. Backups, logs and the relay's queue are for you.
    Exit status 1 when a place can't be looked into.
    """
    session, theirs = db.reading(), addresses.parse(address, smtputf8=True)
    spelled = find.spelled(session=session, address=theirs)
    found = find.everywhere(session=session, address=theirs, spelled=spelled)
    if as_json:
        click.echo(json.dumps({"places": found.places, "marks": found.marks, "not_searched": found.skipped}))
    else:
        _say(found)
    if gone and found.places:
        raise errors.Conflict("This address can still be read. Places: %(count)s.", count=len(found.places))


@group.command("export")
@click.argument("address", metavar="ADDRESS")
def export_address(address: str) -> None:
    """Everything about one reader, as JSON. Of who is none: what waits, and whether they may be mailed.

    Exit status 1 when nothing is held.
    """
    session, theirs = db.reading(), addresses.parse(address, smtputf8=True)
    number = _reader(session, theirs)
    if number is not None:
        held = export.of(session=session, subscriber_id=number)
    else:
        held = export.of_address(session=session, address=theirs)
        why = [f" It isn't mailed since {one['at'][:10]}: {one['reason']}." for one in held["marks"]["suppressions"]]
        click.echo("".join(["No reader has this address.", *why]), err=True)
    click.echo(json.dumps(held, ensure_ascii=False, indent=2))


@group.command()
@click.argument("address", metavar="ADDRESS")
@click.option("--yes", is_flag=True, help="Don't ask.")
def erase(address: str, yes: bool) -> None:
    """Erase everything about one address, for good, and look whether it stands anywhere still.

    What stays can't be read back: that it was erased, and that it may not be mailed when it bounced, complained or said
    “never again”. Exit status 1 when it stands somewhere still: in what an editor wrote, for example.
    """
    theirs = addresses.parse(address, smtputf8=True)
    if not yes:
        click.confirm(f"Erase everything about {theirs.email}? It can't be undone.", abort=True, err=True)
    session = db.reading()
    spelled = find.spelled(session=session, address=theirs)
    # Of who is no reader it may stand somewhere else; to look takes a while.
    if (
        _reader(session, theirs) is None
        and not find.everywhere(session=session, address=theirs, spelled=spelled).places
    ):
        raise errors.NotFound("This address stands nowhere, so nothing was erased. Is it spelled right?")
    with db.transaction() as session:
        erasure.erase_address(session=session, now=datetime.now(UTC), address=theirs)
    # Not for the sake of the list: it is the proof that nothing is left.
    found = find.everywhere(session=db.reading(), address=theirs, spelled=spelled)
    _say(found)
    if found.places:
        raise errors.Conflict(
            "Erased as a reader, but it can still be read. Places: %(count)s.", count=len(found.places)
        )
    click.echo("Erased.", err=True)


@group.command()
@click.option("--theme", "slug", metavar="SLUG", help="Only this theme.")
@click.option("--check", is_flag=True, help="List nothing: only look whether one has none. For cron.")
def consents(slug: str | None, check: bool) -> None:
    """The consent for each active subscription, as CSV: who, which theme, when, through what, which words.

    Exit status 1 when a subscription has none, which must never be: those aren't in the list.
    """
    if check and slug is not None:
        raise click.UsageError("--check looks at every theme.")
    session = db.reading()
    if not check:
        _list(session, slug)
    missing = evidence.missing(session=session)
    if missing:
        count, (number, theme) = len(missing), missing[0]
        raise errors.Conflict(
            "Subscriptions without consent to show: %(count)s, such as that of reader %(reader)s to %(theme)s.",
            count=count,
            reader=number,
            theme=theme,
        )


def _list(session: Session, slug: str | None) -> None:
    theme_id = themes.by_slug(session=session, slug=slug).id if slug is not None else None
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    page = evidence.shown(session=session, theme_id=theme_id)
    while page.last is not None:
        writer.writerows(_row(shown) for _, shown in page.rows)
        session.expunge_all()
        page = evidence.shown(session=session, after=page.last, theme_id=theme_id)


@group.command("ledger")
def print_ledger() -> None:
    """Erasures, suppressions and who left which theme, as keyed hashes in CSV: for `vinkje privacy replay`, after a
    restore.

    The tick keeps the same in DATA_DIR/ledger.csv.
    """
    now = datetime.now(UTC)
    click.echo(ledger.text(ledger.of(session=db.reading(), now=now), now), nl=False)


@group.command("replay")
@click.argument("file", type=click.File(encoding="utf-8"))
def replay_ledger(file: TextIO) -> None:
    """Bring a restored database in line with a ledger; FILE may be - for standard input. Safe to run twice.

    Whoever was erased since the backup goes again, whoever may not be mailed isn't, whoever left a theme is out of it,
    and no row number is used again. Who signed up anew after that stays.
    """
    told = ledger.read(file)
    counted: Counter[str] = Counter()
    step = replay.Step(0, 0, 0, 0)
    while True:
        with db.transaction() as session:
            step = replay.readers(session=session, told=told, after=step.last)
        counted.update(erased=step.erased, ended=step.ended, left=step.left)
        if not step.last:
            break
    with db.transaction() as session:
        behind = replay.marks(session=session, now=datetime.now(UTC), told=told)
    click.echo(
        f"{counted['erased']} readers erased again, {counted['ended']} not to be mailed any more, "
        f"{counted['left']} themes left again."
    )
    if behind:
        click.echo(f"Row numbers moved on for {', '.join(behind)}.")


def _reader(session: Session, address: addresses.Address) -> int | None:
    return session.scalar(select(Subscriber.id).where(Subscriber.email_key == address.key))


def _say(found: Found) -> None:
    for place, count in sorted(found.places.items()):
        click.echo(f"{place}\t{count}")
    for place, count in sorted(found.marks.items()):
        click.echo(f"{place}\t{count}\t{MARK}")
    if not found.places:
        click.echo("It stands nowhere that can be read.", err=True)
    if found.skipped:
        click.echo(f"Searched row by row and not as a file: {', '.join(found.skipped)}.", err=True)


def _row(shown: evidence.Shown) -> list[str]:
    name, _, language = shown.wording.rpartition(".")
    words = consent.wording(name, language)
    values = (
        shown.email, shown.theme, str(shown.event), shown.at.isoformat(), str(shown.channel), shown.wording,
        words.text if words.hash == shown.wording_hash else "", shown.source,
    )  # fmt: skip
    return [reasons.plain(value) for value in values]
