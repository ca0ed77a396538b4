"""The pages with statistics, their file, and that nothing on them betrays a number that is hidden."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html import unescape

import flask
import pytest
import time_machine
from sqlalchemy.orm import Session

from service import db, i18n, themes
from service.delivery.models import Outcome, ReportKind
from service.newsroom.models import Role
from service.subscribers.models import ConsentEvent
from service.themes import Theme
from tests import make
from tests.integration import stats as house
from tests.integration.newsroom import Desk
from tests.integration.operator import done
from tests.make import NOW

STATS = "/newsroom/stats"
CONFIRMED, CHANGED, WITHDRAWN = ConsentEvent.CONFIRMED, ConsentEvent.CHANGED, ConsentEvent.WITHDRAWN
COMPLAINT, BOUNCED = ConsentEvent.COMPLAINT, ConsentEvent.BOUNCED
PLACES = (STATS, f"{STATS}/innovatie", f"{STATS}/figures.csv", f"{STATS}/innovatie/figures.csv")


@pytest.fixture(autouse=True)
def _now(doorbells: object) -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def told(session: Session) -> int:
    """Two themes, some weeks, an issue; gives its id."""
    house.folded(session, "innovatie", house.THIS_WEEK, {CONFIRMED: 1204, CHANGED: 2, WITHDRAWN: 3, COMPLAINT: 1})
    house.folded(session, "innovatie", house.LAST_WEEK, {CONFIRMED: 6, WITHDRAWN: 4})
    house.folded(session, "democratie", house.THIS_WEEK, {CONFIRMED: 2, BOUNCED: 9})
    issue = house.issue(session, audience=1235)
    house.counted(session, issue.id, {"accepted": 1230, "rejected": 3, "given_up": 2, "hard": 12, "complaint": 2})
    return issue.id


def words_of(page: str) -> str:
    """Its text, without tags, scripts' worth of space, or the forms' tokens."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_the_pages_tell_in_both_languages(app: flask.Flask, language: str) -> None:
    with db.transaction() as session:
        told(session)
    desk = Desk(app, Role.WRITER, language=language)
    overview, theme = (words_of(desk.text(place)) for place in PLACES[:2])

    def say(message: str, **params: object) -> str:
        return i18n.gettext(language, message, **params)

    few, thousand = say("fewer than %(count)s", count=5), {"en": "1,204", "nl": "1.204"}[language]
    for page in (overview, theme):
        assert few in page
        assert say("about %(count)s", count={"en": "1,230", "nl": "1.230"}[language]) in page
        assert say("Small numbers are hidden") in page
        assert "%(" not in page
    assert thousand in theme
    assert thousand not in overview  # there it is part of a sum with a hidden number
    assert say("week %(week)s", week=48) + ", " + say("so far") in theme
    for page in (overview, theme):
        assert {"en": "16–22 Nov 2026", "nl": "16–22 nov 2026"}[language] in page
    assert say("Most new: %(count)s in %(week)s.", count="", week="")[:10] in theme
    assert desk.text(STATS).count("<svg") == 2  # the mark, and a chart
    assert {"en": "Statistics", "nl": "Statistiek"}[language] in words_of(desk.text("/newsroom/"))


def test_what_is_hidden_makes_no_difference_to_what_is_shown(app: flask.Flask) -> None:
    """Houses that differ in hidden numbers alone look the same in every place: so nobody can find them."""
    with db.transaction() as session:
        issue_id = told(session)
    desk = Desk(app, Role.WRITER)

    def seen() -> list[str]:
        pages = [re.sub(r'(name="csrf_token" value=)"[^"]*"', r"\1", desk.text(place)) for place in PLACES]
        line = re.search(r'aria-labelledby="back-title">.*?</section>', desk.text(f"/newsroom/issues/{issue_id}"), re.S)
        assert line is not None
        return [*pages, line[0], done(app, "stats", "--json"), done(app, "stats")]

    def change(few: int, other: int, accepted: int, known: int) -> None:
        with db.transaction() as session:
            this_week = {CONFIRMED: known, CHANGED: few, WITHDRAWN: other, COMPLAINT: few}
            house.folded(session, "innovatie", house.THIS_WEEK, this_week)
            house.folded(session, "innovatie", house.LAST_WEEK, {CONFIRMED: 6, WITHDRAWN: few})
            house.folded(session, "democratie", house.THIS_WEEK, {CONFIRMED: other, BOUNCED: 9})
            counts = {"accepted": accepted, "rejected": few, "given_up": other, "hard": 12, "complaint": few}
            house.counted(session, issue_id, counts)
            house.issue_of(session, issue_id).audience = accepted + few + other

    before = seen()
    for few, other, accepted in ((1, 1, 1220), (4, 4, 1239), (1, 4, 1225)):
        change(few, other, accepted, 1204)
        assert seen() == before
    change(2, 3, 1230, 1205)
    assert all(one != another for one, another in zip(seen()[:4], before[:4], strict=True))


def test_the_charts_draw_nothing_that_the_words_hide(app: flask.Flask) -> None:
    with db.transaction() as session:
        house.folded(session, "innovatie", house.THIS_WEEK, {CONFIRMED: 8, WITHDRAWN: 3})
    page = Desk(app, Role.WRITER).get(f"{STATS}/innovatie").text
    bars = re.findall(
        r'class="bar bar--(\w+)( bar--maybe)?" x="([\d.]+)" y="([\d.]+)" width="8" height="([\d.]+)"', page
    )
    assert bars == [
        ("up", "", "111.0", "0.0", "66.67"),
        ("down", "", "111.0", "66.67", "8.33"),
        ("down", " bar--maybe", "111.0", "75.0", "25.0"),
    ]
    assert re.search(
        r'<svg class="chart__bars" role="img" aria-labelledby="growth-chart-title growth-chart-desc"', page
    )
    assert "style=" not in page
    desc = re.search(r'<desc id="growth-chart-desc">(.*?)</desc>', page)
    assert desc is not None
    assert (
        desc[1]
        == "De meeste nieuwe: 8 in week 48. De meeste weg: minder dan 5 in week 48. Alle cijfers staan in de tabel."
    )


def test_the_file_opens_in_a_spreadsheet(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue_id = told(session)
        session.query(Theme).filter_by(slug="democratie").one().name_nl = "=HYPERLINK(1)"
    for language, delimiter in (("nl", ";"), ("en", ",")):
        desk = Desk(app, Role.WRITER, email=f"{language}@gemeente.example", language=language)
        answer = desk.get(f"{STATS}/figures.csv?weeks=26")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="vinkje-2026-W48.csv"'
        assert answer.headers["Cache-Control"] == "no-store"
        head, *rows = csv.reader(io.StringIO(answer.text.removeprefix("\ufeff")), delimiter=delimiter)
        assert len(rows) == 2 * 26
        assert {len(row) for row in rows} == {len(head)} == {24}
    by_week = {(row[0], row[1]): row[2:] for row in rows}
    few = "fewer than 5"
    assert by_week["Innovatie", "2026-W48"][:10] == [
        "1204",
        few,
        "0",
        few,
        "0",
        few,
        "1205 to 1208",
        "2 to 8",
        "1197",
        "1206",
    ]
    assert by_week["Innovatie", "2026-W47"][10:] == [
        str(issue_id), "about 1230", "about 1230", few, few, "0", "0", "0", "12", "0", "0", few,
    ]  # fmt: skip
    dutch = desk.get(f"{STATS}/figures.csv?lang=nl").text
    assert "'=HYPERLINK(1);" in dutch
    assert "\n=HYPERLINK" not in dutch
    one = desk.get(f"{STATS}/innovatie/figures.csv")
    assert one.headers["Content-Disposition"] == 'attachment; filename="innovatie-2026-W48.csv"'
    assert len(one.text.splitlines()) == 13


def test_twelve_weeks_or_twenty_six(app: flask.Flask) -> None:
    with db.transaction() as session:
        make.theme(session)
    desk = Desk(app, Role.WRITER)
    for asked, weeks in (("", 12), ("?weeks=26", 26), ("?weeks=3", 12), ("?weeks=x", 12)):
        page = desk.text(f"{STATS}/innovatie{asked}")
        assert len(re.findall(r'<th scope="row" role="rowheader">week \d+', page)) == weeks
        assert re.search(rf'weeks={weeks}" aria-current="true"', page)


def test_an_empty_house_says_so(app: flask.Flask) -> None:
    desk = Desk(app, Role.WRITER)
    assert "Er zijn nog geen thema’s" in desk.text(STATS)
    assert len(desk.get(f"{STATS}/figures.csv").text.splitlines()) == 1
    with db.transaction() as session:
        make.theme(session)
    assert "Er is nog geen nummer verstuurd" in desk.text(STATS)
    page = desk.text(f"{STATS}/innovatie")
    assert "In deze weken is geen nummer verstuurd" in page
    assert "<p>Niemand nieuw. Niemand weg.</p>" in page
    assert "chart" not in page
    assert desk.get(f"{STATS}/onbekend").status_code == 404
    assert desk.get(f"{STATS}/onbekend/figures.csv").status_code == 404


def test_a_retired_theme_keeps_its_page(app: flask.Flask) -> None:
    with db.transaction() as session:
        told(session)
        themes.retire(session=session, slug="innovatie", now=NOW)
    desk = Desk(app, Role.WRITER)
    for place in PLACES[:2]:
        assert '<span class="badge">gesloten</span>' in desk.text(place)


def test_only_editors_look(app: flask.Flask) -> None:
    with db.transaction() as session:
        told(session)
    stranger = Desk(app, None)
    for place in PLACES:
        answer = stranger.get(place)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/newsroom/login")


def test_an_issues_page_says_what_came_back(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue_id = told(session)
        reports = {ReportKind.HARD: 6, ReportKind.SOFT: 1}
        other = house.issue(session, "democratie", {Outcome.ACCEPTED: 20}, reports).id
        planned = make.approved(session, "organisatie").id
    chief = Desk(app, Role.CHIEF, language="en")
    page = words_of(chief.text(f"/newsroom/issues/{issue_id}"))
    assert "Came back: 12. Reported as spam: fewer than 5." in page
    assert f'href="{STATS}/innovatie"' in chief.text(f"/newsroom/issues/{issue_id}")
    assert "Came back: 7 to 10. Reported as spam: 0." in words_of(chief.text(f"/newsroom/issues/{other}"))
    assert "Came back" not in chief.text(f"/newsroom/issues/{planned}")
