"""Who hears of an issue that stands still, and how often."""

from __future__ import annotations

import email
import email.policy
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import i18n, jobs, outbox
from service.delivery import breaker, return_faults, rounds
from service.delivery.models import Report, ReportKind, Trouble
from service.issues import notices, rota, stops
from service.issues.models import Issue, IssueState
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role
from service.privacy import forgetting
from tests import make
from tests.make import NOW
from worker import steps

Rung = list[tuple[str, tuple[int, ...]]]
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MISSED = NOW + rota.CATCH_UP
CHIEFS = ["admin@krant.example", "chief@krant.example"]
WAITS, STOPPED, HELD = "Versturen wacht", "Versturen gestopt", "Wacht op u"


@pytest.fixture(autouse=True)
def bells(session: Session, doorbells: Rung) -> Rung:
    for role in Role:
        for state in (EditorState.ACTIVE, EditorState.LEFT):
            name = role if state is EditorState.ACTIVE else f"left-{role}"
            session.add(
                Editor(email=f"{name}@krant.example", name=name, role=role, state=state, language="nl", created_at=NOW)
            )
    session.flush()
    return doorbells


def going_out(session: Session) -> Issue:
    for number in range(30):
        make.reader(session, f"lezer{number}@gemeente.example", "innovatie", at=NOW - timedelta(days=1))
    return rounds.start(session=session, now=NOW, issue_id=make.approved(session).id)


def ticks(session: Session, now: datetime) -> list[tuple[str, str]]:
    """To whom a tick's mails go, and their subjects' first words."""
    steps.tell_chiefs(session, now)
    mailed = []
    for notice_id in outbox.due(session=session, model=Notice, now=now):
        made = notices.compose(session=session, now=now, notice_id=notice_id)
        settle = outbox.refused if made is None else outbox.sent
        settle(session=session, model=Notice, row_id=notice_id, now=now)
        if made is not None:
            subject = str(email.message_from_bytes(made.message, policy=email.policy.default)["Subject"])
            mailed.append((made.recipient, subject.partition(":")[0]))
    session.expire_all()
    return sorted(mailed)


def told(words: str) -> list[tuple[str, str]]:
    return [(chief, words) for chief in CHIEFS]


def comes_back(session: Session, issue: Issue, first: int) -> None:
    """As many mails as stop a round, because of us."""
    for reader in range(first, first + return_faults.enough(issue.audience)):
        session.add(Report(issue_id=issue.id, subscriber_id=reader, kind=ReportKind.FAULT, at=NOW))
        session.flush()
        return_faults.weigh(session=session, issue_id=issue.id, status="5.7.1")


def test_chiefs_hear_once_that_an_hour_was_missed(session: Session, bells: Rung) -> None:
    issue = make.approved(session)
    assert ticks(session, MISSED - MINUTE) == []
    steps.hold(session, MISSED)
    assert ticks(session, MISSED) == told(HELD)
    session.commit()
    told_now = select(func.count()).where(Notice.kind == NoticeKind.HELD)
    assert session.scalar(told_now) == len(CHIEFS)
    assert [name for name, _ in bells].count(jobs.SEND_NOTICE) == 2 * len(CHIEFS)  # "ready" was told before
    assert ticks(session, MISSED + MINUTE) == []
    assert ticks(session, MISSED + 24 * HOUR) == []

    later = MISSED + 25 * HOUR
    rota.replan(session=session, now=later, issue_id=issue.id, send_at=later + HOUR)
    assert ticks(session, later) == []
    steps.hold(session, later + HOUR + rota.CATCH_UP)
    assert ticks(session, later + HOUR + rota.CATCH_UP) == told(HELD)


def test_an_issue_that_still_stands_still_is_told_again_each_month(session: Session) -> None:
    """What we mailed an editor is kept for no longer, so nobody remembers that it was told."""
    make.approved(session)
    steps.hold(session, MISSED)
    mailed = []
    for days in range(70):
        now = MISSED + timedelta(days=days)
        forgetting.notices(session=session, now=now)
        mailed += [(days, who) for who in ticks(session, now)]
    assert mailed == [(days, who) for days in (0, 31, 62) for who in told(HELD)]


def test_who_let_it_go_before_the_mail_went_out_is_not_told(session: Session) -> None:
    issue = make.approved(session)
    steps.hold(session, MISSED)
    steps.tell_chiefs(session, MISSED)
    rounds.send_now(session=session, now=MISSED, issue_id=issue.id)
    assert ticks(session, MISSED) == []


def test_chiefs_hear_of_each_pause_that_waits_for_their_word(session: Session) -> None:
    issue = going_out(session)
    assert ticks(session, NOW) == []
    comes_back(session, issue, first=1)
    assert issue.state is IssueState.PAUSED
    assert ticks(session, NOW) == told(STOPPED)
    assert ticks(session, NOW + 24 * HOUR) == []

    rounds.resume(session=session, now=NOW, issue_id=issue.id)
    assert ticks(session, NOW + 24 * HOUR) == []
    comes_back(session, issue, first=11)
    assert ticks(session, NOW + 25 * HOUR) == told(STOPPED)


def test_a_pause_of_an_editor_is_no_news(session: Session) -> None:
    issue = going_out(session)
    rounds.pause(session=session, now=NOW, issue_id=issue.id)
    assert ticks(session, NOW + HOUR) == []


def test_trouble_that_is_over_in_a_quarter_of_an_hour_is_nobodys_business(session: Session) -> None:
    going_out(session)
    breaker.trip(session=session, now=NOW, trouble=Trouble.DOWN)
    assert ticks(session, NOW) == []
    breaker.heal(session=session, now=NOW + 2 * MINUTE)
    assert ticks(session, NOW + 2 * MINUTE) == []
    assert ticks(session, NOW + stops.PATIENCE) == []
    assert ticks(session, NOW + stops.PATIENCE + MINUTE) == []


@pytest.mark.parametrize("trouble", list(Trouble))
def test_trouble_that_lasts_is_told_once(session: Session, trouble: Trouble) -> None:
    going_out(session)
    breaker.trip(session=session, now=NOW, trouble=trouble)
    session.expire_all()
    assert [ticks(session, NOW + minutes * MINUTE) for minutes in (0, 14, 15, 16, 600)] == [[], [], told(WAITS), [], []]


def test_a_relay_that_stops_us_again_and_again_is_told_once_in_six_hours(session: Session) -> None:
    going_out(session)
    mailed = []
    for minutes in range(0, 12 * 60, 5):
        breaker.trip(session=session, now=NOW + minutes * MINUTE, trouble=Trouble.REFUSES)
        session.expire_all()
        mailed += [minutes for _ in ticks(session, NOW + minutes * MINUTE)]
        breaker.heal(session=session, now=NOW + minutes * MINUTE + 4 * MINUTE)
        mailed += [minutes for _ in ticks(session, NOW + minutes * MINUTE + 4 * MINUTE)]
    assert mailed == [15, 15, 380, 380]


def test_what_the_relay_refuses_to_tell_is_told_once_it_takes_mail(session: Session) -> None:
    going_out(session)
    breaker.trip(session=session, now=NOW, trouble=Trouble.REFUSES)
    session.expire_all()
    steps.tell_chiefs(session, NOW)
    for notice_id in outbox.due(session=session, model=Notice, now=NOW + stops.PATIENCE):
        outbox.refused(session=session, model=Notice, row_id=notice_id, now=NOW + stops.PATIENCE)
    assert ticks(session, NOW + 16 * MINUTE) == []
    assert ticks(session, NOW + 31 * MINUTE) == told(WAITS)


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_each_editor_reads_it_in_their_own_language_and_is_shown_the_way(session: Session, language: str) -> None:
    for editor in session.scalars(select(Editor)):
        editor.language = language
    issue = make.approved(session)
    steps.hold(session, MISSED)
    steps.tell_chiefs(session, MISSED)
    session.expire_all()
    held = session.scalars(select(Notice.id).where(Notice.kind == NoticeKind.HELD)).first()
    made = notices.compose(session=session, now=MISSED, notice_id=held or 0)
    assert made is not None
    message = email.message_from_bytes(made.message, policy=email.policy.default)
    part = message.get_body(("plain",))
    assert part is not None
    text = " ".join(part.get_content().split())
    assert i18n.gettext(language, "Choose another hour, send it now once it is approved, or cancel it.") in text
    assert i18n.day_and_hour(language, issue.send_at) in text
    assert f"/newsroom/issues/{issue.id}" in text
    assert i18n.gettext(language, "It isn’t approved yet.") not in text
