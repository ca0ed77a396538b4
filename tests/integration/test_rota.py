"""Weeks, hours on the wall in Amsterdam, and hours that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import flask
import pytest
from sqlalchemy.orm import Session

from service import db, errors, themes
from service.issues import rota
from service.issues.models import Issue, IssueState
from tests import make
from tests.integration.races import Beside

NOW = make.NOW  # Tuesday of 2026-W48
# At the ends of the calendar, where an hour can't be told in UTC.
FAR_WEEKS = ("9999-W52", "0001-W01", "0000-W01")
FAR_HOURS = ("0001-01-01T00:00", "9999-12-31T23:59")


def plan(session: Session, week: str = "2026-W49", send_at: str | None = None, now: datetime = NOW) -> Issue:
    hour = rota.parse_local(send_at) if send_at else None
    return rota.plan(session=session, now=now, theme_id=make.theme(session).id, week=week, send_at=hour)


def test_without_an_hour_an_issue_goes_on_thursday_morning(session: Session) -> None:
    assert plan(session).send_at == datetime(2026, 12, 3, 8, 0, tzinfo=UTC)


def test_when_thursday_has_gone_it_goes_within_the_week(session: Session) -> None:
    saturday = datetime(2026, 11, 28, 10, 20, tzinfo=UTC)
    assert plan(session, "2026-W48", now=saturday).send_at == datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    last_minutes = datetime(2026, 12, 6, 22, 30, tzinfo=UTC)
    assert rota.week_of(plan(session, "2026-W49", now=last_minutes).send_at) == "2026-W49"


@pytest.mark.parametrize(
    ("typed", "hour"),
    [
        ("2027-03-28T02:30", datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),  # skipped in spring: 03:30 on the wall
        ("2027-03-28T09:00", datetime(2027, 3, 28, 7, 0, tzinfo=UTC)),
        ("2027-10-31T02:30", datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),  # comes twice in autumn: the first
        ("2027-10-31T09:00", datetime(2027, 10, 31, 8, 0, tzinfo=UTC)),
    ],
)
def test_an_hour_in_a_week_that_changes_the_clock(session: Session, typed: str, hour: datetime) -> None:
    week = rota.week_of(hour)
    assert plan(session, week, typed).send_at == hour


def test_sunday_evening_before_and_after_the_clock_changes_belongs_to_its_week(session: Session) -> None:
    assert rota.week_of(plan(session, "2027-W12", "2027-03-28T23:59").send_at) == "2027-W12"
    with pytest.raises(errors.Refused, match="doesn’t lie in week"):
        plan(session, "2027-W43", "2027-11-01T00:00")


@pytest.mark.parametrize(
    "week", ["", "2026-49", "2026-W54", "2025-W53", "W49", "2026-W00", "2026-W49x", "20२6-W49", *FAR_WEEKS]
)
def test_what_is_no_week_is_refused(session: Session, week: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        plan(session, week)
    assert refused.value.field == "week"


@pytest.mark.parametrize(
    "typed", ["", "donderdag", "2026-12-03", "2026-12-03T09:00+01:00", "2026-13-03T09:00", "09:00", *FAR_HOURS]
)
def test_what_is_no_hour_is_refused(typed: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        rota.parse_local(typed)
    assert refused.value.field == "send_at"


def test_a_week_that_is_over_and_an_hour_that_has_gone_are_refused(session: Session) -> None:
    with pytest.raises(errors.Refused, match="is over"):
        plan(session, "2026-W47")
    with pytest.raises(errors.Refused, match="has gone"):
        plan(session, "2026-W48", "2026-11-23T09:00")


def test_a_theme_has_one_issue_a_week_and_a_retired_one_has_none(session: Session) -> None:
    plan(session)
    with pytest.raises(errors.Conflict):
        plan(session)
    themes.retire(session=session, slug="innovatie", now=NOW)
    with pytest.raises(errors.Refused):
        plan(session, "2026-W50")


def test_of_two_chiefs_who_plan_one_week_at_once_one_is_told(app: flask.Flask) -> None:
    with db.transaction() as session:
        make.theme(session)
    beside = Beside(app, plan)
    with db.transaction() as session:
        plan(session)
        beside.start()
    assert isinstance(beside.refusal(), errors.Conflict)


def test_of_two_admins_who_add_one_theme_at_once_one_is_told(app: flask.Flask) -> None:
    beside = Beside(app, lambda work: themes.add(session=work, slug="zorg", name_nl="Zorg", name_en="Care"))
    with db.transaction() as session:
        themes.add(session=session, slug="zorg", name_nl="Zorg", name_en="Care")
        beside.start()
    refused = beside.refusal()
    assert isinstance(refused, errors.Refused)
    assert refused.field == "slug"


@pytest.mark.parametrize("slug", ["a\x00b", "zorg" * 1000, "", "Zorg", "\ud800"])
def test_what_is_no_slug_is_no_theme(session: Session, slug: str) -> None:
    with pytest.raises(errors.NotFound):
        themes.by_slug(session=session, slug=slug)


def test_a_cancelled_issue_of_which_nothing_went_out_can_be_planned_again(session: Session) -> None:
    issue = plan(session)
    issue.move(IssueState.CANCELLED)
    again = plan(session, send_at="2026-12-04T10:00")
    assert (again.id, again.state) == (issue.id, IssueState.PLANNED)


def test_assembly_is_due_a_day_before_the_hour(session: Session) -> None:
    issue = plan(session)
    assert rota.due_for_assembly(session=session, now=issue.send_at - timedelta(hours=25)) == []
    assert rota.due_for_assembly(session=session, now=issue.send_at - timedelta(hours=23)) == [issue.id]


def test_an_hour_missed_by_a_little_is_caught_up_and_by_a_lot_is_held(session: Session) -> None:
    issue = plan(session)
    issue.state = IssueState.APPROVED
    session.flush()
    little, lot = issue.send_at + timedelta(hours=5, minutes=59), issue.send_at + timedelta(hours=6)
    assert rota.hold_missed(session=session, now=little) == 0
    assert rota.due_to_start(session=session, now=little) == [issue.id]
    assert rota.due_to_start(session=session, now=lot) == []
    assert rota.hold_missed(session=session, now=lot) == 1
    assert rota.hold_missed(session=session, now=lot) == 0
    session.refresh(issue)
    assert issue.held_since == lot


def test_a_held_issue_given_a_new_hour_is_let_go(session: Session) -> None:
    issue = plan(session)
    late = issue.send_at + timedelta(hours=7)
    rota.hold_missed(session=session, now=late)
    session.refresh(issue)
    rota.replan(session=session, now=late, issue_id=issue.id, send_at=late + timedelta(hours=1))
    assert issue.held_since is None
    assert rota.due_for_assembly(session=session, now=late) == [issue.id]
