"""Deliveries become counts: the books balance before, meanwhile and afterwards, and show the same numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta

import flask
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service import db, errors, jobs
from service.delivery import books, folded, progress, rounds, uncertain
from service.delivery.models import Batch, BatchState, Delivery, DeliveryCount, Doubt, Outcome
from service.delivery.uncertain import Word
from service.issues.models import Issue, IssueState
from service.privacy import folding
from tests import make
from tests.integration import operator
from tests.integration.newsroom import Desk
from tests.make import NOW

Bells = list[tuple[str, tuple[int, ...]]]
LATER = NOW + folding.KEEP + timedelta(days=1)
LOST = str(Doubt.LINE_LOST)
BATCH = 3
NUMBER = re.compile(r'<td class="number">([^<]+)</td>')


@pytest.fixture(autouse=True)
def bells(doorbells: Bells) -> Bells:
    return doorbells


def cut(session: Session, readers: int) -> Issue:
    """A round that has begun, with three readers in a batch: numbers 1, 2, 3…, who needn't be there any more."""
    issue = make.approved(session)
    issue.move(IssueState.SENDING)
    issue.cut_at, issue.audience = NOW, readers
    for first in range(1, readers + 1, BATCH):
        size = min(BATCH, readers - first + 1)
        session.add(Batch(issue_id=issue.id, first_id=first, last_id=first + size - 1, size=size, due_at=NOW))
    session.flush()
    return issue


def delivered(
    session: Session, issue: Issue, reader: int, outcome: Outcome, status: str = "", doubt: bool = False
) -> None:
    session.add(
        Delivery(
            issue_id=issue.id,
            subscriber_id=reader,
            outcome=outcome,
            at=NOW,
            first_at=NOW,
            status=status,
            uncertain_at=NOW if doubt else None,
        )
    )
    session.flush()


def done(session: Session, issue: Issue) -> None:
    """Every batch comes to its end, and so does the round."""
    for batch in session.scalars(select(Batch).where(Batch.issue_id == issue.id)):
        ours = Delivery.subscriber_id.between(batch.first_id, batch.last_id)
        had = session.scalar(select(func.count()).where(Delivery.issue_id == issue.id, ours)) or 0
        batch.state, batch.left_count = BatchState.DONE, batch.size - had
    session.flush()
    rounds.finish(session=session, now=NOW, issue_id=issue.id)


def sent(session: Session) -> Issue:
    """Ten readers of whom eight had a try, with every outcome and every word on a doubt."""
    issue = cut(session, 10)
    delivered(session, issue, 1, Outcome.ACCEPTED, "250")
    delivered(session, issue, 2, Outcome.REJECTED, "550 5.1.1")
    delivered(session, issue, 3, Outcome.GIVEN_UP, "450")
    delivered(session, issue, 5, Outcome.UNCERTAIN, LOST, doubt=True)
    delivered(session, issue, 6, Outcome.ACCEPTED, LOST, doubt=True)
    delivered(session, issue, 7, Outcome.GIVEN_UP, LOST, doubt=True)
    delivered(session, issue, 8, Outcome.ACCEPTED, "250", doubt=True)
    delivered(session, issue, 10, Outcome.ACCEPTED, "250")
    done(session, issue)
    return issue


def cancelled(session: Session) -> Issue:
    """One batch done, one begun, one untouched."""
    issue = cut(session, 9)
    for reader in (1, 2, 3):
        delivered(session, issue, reader, Outcome.ACCEPTED, "250")
    first = session.scalars(select(Batch).where(Batch.first_id == 1)).one()
    first.state = BatchState.DONE
    delivered(session, issue, 4, Outcome.ACCEPTED, "250")
    delivered(session, issue, 5, Outcome.DEFERRED, "450")
    rounds.cancel(session=session, now=NOW, issue_id=issue.id)
    session.expire_all()
    return issue


def numbers(session: Session, issue: Issue) -> tuple[books.Books, progress.Progress]:
    found = books.of(session=session, issue_id=issue.id)
    assert found.balance, found
    return found, progress.of(session=session, now=NOW, issue_id=issue.id)


@pytest.mark.parametrize("over", [sent, cancelled])
def test_the_numbers_stay_the_same_at_each_step(
    session: Session, over: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(over)
    monkeypatch.setattr(folding, "STEP", 3)
    issue = over(session)
    before = numbers(session, issue)
    rows = session.scalar(select(func.count()).select_from(Delivery))
    batches = session.scalar(select(func.count()).select_from(Batch))
    steps = []
    while step := folding.deliveries(session=session, now=LATER):
        steps.append(step)
        assert step <= 3
        assert numbers(session, issue) == before
    assert (sum(steps), session.scalar(select(func.count()).select_from(Delivery))) == ((rows or 0) + (batches or 0), 0)
    session.expire_all()
    assert {(batch.first_id, batch.last_id) for batch in session.scalars(select(Batch))} == {(0, 0)}


def test_what_became_of_mails_in_doubt_is_still_told(session: Session) -> None:
    issue = sent(session)
    before = uncertain.tally(session=session, issue_id=issue.id)
    assert before == uncertain.Tally(uncertain=1, held=0, again=1, arrived=1, left_alone=1)
    folding.deliveries(session=session, now=LATER)

    after = uncertain.tally(session=session, issue_id=issue.id)
    assert after == dataclasses.replace(before, uncertain=0, nameless=1)
    assert uncertain.listed(session=session, issue_id=issue.id) == []
    with pytest.raises(errors.Refused):
        uncertain.find(session=session, issue_id=issue.id, names=["5"])
    with pytest.raises(errors.Conflict):
        uncertain.settle_all(session=session, now=LATER, issue_id=issue.id, word=Word.LEAVE, seen=None, editor_id=None)


def test_nothing_is_sent_again_once_the_first_rows_are_gone(
    session: Session, bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch counts who left by the rows that are there."""
    monkeypatch.setattr(folding, "STEP", 2)
    issue = sent(session)
    folding.deliveries(session=session, now=LATER)
    with pytest.raises(errors.Conflict, match="too old"):
        uncertain.settle_all(session=session, now=LATER, issue_id=issue.id, word=Word.AGAIN, seen=None, editor_id=None)
    settled = uncertain.settle_all(
        session=session, now=LATER, issue_id=issue.id, word=Word.ARRIVED, seen=None, editor_id=None
    )
    assert settled == 1
    assert numbers(session, issue)[0].uncertain == 0
    assert jobs.SEND_BATCH not in [name for name, _ in bells]


def test_a_round_that_is_not_over_is_left_alone_however_old(session: Session) -> None:
    issue = cut(session, 3)
    delivered(session, issue, 1, Outcome.ACCEPTED, "250")
    issue.finished_at = NOW  # as if it had been over before
    session.flush()
    assert folding.deliveries(session=session, now=LATER) == 0
    assert issue.state is IssueState.SENDING


def test_an_issue_that_stays_paused_is_cancelled_and_becomes_counts_too(session: Session) -> None:
    issue = cut(session, 6)
    delivered(session, issue, 1, Outcome.ACCEPTED, "250")
    delivered(session, issue, 2, Outcome.DEFERRED, "450")
    rounds.pause(session=session, now=NOW, issue_id=issue.id)
    waiting = numbers(session, issue)[0].waiting
    assert folding.deliveries(session=session, now=NOW + folding.KEEP) == 0
    assert issue.state is IssueState.PAUSED

    assert folding.deliveries(session=session, now=LATER) == 0
    session.refresh(issue)
    assert (issue.state, issue.finished_at) == (IssueState.CANCELLED, LATER)
    before = numbers(session, issue)
    assert (before[0].accepted, before[0].given_up, before[0].waiting) == (1, 1, waiting)
    with pytest.raises(errors.Conflict):
        rounds.resume(session=session, now=LATER, issue_id=issue.id)

    end = LATER + folding.KEEP
    assert folding.deliveries(session=session, now=end) == 0
    assert folding.deliveries(session=session, now=end + timedelta(seconds=1)) == 2
    assert numbers(session, issue) == before


def test_an_old_issue_that_was_paused_on_its_way_lately_stays_so(session: Session) -> None:
    """Mails that were in doubt were being sent again, half a year after the others."""
    issue = sent(session)
    late = LATER - timedelta(days=2)
    uncertain.settle(session=session, now=late, issue_id=issue.id, word=Word.AGAIN, readers=[5], editor_id=None)
    rounds.pause(session=session, now=late, issue_id=issue.id)
    assert folding.deliveries(session=session, now=LATER) == 0
    assert issue.state is IssueState.PAUSED


def test_a_batch_that_a_worker_holds_is_left_alone(session: Session) -> None:
    issue = cancelled(session)
    session.execute(update(Batch).where(Batch.first_id == 4).values(state=BatchState.SENDING))
    assert folding.deliveries(session=session, now=LATER) == 0
    session.execute(update(Batch).where(Batch.first_id == 4).values(state=BatchState.WAITING))
    assert folding.deliveries(session=session, now=LATER) == 5
    assert folding.deliveries(session=session, now=LATER) == 3  # its batches
    assert issue.state is IssueState.CANCELLED


def test_an_issue_that_went_on_starts_its_time_anew(session: Session) -> None:
    issue = sent(session)
    readers = [5]
    late = LATER - timedelta(days=2)
    uncertain.settle(session=session, now=late, issue_id=issue.id, word=Word.AGAIN, readers=readers, editor_id=None)
    assert folding.deliveries(session=session, now=LATER) == 0
    session.execute(update(Delivery).where(Delivery.subscriber_id == 5).values(outcome=Outcome.ACCEPTED))
    session.execute(update(Batch).values(state=BatchState.DONE))
    rounds.finish(session=session, now=late, issue_id=issue.id)
    assert folding.deliveries(session=session, now=LATER) == 0
    assert folding.deliveries(session=session, now=late + folding.KEEP + timedelta(seconds=1)) == 8


def test_kinds_fit_their_column() -> None:
    width = DeliveryCount.__table__.c.kind.type.length  # type: ignore[attr-defined]
    assert max(map(len, folded.kinds())) <= width


def test_command_and_pages_show_what_they_did(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue_id = sent(session).id
    desk = Desk(app)

    def shown() -> tuple[str, list[str]]:
        page = desk.text(f"/newsroom/issues/{issue_id}")
        return operator.done(app, "issue", "show", issue_id, "--json"), NUMBER.findall(page)

    before = shown()
    assert json.loads(before[0])["accepted"] == 4
    assert len(before[1]) == 8
    with db.transaction() as session:
        assert folding.deliveries(session=session, now=LATER) == 8
    assert shown() == before
    page = desk.text(f"/newsroom/issues/{issue_id}/uncertain")
    assert "1 mail was nog onzeker toen we verwijderden wie deze nieuwsbrief kreeg." in page
    told = json.loads(operator.done(app, "issue", "uncertain", issue_id, "--json"))
    assert (told["uncertain"], told["nameless"], told["again"], told["mails"]) == (0, 1, 1, [])
    assert "1 more was" in operator.vinkje(app, "issue", "uncertain", issue_id).stderr
