"""People who sign up while a round runs, and how long they wait for their confirmation mail."""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from bench import readers
from tests import fakes

A_SECOND = 5.0
STARTED = re.compile(r'name="started" value="([^"]+)"')


class Recorder(fakes.Relay):
    """A relay for single mails: it notes when each came. The newsletters go to smtp-sink, so that neither is slowed
    by the other's counting; the processes are told different SMTP_URLs for that.
    """

    def __post_init__(self) -> None:
        self.came: dict[str, float] = {}
        super().__post_init__()

    def __enter__(self) -> Recorder:
        super().__enter__()
        return self

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802
        self.came.setdefault(envelope.rcpt_tos[0], time.monotonic())
        return await super().handle_DATA(server, session, envelope)


class Visitors:
    """From entering to leaving, a form every fifth of a second, whether or not the one before was answered."""

    def __init__(self, base_url: str, recorder: Recorder, name: str) -> None:
        self._base_url, self._recorder, self._name = base_url, recorder, name
        self._posted: dict[str, float] = {}
        self.faults: list[str] = []
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def latencies(self, seconds: float = 60.0) -> list[float]:
        """From pressing the form's button to the confirmation mail's arrival; waits for the last ones."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._posted.keys() <= self._recorder.came.keys():
            time.sleep(0.05)
        if missing := self._posted.keys() - self._recorder.came.keys():
            self.faults.append(f"{len(missing)} of {len(self._posted)} confirmation mails didn't come")
        return [self._recorder.came[who] - at for who, at in self._posted.items() if who in self._recorder.came]

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        with ThreadPoolExecutor(16) as people:
            while not self._left.wait(max(0.0, due - time.monotonic())):
                people.submit(self._visit, f"bezoeker-{self._name}-{number}@post.example")
                number, due = number + 1, due + 1 / A_SECOND

    def _visit(self, email: str) -> None:
        try:
            sign_up(self._base_url, email, self._posted)
        except OSError as fault:
            self.faults.append(f"sign-up: {fault}")


def sign_up(base_url: str, email: str, posted: dict[str, float]) -> None:
    """Look at the real form, and send it."""
    with urllib.request.urlopen(f"{base_url}/subscribe", timeout=30) as shown:
        started = STARTED.search(shown.read().decode())
    assert started, "the form says no more when it was shown"
    filled = {"email": email, "themes": readers.THEME, "language": "nl", "started": started[1]}
    posted[email] = time.monotonic()
    with urllib.request.urlopen(f"{base_url}/subscribe", urllib.parse.urlencode(filled).encode(), timeout=30) as answer:
        answer.read()
