"""Statistics: true figures underneath, on both databases, whatever became of the rows that they were counted from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import flask
import pytest
import time_machine
from sqlalchemy import delete, event, func, select
from sqlalchemy.orm import Session

from service import db, errors, settings, themes
from service.delivery import stats, stats_counts
from service.delivery.models import Delivery, Outcome, Report, ReportKind
from service.delivery.stats_shown import Shown, words
from service.issues.models import IssueState
from service.privacy import erasure, folding
from service.subscribers import confirmation, consent, preferences, unsubscribe
from service.subscribers.models import Channel, Consent, ConsentEvent, EndReason, State, Subscription
from tests import make
from tests.integration import stats as house
from tests.integration.operator import done, refused
from tests.make import NOW

OUTCOMES = {Outcome.ACCEPTED: 60, Outcome.REJECTED: 7, Outcome.GIVEN_UP: 2, Outcome.UNCERTAIN: 1}
REPORTS = {ReportKind.HARD: 6, ReportKind.SOFT: 3, ReportKind.COMPLAINT: 1}
AS_TEXT = {str(kind): count for kind, count in (*OUTCOMES.items(), *REPORTS.items())}
FEW = Shown(1, 4)


def exact(count: int) -> Shown:
    return Shown(count, count)


def theme(session: Session, slug: str = "innovatie", weeks: int = 12) -> stats.ThemeStats:
    return stats.of_theme(session=session, now=NOW, slug=slug, weeks=weeks)


def true(session: Session, weeks: list[str]) -> dict[tuple[str, str], Counter[str]]:
    """The counts before any is hidden, by slug and week."""
    slugs = {one.id: one.slug for one in themes.every(session=session)}
    found = stats_counts.flows(session=session, weeks=weeks)
    return {(slugs[theme_id], week): counted for (theme_id, week), counted in found.items()}


def test_what_readers_do_is_counted_in_its_week(session: Session) -> None:
    for slug in ("innovatie", "democratie"):
        make.theme(session, slug)
    ids = [make.reader(session, f"p{number}@gemeente.example").id for number in range(9)]
    for number, reader_id in enumerate(ids):
        _activate(session, reader_id, "innovatie", ConsentEvent.CONFIRMED, NOW - timedelta(days=7))
        if number < 6:
            preferences.change(
                session=session,
                now=NOW,
                subscriber_id=reader_id,
                slugs=["innovatie", "democratie"],
                language="nl",
            )
    innovatie = make.theme(session).id
    for reader_id in ids[:5]:
        unsubscribe.leave(
            session=session, now=NOW, subscriber_id=reader_id, theme_id=innovatie, channel=Channel.ONE_CLICK
        )
    unsubscribe.end_all(session=session, now=NOW, subscriber_id=ids[5], reason=EndReason.COMPLAINT)
    unsubscribe.end_all(session=session, now=NOW, subscriber_id=ids[6], reason=EndReason.HARD_BOUNCE)
    session.flush()

    found = theme(session)
    assert [week.week for week in found.weeks[:2]] == [house.THIS_WEEK, house.LAST_WEEK]
    assert [week.running for week in found.weeks] == [True] + 11 * [False]
    now, before = (week.flow for week in found.weeks[:2])
    assert before == stats.Flow(confirmed=exact(9))
    assert now == stats.Flow(withdrawn=exact(5), complaint=FEW, bounced=FEW)
    assert (now.gone, now.net) == (Shown(7, 13), Shown(-13, -7))
    assert found.total.net == Shown(-4, 2)
    assert found.readers == FEW  # two
    other = theme(session, "democratie")
    assert other.weeks[0].flow == stats.Flow(changed=exact(6), complaint=FEW)
    assert other.readers == Shown(5, 19)


def _activate(session: Session, reader_id: int, slug: str, event: ConsentEvent, at: datetime) -> None:
    confirmation.activate(
        session=session,
        now=at,
        subscriber_id=reader_id,
        theme_id=make.theme(session, slug).id,
        event=event,
        channel=Channel.MAIL,
        wording=consent.wording(consent.CONFIRM, "nl"),
    )


@pytest.mark.parametrize(
    ("at", "week"),
    [
        (datetime(2026, 10, 18, 21, 59, tzinfo=UTC), "2026-W42"),  # Sunday 23:59 in summer time
        (datetime(2026, 10, 18, 22, 0, tzinfo=UTC), "2026-W43"),
        (datetime(2026, 10, 25, 22, 59, tzinfo=UTC), "2026-W43"),  # Sunday 23:59, an hour later in UTC since that night
        (datetime(2026, 10, 25, 23, 0, tzinfo=UTC), "2026-W44"),
        (datetime(2026, 11, 29, 22, 59, 59, 999999, tzinfo=UTC), "2026-W48"),
    ],
)
def test_a_week_begins_on_monday_in_amsterdam(session: Session, at: datetime, week: str) -> None:
    house.evidence(session, "innovatie", ConsentEvent.CONFIRMED, 5, at=at)
    new = {one.week: one.flow.new for one in theme(session).weeks}
    assert {one for one, count in new.items() if count != exact(0)} == {week}
    assert new[week] == exact(5)


def test_a_year_of_53_weeks_has_them_all(session: Session) -> None:
    make.theme(session)
    later = datetime(2027, 1, 6, 9, tzinfo=UTC)
    found = stats.of_theme(session=session, now=later, slug="innovatie", weeks=3)
    assert [one.week for one in found.weeks] == ["2027-W01", "2026-W53", "2026-W52"]


def test_weeks_beyond_the_window_are_left_out(session: Session) -> None:
    for ago in (0, 11, 12, 40):
        house.evidence(session, "innovatie", ConsentEvent.IMPORTED, 5, at=house.monday(ago))
    house.folded(session, "innovatie", "2026-W02", {ConsentEvent.IMPORTED: 50})
    assert theme(session).total == stats.Flow(imported=exact(10))
    assert theme(session, weeks=13).total == stats.Flow(imported=exact(15))
    assert theme(session, weeks=stats.MOST_WEEKS).total == stats.Flow(imported=exact(70))


def test_asking_for_a_theme_is_not_joining_it(session: Session) -> None:
    house.evidence(session, "innovatie", ConsentEvent.REQUESTED, 9)
    assert theme(session).total.nothing


def test_figures_stay_when_the_evidence_of_erased_readers_is_folded(session: Session) -> None:
    for number, what in enumerate(stats_counts.COUNTED):
        house.evidence(session, "innovatie", what, 2 * number + 1)
        house.evidence(session, "democratie", what, 3, at=house.monday(5))
    weeks = ["2026-W43", "2026-W44", "2026-W45", "2026-W46", house.LAST_WEEK, house.THIS_WEEK]
    before = true(session, weeks)
    assert before["innovatie", house.THIS_WEEK] == {
        "confirmed": 1, "changed": 3, "withdrawn": 5, "complaint": 7, "bounced": 9, "imported": 11,
    }  # fmt: skip
    assert before["democratie", "2026-W43"].total() == 18
    shown = stats.every(session=session, now=NOW, weeks=12)

    gone = select(Consent.id).where(Consent.event != ConsentEvent.CHANGED, Consent.id % 2 == 0)
    ids = session.scalars(gone).all()
    for slug, week in before:  # each theme has one week here
        query = select(Consent.event).where(Consent.theme_id == make.theme(session, slug).id, Consent.id.in_(ids))
        house.folded(session, slug, week, Counter(session.scalars(query)))
    session.execute(delete(Consent).where(Consent.id.in_(ids)))
    assert len(ids) > 15
    assert true(session, weeks) == before
    assert stats.every(session=session, now=NOW, weeks=12) == shown


def test_what_became_of_an_issue(session: Session) -> None:
    issue = house.issue(session, outcomes=OUTCOMES, reports=REPORTS, left=5)
    found = theme(session).weeks[1].round
    assert found is not None
    assert found == stats.Round(
        issue=issue,
        accepted=Shown(60, 79, about=True),
        rejected=exact(7),
        given_up=FEW,
        uncertain=FEW,
        left=exact(5),
        unsent=exact(0),
        hard=exact(6),
        soft=FEW,
        fault=exact(0),
        complaint=FEW,
    )
    assert (found.bounced, found.audience) == (Shown(7, 10), Shown(74, 99, about=True))
    assert stats.came_back(session=session, issue_id=issue.id) == stats.Back(exact(6), FEW, exact(0), FEW)
    true_ones = stats_counts.tallies(session=session, issue_ids=[issue.id])[issue.id]
    assert true_ones == {**AS_TEXT, "left": 5}


def test_figures_stay_when_deliveries_and_reports_are_folded(session: Session) -> None:
    issue = house.issue(session, outcomes=OUTCOMES, reports=REPORTS, left=5)
    other = house.issue(session, "democratie", {Outcome.ACCEPTED: 9}, {ReportKind.SOFT: 5})
    before = stats_counts.tallies(session=session, issue_ids=[issue.id, other.id])
    house.counted(session, issue.id, {**AS_TEXT, "again": 3, "in_open_batch": 2})
    assert stats_counts.tallies(session=session, issue_ids=[issue.id, other.id]) == before
    # A report that comes later, and a delivery that stayed, are added.
    session.add(Report(issue_id=issue.id, subscriber_id=900, kind=ReportKind.HARD, at=NOW))
    session.flush()
    after = stats_counts.tallies(session=session, issue_ids=[issue.id])[issue.id]
    assert after == before[issue.id] + Counter({"hard": 1})


def test_figures_stay_when_the_house_folds_and_erases_by_itself(session: Session) -> None:
    long_ago = NOW - folding.KEEP - timedelta(days=1)
    issue = house.issue(session, outcomes=OUTCOMES, reports=REPORTS, left=5, finished_at=long_ago)
    ids = [make.reader(session, f"p{number}@gemeente.example").id for number in range(6)]
    for reader_id in ids:
        _activate(session, reader_id, "innovatie", ConsentEvent.CONFIRMED, NOW - timedelta(days=7))
        unsubscribe.leave_all(session=session, now=NOW, subscriber_id=reader_id, channel=Channel.ONE_CLICK)
    session.flush()
    before = theme(session)
    assert before.total == stats.Flow(confirmed=exact(6), withdrawn=exact(6))
    while folding.deliveries(session=session, now=NOW) or folding.reports(session=session, now=NOW):
        pass
    for reader_id in ids[:5]:
        erasure.erase(session=session, now=NOW, subscriber_id=reader_id)
    rows = {model: session.scalar(select(func.count()).select_from(model)) for model in (Delivery, Report, Consent)}
    assert rows == {Delivery: 0, Report: 0, Consent: 2}
    assert theme(session) == before
    assert stats_counts.tallies(session=session, issue_ids=[issue.id])[issue.id] == {**AS_TEXT, "left": 5}


def test_a_round_that_goes_out_or_was_cancelled_has_mails_that_are_not_sent(session: Session) -> None:
    deferred = {Outcome.ACCEPTED: 10, Outcome.DEFERRED: 3}
    house.issue(session, outcomes=deferred, audience=40, state=IssueState.SENDING)
    found = theme(session).rounds[0]
    assert (found.accepted, found.unsent) == (Shown(5, 19), exact(30))
    planned = house.issue(session, "democratie", cut_at=None, state=IssueState.PLANNED)
    assert theme(session, planned.theme.slug).rounds == []


def test_an_empty_house_has_nothing_to_tell(session: Session) -> None:
    empty = stats.overview(session=session, now=NOW, weeks=12)
    assert (empty.themes, empty.weeks, empty.newest) == ([], (), [])
    make.theme(session)
    found = stats.overview(session=session, now=NOW, weeks=12)
    assert [one.readers for one in found.themes] == [exact(0)]
    assert all(week.flow.nothing for week in found.weeks)
    with pytest.raises(errors.NotFound):
        theme(session, "onbekend")


def test_a_retired_theme_is_told_of_as_long_as_there_is_anything(session: Session) -> None:
    make.theme(session)
    make.reader(session, "saskia@gemeente.example", "democratie")
    themes.retire(session=session, slug="democratie", now=NOW)

    def told() -> list[str]:
        return [one.theme.slug for one in stats.overview(session=session, now=NOW, weeks=12).themes]

    assert told() == ["democratie", "innovatie"]
    for row in session.scalars(select(Subscription)).all():
        row.state = State.ENDED
    session.flush()
    assert told() == ["innovatie"]
    house.evidence(session, "democratie", ConsentEvent.WITHDRAWN)
    assert told() == ["democratie", "innovatie"]
    assert theme(session, "democratie").theme.retired_at == NOW


def test_themes_together_are_added_up_from_what_is_shown_of_each(session: Session) -> None:
    house.evidence(session, "innovatie", ConsentEvent.CONFIRMED, 7)
    house.evidence(session, "democratie", ConsentEvent.CONFIRMED, 2)
    house.evidence(session, "democratie", ConsentEvent.WITHDRAWN, 1)
    found = stats.overview(session=session, now=NOW, weeks=12)
    assert found.weeks[0].flow == stats.Flow(confirmed=Shown(8, 11), withdrawn=FEW)
    assert found.weeks[0].flow.net == Shown(4, 10)


def test_the_newest_issues_stand_on_the_overview(session: Session) -> None:
    for number in range(12):
        week = f"2026-W{20 + number}"
        at = house.monday(28 - number)
        house.issue(session, outcomes={Outcome.ACCEPTED: 5 + number}, week=week, cut_at=at)
    found = stats.overview(session=session, now=NOW, weeks=12).newest
    assert [one.issue.week for one in found] == [f"2026-W{week}" for week in range(31, 21, -1)]


def test_few_statements_do_it(session: Session, statements: list[str]) -> None:
    for slug in ("innovatie", "democratie", "organisatie"):
        house.issue(session, slug, OUTCOMES, REPORTS)
        house.evidence(session, slug, ConsentEvent.CONFIRMED, 3)
    statements.clear()
    stats.every(session=session, now=NOW, weeks=26)
    assert len(statements) == 5
    statements.clear()
    stats.overview(session=session, now=NOW, weeks=26)
    assert len(statements) == 5


@pytest.fixture
def statements(app: flask.Flask) -> Iterator[list[str]]:
    found: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        found.append(statement)

    event.listen(db.db.engine, "before_cursor_execute", note)
    yield found
    event.remove(db.db.engine, "before_cursor_execute", note)


def test_the_command_tells_the_same(app: flask.Flask) -> None:
    with db.transaction() as session:
        house.evidence(session, "innovatie", ConsentEvent.CONFIRMED, 1204)
        house.evidence(session, "innovatie", ConsentEvent.WITHDRAWN, 3)
        house.issue(session, "democratie", OUTCOMES, REPORTS)
        themes.retire(session=session, slug="democratie", now=NOW)
    with time_machine.travel(NOW, tick=False):
        text, found = done(app, "stats"), json.loads(done(app, "stats", "--json", "--weeks", "2"))
        one = json.loads(done(app, "stats", "--json", "--theme", "innovatie"))
        assert "no theme “onbekend”" in refused(app, "stats", "--theme", "onbekend")
    assert "fewer than 5" in text
    assert "2026-W48 so far" in text
    assert "democratie, retired" in text
    democratie, innovatie = found["themes"]
    assert found["smallest_count"] == 5
    assert [week["week"] for week in innovatie["weeks"]] == ["2026-W48", "2026-W47"]
    assert len(one["themes"][0]["weeks"]) == 12
    assert innovatie["weeks"][0] == {
        "week": "2026-W48", "running": True, "confirmed": 1204, "changed": 0, "imported": 0,
        "withdrawn": "fewer than 5", "bounced": 0, "complaint": 0,
        "new": 1204, "gone": "fewer than 5", "net": "+1200 to +1203", "issue": None,
    }  # fmt: skip
    issue = democratie["weeks"][1]["issue"]
    assert democratie["retired"]
    assert (issue["accepted"], issue["rejected"], issue["given_up"]) == ("about 70", 7, "fewer than 5")
    assert (issue["bounced"], issue["complaint"], issue["state"]) == ("7 to 10", "fewer than 5", "sent")


def test_who_sets_the_smallest_count_to_one_hides_nothing(session: Session, app: flask.Flask) -> None:
    house.evidence(session, "innovatie", ConsentEvent.WITHDRAWN, 1)
    before = settings.current()
    settings.use(before.model_copy(update={"smallest_count": 1}))
    assert theme(session).total == stats.Flow(withdrawn=exact(1))
    settings.use(before.model_copy(update={"smallest_count": 10}))
    assert words(theme(session).total.gone, "en") == "fewer than 10"
    settings.use(before)


def test_each_figure_is_one_of_the_evidence() -> None:
    assert {one.name for one in fields(stats.Flow)} == {str(counted) for counted in stats_counts.COUNTED}
