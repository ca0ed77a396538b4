"""One case: readers loaded, processes started, rounds pressed and timed, books checked."""

from __future__ import annotations

import socket
import statistics
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import psycopg

from bench import machine, postfix, proc, readers, stage
from bench.cases import Case
from bench.stage import Running, Stage
from bench.visitors import Recorder, Visitors, sign_up
from service import db, settings
from service.delivery import books, rounds
from service.issues.models import IssueState, find
from tests import processes

REHEARSAL, WARMING_UP = "proef", "warming-up"
WARM = 4_000  # mails before the first round, so that every process has its code and connections
STALLED = 180.0
POLL, SLOW_POLL, SAMPLE = 0.004, 0.02, 0.25


@dataclass
class Round:
    """Seconds count from the press. `references` are the rates of smtp-source just before and after, with `-s 10`;
    `kept_open` those of the same with `-d`, which keeps its connections.
    """

    audience: int
    first_mail: float
    seconds: float
    references: list[float]
    kept_open: list[float]
    connections: int
    cpu_us: dict[str, float]
    confirmations: list[float]
    load: float

    @property
    def rate(self) -> float:
        """Messages a second, from the first mail at the relay to the last outcome committed."""
        return self.audience / (self.seconds - self.first_mail)

    @property
    def rate_from_press(self) -> float:
        return self.audience / self.seconds

    @property
    def reference(self) -> float:
        return statistics.median(self.references)

    @property
    def reference_kept_open(self) -> float:
        return statistics.median(self.kept_open)


@dataclass
class Outcome:
    """`bytes` is one mail on the wire. `peak_memory` is the largest newsletter process."""

    case: Case
    bytes: int = 0
    connections_allowed: int = 0
    round_trip: float = 0.0
    peak_memory: int = 0
    rounds: list[Round] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    skipped: str = ""

    def as_json(self) -> dict[str, object]:
        made = asdict(self)
        for shown, counted in zip(made["rounds"], self.rounds, strict=True):
            shown["rate"], shown["rate_from_press"] = round(counted.rate, 1), round(counted.rate_from_press, 1)
            shown["reference"] = round(counted.reference, 1)
        return made


def run(case: Case, scene: Stage, more: dict[str, str]) -> Outcome:
    """`more` are settings of this case."""
    outcome = Outcome(case)
    env = scene.env(f"bench-{case.name}", **more)
    with (
        Recorder() as recorder,
        scene.database(f"bench-{case.name}"),
        postfix.Sink(scene.tools, scene.folder) as sink,
        stage.at_a_distance(sink.port, case.far, scene.folder) as port,
    ):
        env["SMTP_URL"] = f"smtp://127.0.0.1:{port}?starttls=never"
        with stage.house(env):
            readers.load(case.readers)
            readers.tick(REHEARSAL, 1)
            readers.tick(WARMING_UP, min(WARM, case.readers))
            outcome.connections_allowed = settings.current().relay_connections
            with Running(scene, env, recorder) as running:
                try:
                    _Case(case, scene, running, recorder, sink, port, outcome).run()
                except AssertionError as fault:
                    raise RuntimeError(f"{fault}\n{running.tails()}") from fault
    return outcome


class _Case:
    def __init__(
        self,
        case: Case,
        scene: Stage,
        running: Running,
        recorder: Recorder,
        sink: postfix.Sink,
        port: int,
        outcome: Outcome,
    ) -> None:
        self._case, self._stage, self._running, self._recorder = case, scene, running, recorder
        self._sink, self._port, self._outcome = sink, port, outcome
        self._message = scene.folder / f"message-{case.name}.txt"

    def run(self) -> None:
        self._rehearse()
        self._worker = self._running.newsletters(self._running.env["SMTP_URL"])
        for number in range(2):
            sign_up(self._running.env["BASE_URL"], f"eerste{number}@post.example", {})
        self._press(readers.approved(slug=WARMING_UP, kilobytes=self._case.kilobytes, ahead=1))
        if self._case.far:
            self._outcome.round_trip = _round_trip(self._port)
        before = self._references()
        for number in range(self._case.rounds):
            name = f"{self._case.name.lower()}-{number}"
            issue_id = readers.approved(slug=readers.THEME, kilobytes=self._case.kilobytes, ahead=number + 1)
            with Visitors(self._running.env["BASE_URL"], self._recorder, name) as visitors:
                made = self._press(issue_id)
            made.confirmations = visitors.latencies()
            self._outcome.faults += visitors.faults
            after = self._references()
            made.references, made.kept_open = before[0] + after[0], before[1] + after[1]
            before = after
            self._outcome.rounds.append(made)
        self._outcome.peak_memory = proc.peak_memory(self._worker.pid)

    def _rehearse(self) -> None:
        """One reader's mail, from a worker of its own to where we can read it: smtp-source will send the same."""
        issue_id = readers.approved(slug=REHEARSAL, kilobytes=self._case.kilobytes, ahead=1)
        process = self._running.newsletters(self._recorder.url)
        _send_now(issue_id)
        sent = next(mail for mail in self._recorder.wait(1, 60) if mail.recipient.startswith("lezer"))
        processes.wait_until(lambda: _state(issue_id) is IssueState.SENT, 60, "the rehearsal")
        process.stop()
        self._outcome.bytes = len(sent.content)
        self._message.write_bytes(sent.content.replace(b"\r\n", b"\n"))

    def _references(self) -> tuple[list[float], list[float]]:
        """Of smtp-source as it comes, and of one that keeps its connections."""
        sessions = self._outcome.connections_allowed if self._case.far else postfix.SESSIONS
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(self._case.runs):
            for found, more in zip(rates, ((), ("-d",)), strict=True):
                count, message = self._case.messages, self._message
                rate = postfix.source_rate(
                    self._stage.tools, port=self._port, message=message, count=count, sessions=sessions, more=more
                )
                found.append(rate)
        return rates

    def _press(self, issue_id: int) -> Round:
        """Send now, and look on until the issue's state says that all is recorded."""
        counted, used = self._sink.count(), self._cpu()
        load = machine.load()
        pressed = time.monotonic()
        _send_now(issue_id)
        first_mail, finished, most = self._watch(issue_id, counted, pressed)
        spent = {name: after - used[name] for name, after in self._cpu().items()}
        with db.transaction() as session:
            found = books.of(session=session, issue_id=issue_id)
        taken = self._sink.count() - counted
        if not (found.balance and found.accepted == found.audience == taken):
            self._outcome.faults.append(f"the books don't balance: {found}, and the relay counted {taken}")
        return Round(
            audience=found.audience,
            first_mail=first_mail - pressed,
            seconds=finished - pressed,
            references=[],
            kept_open=[],
            connections=most,
            cpu_us={name: round(value / max(found.audience, 1), 1) for name, value in spent.items()},
            confirmations=[],
            load=load,
        )

    def _watch(self, issue_id: int, counted: int, pressed: float) -> tuple[float, float, int]:
        """When the first mail came, when the last outcome was committed, and how many connections were seen."""
        first_mail, most, moved, seen, sampled = 0.0, 0, pressed, counted, 0.0
        url = settings.current().database_url
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
            while True:
                time.sleep(SLOW_POLL if first_mail else POLL)
                now, count = time.monotonic(), self._sink.count()
                if count > seen:
                    first_mail, moved, seen = first_mail or now, now, count
                if first_mail and _state_of(connection, issue_id) == str(IssueState.SENT):
                    return first_mail, time.monotonic(), most
                if now - sampled > SAMPLE:
                    most, sampled = max(most, proc.connections(self._port)), now
                if now - moved > STALLED:
                    raise AssertionError(f"no mail for {STALLED:.0f} s, {seen - counted} came")

    def _cpu(self) -> dict[str, float]:
        return {
            "newsletter": proc.cpu(self._worker.pid),
            "newsletter_in_kernel": proc.cpu_in_kernel(self._worker.pid),
            "sink": proc.cpu_of(self._sink.pid),
            "postgresql": proc.cpu_with_children(self._stage.postgres_pid),
            "valkey": proc.cpu_of(self._stage.redis_pid),
        }


def _send_now(issue_id: int) -> None:
    """What `vinkje issue send` and the newsroom's button do."""
    with db.transaction() as session:
        rounds.send_now(session=session, now=datetime.now(UTC), issue_id=issue_id)


def _state(issue_id: int) -> IssueState:
    with db.transaction() as session:
        return find(session=session, issue_id=issue_id).state


def _state_of(connection: psycopg.Connection[tuple[str]], issue_id: int) -> str:
    row = connection.execute("SELECT state FROM issues WHERE id = %s", [issue_id]).fetchone()
    return row[0] if row else ""


def _round_trip(port: int, times: int = 20) -> float:
    """Seconds from a command to its answer, the median."""
    found = []
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        line.recv(1000)
        for _ in range(times):
            started = time.monotonic()
            line.sendall(b"NOOP\r\n")
            line.recv(1000)
            found.append(time.monotonic() - started)
    return statistics.median(found)
