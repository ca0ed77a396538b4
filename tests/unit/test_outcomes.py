"""What a relay's answer means for the recipient (requirements 1.9, 1.10)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.delivery import outcomes
from service.delivery.models import Outcome
from service.delivery.outcomes import Phase, Reader, Verdict
from tests.make import NOW

READER = Reader(1, "saskia@gemeente.example", "saskia@gemeente.example", "nl")


@pytest.mark.parametrize(
    ("code", "enhanced", "phase", "verdict"),
    [
        (250, "2.0.0", Phase.DOT, Verdict.ACCEPTED),
        (0, "", Phase.DOT, Verdict.UNCERTAIN),
        # Nobody's fault
        (0, "", Phase.CONNECT, Verdict.NOBODY),
        (0, "", Phase.RCPT, Verdict.NOBODY),
        (0, "", Phase.DATA, Verdict.NOBODY),
        (421, "4.7.28", Phase.RCPT, Verdict.NOBODY),
        (421, "4.3.0", Phase.DOT, Verdict.NOBODY),
        (451, "4.3.0", Phase.MAIL, Verdict.NOBODY),
        (454, "4.7.0", Phase.LOGIN, Verdict.NOBODY),
        # Later
        (450, "4.2.1", Phase.RCPT, Verdict.LATER),
        (451, "", Phase.DATA, Verdict.LATER),
        (452, "4.2.2", Phase.DOT, Verdict.LATER),
        (552, "", Phase.RCPT, Verdict.LATER),
        (552, "5.5.3", Phase.RCPT, Verdict.LATER),
        # A dead address
        (550, "5.1.1", Phase.RCPT, Verdict.DEAD),
        (550, "5.1.1", Phase.DOT, Verdict.DEAD),
        (550, "5.1.2", Phase.RCPT, Verdict.DEAD),
        (553, "5.1.3", Phase.RCPT, Verdict.DEAD),
        (551, "5.1.6", Phase.RCPT, Verdict.DEAD),
        (556, "5.1.10", Phase.RCPT, Verdict.DEAD),
        (550, "", Phase.RCPT, Verdict.DEAD),
        (551, "", Phase.RCPT, Verdict.DEAD),
        (553, "", Phase.RCPT, Verdict.DEAD),
        (556, "", Phase.RCPT, Verdict.DEAD),
        # Says nothing about next week
        (550, "5.2.1", Phase.RCPT, Verdict.REFUSED),
        (552, "5.2.2", Phase.RCPT, Verdict.REFUSED),
        (550, "5.4.1", Phase.RCPT, Verdict.REFUSED),
        (550, "5.3.0", Phase.DOT, Verdict.REFUSED),
        (550, "5.1.0", Phase.RCPT, Verdict.REFUSED),
        (553, "5.6.7", Phase.RCPT, Verdict.REFUSED),
        # Ours
        (550, "5.7.1", Phase.RCPT, Verdict.OURS),
        (550, "5.7.515", Phase.DOT, Verdict.OURS),
        (550, "5.7.26", Phase.DOT, Verdict.OURS),
        (550, "5.1.8", Phase.RCPT, Verdict.OURS),
        (553, "5.1.7", Phase.RCPT, Verdict.OURS),
        (503, "5.5.1", Phase.RCPT, Verdict.OURS),
        (554, "5.6.0", Phase.DOT, Verdict.OURS),
        (552, "5.3.4", Phase.DOT, Verdict.OURS),
        (552, "5.2.3", Phase.DOT, Verdict.OURS),
        (554, "", Phase.RCPT, Verdict.OURS),
        (550, "", Phase.DOT, Verdict.OURS),
        (552, "", Phase.DOT, Verdict.OURS),
        # The relay won't have us
        (550, "5.7.1", Phase.MAIL, Verdict.STOP),
        (550, "5.1.1", Phase.MAIL, Verdict.STOP),
        (535, "5.7.8", Phase.LOGIN, Verdict.STOP),
        (554, "5.7.1", Phase.CONNECT, Verdict.STOP),
    ],
)
def test_an_answer_is_charged_to_whom_it_belongs(code: int, enhanced: str, phase: Phase, verdict: Verdict) -> None:
    assert outcomes.classify(code, enhanced, phase) is verdict


def test_only_a_dead_address_is_suppressed() -> None:
    dead = outcomes.result(reader=READER, verdict=Verdict.DEAD, status="550 5.1.1", now=NOW)
    full = outcomes.result(reader=READER, verdict=Verdict.REFUSED, status="552 5.2.2", now=NOW)

    assert (dead.outcome, dead.dead) == (Outcome.REJECTED, True)
    assert (full.outcome, full.dead) == (Outcome.REJECTED, False)


def test_the_pauses_grow_and_end_after_48_hours() -> None:
    now, attempts, first_at, pauses = NOW, 0, None, []
    while True:
        reader = Reader(1, "a@b.example", "a@b.example", "nl", attempts, first_at)
        result = outcomes.result(reader=reader, verdict=Verdict.LATER, status="450 4.2.1", now=now)
        if result.retry_at is None:
            break
        pauses.append(int((result.retry_at - now) / timedelta(minutes=1)))
        first_at, attempts, now = first_at or now, attempts + 1, result.retry_at

    assert pauses[:5] == [5, 15, 60, 240, 240]
    assert result.outcome is Outcome.GIVEN_UP
    assert now == NOW + timedelta(hours=48)
