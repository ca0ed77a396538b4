"""A round on its way through a real relay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import flask
from sqlalchemy import select

from service import db, settings, urls
from service.delivery import books, rounds
from service.delivery.models import Batch
from service.issues.models import Issue, find
from tests import fakes, make
from tests.make import NOW
from worker import file_journal, journal, lines, pace, probe, sender

DEAD, FULL, BUSY = "550 5.1.1 unknown", "552 5.2.2 full", "450 4.2.1 later"
OURS = "550 5.7.1 we don't like your domain"


@dataclass
class Round:
    """One issue going out to `lezer0`, `lezer1`…, with a clock that ticks a millisecond at each look."""

    app: flask.Flask
    server: fakes.Relay
    issue_id: int
    now: datetime = NOW + timedelta(seconds=1)
    halted: bool = False
    desk: sender.Desk = field(init=False)
    opened: list[lines.Lines] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connect(self.server.url)

    def connect(self, url: str, kept: journal.Journal | None = None) -> None:
        """Another worker, which knows nothing of the one before."""
        settings.use(settings.current().model_copy(update={"smtp_url": url}))
        opened = lines.Lines(urls.relay(url), hello="vinkje.example")
        self.opened.append(opened)
        kept = kept or file_journal.FileJournal(settings.current().data_dir)
        self.desk = sender.Desk(opened, kept, pace.Pace(), clock=self.clock, halted=lambda: self.halted)

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def send(self, later: timedelta = timedelta(0)) -> books.Books:
        """Each batch that is there to be had, once."""
        self.now += later
        with db.transaction() as session:
            found = session.scalars(select(Batch.id).order_by(Batch.id)).all()
        for batch_id in found:
            sender.send(batch_id=batch_id, desk=self.desk)
        return self.books()

    def probe(self, later: timedelta = timedelta(0)) -> None:
        """As the tick has it done."""
        self.now += later
        probe.probe(sender="nieuws@vinkje.example", clock=self.clock)

    def books(self) -> books.Books:
        with db.transaction() as session:
            found = books.of(session=session, issue_id=self.issue_id)
        assert found.balance, found
        return found

    def issue(self) -> Issue:
        with db.transaction() as session:
            found = find(session=session, issue_id=self.issue_id)
            session.expunge(found)
        return found

    def act(self, change: Callable[..., Issue]) -> None:
        with db.transaction() as session:
            change(session=session, now=self.now, issue_id=self.issue_id)


Begin = Callable[..., Round]


@contextlib.contextmanager
def beginning(app: flask.Flask, relay: fakes.Relay) -> Iterator[Begin]:
    made: list[Round] = []

    def begin(
        readers: int, *, size: int = 200, names: Callable[[int], str] = address, connections: int = 1, **more: object
    ) -> Round:
        chosen = {"batch_size": size, "smtp_url": relay.url, "relay_connections": connections, **more}
        settings.use(settings.current().model_copy(update=chosen))
        with db.transaction() as session:
            for number in range(readers):
                make.reader(session, names(number), "innovatie", at=NOW - timedelta(days=1))
            issue_id = rounds.start(session=session, now=NOW, issue_id=make.approved(session).id).id
        made.append(Round(app, relay, issue_id))
        return made[-1]

    yield begin
    for one in made:
        for opened in one.opened:
            opened.close()


def address(number: int) -> str:
    return f"lezer{number}@gemeente.example"


def everybody(count: int) -> list[str]:
    return [address(number) for number in range(count)]


def got(server: fakes.Relay) -> list[str]:
    return sorted(mail.recipient for mail in server.caught)
