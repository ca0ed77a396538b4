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
from worker import relay as smtp
from worker import sender

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
    line: smtp.Relay = field(init=False)

    def __post_init__(self) -> None:
        self.line = smtp.Relay(urls.relay(self.server.url), hello="vinkje.example")

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def send(self, later: timedelta = timedelta(0)) -> books.Books:
        """Each batch that is there to be had, once."""
        self.now += later
        with db.transaction() as session:
            found = session.scalars(select(Batch.id).order_by(Batch.id)).all()
        for batch_id in found:
            sender.send(batch_id=batch_id, line=self.line, clock=self.clock, halted=lambda: self.halted)
        return self.books()

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

    def begin(readers: int, *, size: int = 200, names: Callable[[int], str] = address) -> Round:
        settings.use(settings.current().model_copy(update={"batch_size": size, "smtp_url": relay.url}))
        with db.transaction() as session:
            for number in range(readers):
                make.reader(session, names(number), "innovatie", at=NOW - timedelta(days=1))
            issue_id = rounds.start(session=session, now=NOW, issue_id=make.approved(session).id).id
        made.append(Round(app, relay, issue_id))
        return made[-1]

    yield begin
    for one in made:
        one.line.close()


def address(number: int) -> str:
    return f"lezer{number}@gemeente.example"


def everybody(count: int) -> list[str]:
    return [address(number) for number in range(count)]


def got(server: fakes.Relay) -> list[str]:
    return sorted(mail.recipient for mail in server.caught)
