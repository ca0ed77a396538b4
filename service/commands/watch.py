"""`vinkje issue show ID --watch`: a round followed on a terminal, or line by line in a log."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from datetime import UTC, datetime

import click
from sqlalchemy.exc import OperationalError

from service import db, i18n
from service.delivery import progress
from service.delivery.progress import Progress
from service.issues.models import IssueState

LOOK_AGAIN = 0.5  # seconds
NARROWEST, WIDEST = 10, 40
CLEAR_LINE = "\r\x1b[K"
STOPPED = 130  # by Ctrl-C, as shells say it


def follow(issue_id: int) -> None:
    """Until the round is over. Whoever stops looking changes nothing about it."""
    screen = Screen(sys.stdout.isatty())
    asked, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def leave(_signal: int, _frame: object) -> None:
        # Raised wherever we happen to be, KeyboardInterrupt may get lost: in a finalizer, say. The second raises it.
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        signal.signal(signal.SIGINT, leave)
        found: Progress | None = _look(issue_id)
        while True:
            if found is None:
                screen.say("The database is away; the round goes on when it's back.")
            else:
                screen.show(issue_id, found)
                if found.over:
                    return
            if asked.wait(LOOK_AGAIN):
                sys.exit(STOPPED)
            found = _look_again(issue_id)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGINT, before)
        screen.leave()


def _look(issue_id: int) -> Progress:
    session = db.reading()
    try:
        return progress.of(session=session, now=datetime.now(UTC), issue_id=issue_id, counted=False)
    finally:
        session.rollback()  # the next look must see what is new


def _look_again(issue_id: int) -> Progress | None:
    try:
        return _look(issue_id)
    except OperationalError:
        return None


class Screen:
    """On a terminal the last line is a bar that moves; elsewhere each percent is a line."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._said = self._drawn = ""

    def show(self, issue_id: int, found: Progress) -> None:
        begun = found.state is IssueState.SENDING or found.done > 0
        if begun and found.over and self._said:
            self._bar(found)  # its last step, before the last word
        self.say(f"Issue {issue_id} is {found.state}{reason(found)}")
        if begun and not found.over:
            self._bar(found)

    def say(self, sentence: str) -> None:
        """A line that stays; the same one isn't said again."""
        if sentence != self._said:
            self.leave()
            click.echo(sentence)
            self._said = sentence

    def leave(self) -> None:
        """What is printed next comes below the bar."""
        if self._terminal and self._drawn:
            click.echo()
        self._drawn = ""

    def _bar(self, found: Progress) -> None:
        percent = 100 * found.done // (found.audience or 1)
        words = ", ".join((f"{percent:3} %", f"{found.done:,} of {found.audience:,}", *_pace(found)))
        if not self._terminal:
            if str(percent) != self._drawn:
                click.echo(words.strip())
                self._drawn = str(percent)
            return
        room = shutil.get_terminal_size().columns - 1
        width = min(WIDEST, room - len(words) - 3)
        full = width * percent // 100
        bar = f"[{'#' * full}{'-' * (width - full)}] " if width >= NARROWEST else ""
        self._drawn = (bar + words)[:room]
        click.echo(CLEAR_LINE + self._drawn, nl=False)


def reason(found: Progress) -> str:
    """What follows the state of a round: why the system paused it, and when that ends."""
    trouble = found.waits_for
    if found.comes_back:
        return f": {progress.COMES_BACK}"
    if trouble is None:
        return f" ({found.note})." if found.note else "."
    why = progress.WHY[trouble]
    return f": {why}{heard(found)}{_then(found)}"


def heard(found: Progress) -> str:
    return f" Heard: {found.relay.heard.rstrip('.')}." if found.relay.heard else ""


def _then(found: Progress) -> str:
    if found.next_try is None or found.waits_for is None:
        return ""
    return " " + progress.AND_THEN[found.waits_for] % {"hour": i18n.hour(found.next_try)}


def _pace(found: Progress) -> list[str]:
    """How fast and how long still, of a round that moves."""
    words = [f"{found.rate:,.0f} a second"] if found.rate and not found.over else []
    if found.seconds_left is not None:
        words.append(f"{i18n.duration('en', found.seconds_left)} left")
    return words
