"""The bench's own arithmetic, and its far relay: figures that nobody checks are worth nothing."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cases, report, stage
from bench.cases import Case
from bench.measure import Outcome, Round


def a_round(rate: float, *references: float, audience: int = 20_000, first_mail: float = 0.5) -> Round:
    return Round(
        audience=audience,
        first_mail=first_mail,
        seconds=first_mail + audience / rate,
        references=list(references),
        kept_open=[1.5 * each for each in references],
        connections=20,
        cpu_us={"newsletter": 30.0, "newsletter_in_kernel": 12.0, "sink": 40.0, "postgresql": 20.0, "valkey": 5.0},
        confirmations=[0.1, 0.2, 0.3],
        load=1.0,
    )


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 201)]
    assert report.percentile(values, 0.5) == 100
    assert report.percentile(values, 0.99) == 198
    assert report.percentile([3.0, 1.0], 0.99) == 3
    assert math.isnan(report.percentile([], 0.99))


def test_each_round_stands_beside_the_runs_around_it() -> None:
    """A minute in which others used the machine slows both, and the ratio stays."""
    outcome = Outcome(Case("x", 20_000, 20, rounds=3))
    outcome.rounds = [a_round(9000, 9000, 10_000, 11_000), a_round(4500, 5000, 5000), a_round(9500, 10_000, 10_000)]
    assert report.ratio(outcome) == pytest.approx(0.9)
    assert report.rate(outcome) == pytest.approx(9000)
    assert report.ratio_from_press(outcome) < report.ratio(outcome)
    assert report.ratio_kept_open(outcome) == pytest.approx(0.6)


def test_a_missed_promise_is_said() -> None:
    small = Outcome(Case(f"{cases.SMALL}x20kB", cases.SMALL, 20), peak_memory=151_000_000)
    small.rounds = [a_round(8900, 10_000)]
    large = Outcome(Case(f"{cases.LARGE}x20kB", cases.LARGE, 20))
    large.rounds = [a_round(8800, 10_000, audience=cases.LARGE, first_mail=2.1)]
    said = {what: kept for what, _, kept in report.promises([small, large])}
    assert list(said.values()) == [False, False, True, False, True, False]


def test_a_far_relay_is_counted_in_round_trips() -> None:
    far = Outcome(Case("far-relay", 20_000, 20, far=20.0), connections_allowed=20)
    far.rounds = [a_round(950, 190)]
    assert report.trips(far) == pytest.approx(0.95)
    assert report.promises([far])[-1][2]


def test_the_page_changes_between_its_marks_only() -> None:
    page = "above\n<!-- default -->\nold\n<!-- /default -->\nbelow\n"
    assert report.between(page, "default", "new") == "above\n<!-- default -->\nnew\n<!-- /default -->\nbelow\n"
    assert report.between(page, "another", "new") == page


def test_a_case_that_isnt_there_is_named() -> None:
    assert [case.name for case in cases.chosen(readers=None, quick=False, only=["far-relay"])] == ["far-relay"]
    with pytest.raises(ValueError, match=r"no case nearby; there are: 2000x20kB, "):
        cases.chosen(readers=None, quick=True, only=["nearby"])


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that gives back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65_536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_far_relay_is_late_and_nothing_else(echo: int, tmp_path: Path) -> None:
    """A round trip costs what was asked, bytes keep their order, and many are under way at a time."""
    sent = b"".join(b"%06d" % number for number in range(100_000))
    with stage.at_a_distance(echo, 40, tmp_path) as port, socket.create_connection(("127.0.0.1", port), 10) as line:
        started = time.monotonic()
        line.sendall(b"x")
        assert line.recv(1) == b"x"
        assert time.monotonic() - started >= 0.040
        threading.Thread(target=line.sendall, args=(sent,), daemon=True).start()
        came = b""
        while len(came) < len(sent):
            came += line.recv(65_536)
        line.shutdown(socket.SHUT_WR)
        assert came == sent
        assert line.recv(1) == b""
