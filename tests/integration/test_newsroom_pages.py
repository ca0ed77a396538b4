"""The newsroom through its own door: forms filled in, pages read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from html import unescape

import flask
import pytest
from sqlalchemy import func, select

from service import db, links, settings, themes
from service.delivery.models import Delivery, Outcome
from service.issues import rota
from service.issues.models import Issue, IssueState
from service.newsroom.models import Editor, EditorState, Item, ItemState, Notice, NoticeKind, Role
from tests import make
from tests.integration.newsroom import PASSWORD, Desk

Rung = list[tuple[str, tuple[int, ...]]]
GOOD = {
    "theme": "innovatie",
    "title": "Gent test deelauto's",
    "body": "De proef kost **40.000 euro**.",
    "url": "https://gent.example/deelauto?a=1&b=2",
    "written_in": "nl",
}
SEEN = re.compile(r'name="seen" value="([0-9a-f]+)"')


@pytest.fixture
def chief(app: flask.Flask, doorbells: Rung) -> Desk:
    with db.transaction() as session:
        make.theme(session)
        make.theme(session, "democratie")
    return Desk(app, Role.CHIEF)


def _items() -> dict[str, ItemState]:
    with db.transaction() as session:
        return {item.title: item.state for item in session.scalars(select(Item)).all()}


def _state(issue: str) -> IssueState:
    with db.transaction() as session:
        return session.scalars(select(Issue).where(Issue.id == int(issue.rpartition("/")[2]))).one().state


def _published(*titles: str) -> list[int]:
    with db.transaction() as session:
        return [make.item(session, title=title, published_at=datetime.now(UTC)).id for title in titles]


def _plan(desk: Desk, slug: str = "innovatie", weeks: int = 1) -> str:
    """An issue of that many weeks ahead; its address."""
    week = rota.week_of(datetime.now(UTC) + timedelta(weeks=weeks))
    planned = desk.post("/newsroom/issues", {"theme": slug, "week": week})
    assert planned.status_code == 302, planned.text
    return str(planned.headers["Location"])


def _assembled(desk: Desk, *titles: str) -> tuple[str, list[int]]:
    ids = _published(*titles)
    issue = _plan(desk)
    assert desk.post(f"{issue}/assemble").status_code == 302
    return issue, ids


def _seen(desk: Desk, issue: str) -> str:
    found = SEEN.search(desk.text(issue))
    assert found is not None
    return found[1]


def _approve(desk: Desk, issue: str) -> None:
    approved = desk.post(f"{issue}/approve", {"sure": "yes", "seen": _seen(desk, issue)})
    assert approved.status_code == 302, approved.text


def test_an_item_is_written_previewed_changed_published_and_withdrawn(chief: Desk) -> None:
    preview = chief.post("/newsroom/items/new", {**GOOD, "do": "preview"})
    assert "<strong>40.000 euro</strong>" in preview.text
    assert _items() == {}
    saved = chief.post("/newsroom/items/new", {**GOOD, "do": "save"})
    address = str(saved.headers["Location"])
    assert _items() == {GOOD["title"]: ItemState.DRAFT}
    page = chief.text(address)
    assert "Het bericht is opgeslagen." in page
    assert f'value="{GOOD["title"]}"' in page
    chief.post(address, {**GOOD, "title": "Gent stopt", "version": "1", "do": "publish"})
    assert _items() == {"Gent stopt": ItemState.PUBLISHED}
    chief.post(f"{address}/withdraw")
    assert _items() == {"Gent stopt": ItemState.WITHDRAWN}
    chief.post(address, {**GOOD, "title": "Gent stopt", "version": "2", "do": "publish"})
    assert _items() == {"Gent stopt": ItemState.PUBLISHED}


def test_enter_in_a_field_saves_and_nothing_publishes_unsaved_text(chief: Desk) -> None:
    """Enter presses a form's first button (HTML §4.10.21.2)."""
    draft = str(chief.post("/newsroom/items/new", {**GOOD, "do": "save"}).headers["Location"])
    for address in ("/newsroom/items/new", draft):
        page = chief.text(address)
        assert re.findall(r'name="do" value="(\w+)"', page) == ["save", "publish", "preview"]
        assert f"{draft}/publish" not in page


def test_lists_name_themes_in_the_editors_language(app: flask.Flask, chief: Desk) -> None:
    with db.transaction() as session:
        themes.by_slug(session=session, slug="innovatie").name_en = "Innovation abroad"
    _published("Een")
    issue = _plan(chief)
    english = Desk(app, Role.WRITER, language="en")
    assert "Innovation abroad," in english.text("/newsroom/items").replace("\n", "")
    assert re.search(rf'href="{issue}">Innovation abroad, week', english.text("/newsroom/issues"))


def test_a_preview_says_what_saving_would_refuse_and_shows_the_source_as_the_mail_does(chief: Desk) -> None:
    bad = unescape(chief.post("/newsroom/items/new", {**GOOD, "title": "x" * 121, "do": "preview"}).text)
    assert "De titel heeft 121 tekens. Het mogen er hoogstens 120 zijn." in bad
    assert "<strong>40.000 euro</strong>" in bad
    good = unescape(chief.post("/newsroom/items/new", {**GOOD, "do": "preview"}).text)
    assert "Lees verder: gent.example" in good
    assert 'id="errors"' not in good
    assert _items() == {}


def test_subject_and_sender_stand_above_the_mail(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    page = chief.text(issue)
    assert "Innovatie: Een" in page
    assert f"<{parseaddr(settings.current().mail_from)[1]}>" in page


def test_all_faults_of_a_form_are_said_at_once_and_nothing_typed_is_lost(chief: Desk) -> None:
    bad = chief.post("/newsroom/items/new", {**GOOD, "title": "", "theme": "", "url": "javascript:alert(1)"})
    page = unescape(bad.text)
    assert bad.status_code == 422
    assert "<title>Fout: " in page
    for field, words in (("title", "Vul een titel in."), ("url", "volledig webadres"), ("theme", "Kies een van de")):
        assert re.search(rf'<a href="#{field}">[^<]*{words}', page)
        assert f'id="{field}-error"' in page
    assert 'value="javascript:alert(1)"' in page
    assert GOOD["body"] in page
    assert _items() == {}


def test_two_writers_of_one_item_both_keep_their_text(chief: Desk) -> None:
    address = str(chief.post("/newsroom/items/new", GOOD).headers["Location"])
    chief.post(address, {**GOOD, "body": "Van Anneke.", "version": "1"})
    late = chief.post(address, {**GOOD, "body": "Van Joris.", "version": "1"})
    page = unescape(late.text)
    assert late.status_code == 409
    assert "Iemand anders heeft dit bericht gewijzigd" in page
    assert "Van Anneke." in page
    assert "Van Joris.</textarea>" in page
    assert 'name="version" value="2"' in page
    assert chief.post(address, {**GOOD, "body": "Van beiden.", "version": "2"}).status_code == 302


def test_a_preview_still_counts_from_the_version_it_started_with(chief: Desk) -> None:
    address = str(chief.post("/newsroom/items/new", GOOD).headers["Location"])
    chief.post(address, {**GOOD, "body": "Van Anneke.", "version": "1"})
    preview = chief.post(address, {**GOOD, "body": "Van Joris.", "version": "1", "do": "preview"})
    assert 'name="version" value="1"' in preview.text
    assert chief.post(address, {**GOOD, "body": "Van Joris.", "version": "1"}).status_code == 409


def test_items_are_found_by_theme_and_state(chief: Desk) -> None:
    _published("Gepubliceerd een")
    chief.post("/newsroom/items/new", {**GOOD, "title": "Concept twee", "theme": "democratie"})
    found = chief.text("/newsroom/items?theme=democratie&state=draft")
    assert "Concept twee" in found
    assert "Gepubliceerd een" not in found
    assert "Gepubliceerd een" in chief.text("/newsroom/items?theme=nonsense&state=nonsense&page=x")
    assert "hierbij horen" in chief.text("/newsroom/items?state=placed")


def test_an_issue_goes_from_plan_to_round(chief: Desk, doorbells: Rung) -> None:
    with db.transaction() as session:
        make.reader(session, "saskia@gemeente.example", "innovatie")
    issue, (one, two, three) = _assembled(chief, "Een", "Twee", "Drie")
    chief.post(f"{issue}/order", {"item": str(three), "stood": f"{one} {two} {three}", "to": "up"})
    chief.post(f"{issue}/drop", {"item": str(one)})
    page = chief.text(issue)
    assert page.index(">Drie<") < page.index(">Twee<")
    assert _items()["Een"] is ItemState.PUBLISHED
    _approve(chief, issue)
    assert _state(issue) is IssueState.APPROVED
    frozen = chief.text(f"/newsroom/items/{two}")
    assert "Het kan niet meer worden gewijzigd" in frozen
    assert chief.post(f"/newsroom/items/{two}", {**GOOD, "version": "1"}).status_code == 409
    doorbells.clear()
    assert chief.post(f"{issue}/send", {"sure": "yes"}).status_code == 302
    assert [name for name, _ in doorbells] == ["vinkje.start_round"]


def test_the_preview_is_the_mail_and_nothing_more_than_a_mail(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een", "Twee")
    html = chief.get(f"{issue}/preview/nl.html")
    policy = html.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "frame-ancestors 'self'" in policy
    assert "script-src" not in policy
    text = chief.get(f"{issue}/preview/en.txt")
    assert text.content_type == "text/plain; charset=utf-8"
    for words in (html.text, text.text):
        assert "Een" in words
        assert "/unsubscribe/sample" in words
    page = chief.get(f"{issue}?edition=en&kind=txt")
    assert f'src="{issue}/preview/en.txt"' in page.text
    assert "frame-src 'self'" in page.headers["Content-Security-Policy"]
    before = chief.get(f"{issue}/preview/nl.txt").text
    _approve(chief, issue)
    assert chief.get(f"{issue}/preview/nl.txt").text == before


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (IssueState.ASSEMBLED, "Precies zoals hij wordt verstuurd."),
        (IssueState.APPROVED, "Precies zoals hij wordt verstuurd."),
        (IssueState.SENDING, "Precies zoals hij de deur uitgaat."),
        (IssueState.PAUSED, "Precies zoals hij de deur uitgaat."),
        (IssueState.SENT, "Precies zoals hij is verstuurd."),
        (IssueState.CANCELLED, "Precies zoals hij is verstuurd."),
    ],
)
def test_the_page_knows_whether_the_mail_was_sent(chief: Desk, state: IssueState, said: str) -> None:
    issue, _ = _assembled(chief, "Een")
    if state is not IssueState.ASSEMBLED:
        _approve(chief, issue)
    with db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        found.state = state
        if state not in (IssueState.ASSEMBLED, IssueState.APPROVED):
            found.cut_at = datetime.now(UTC)
    assert f"{said} De persoonlijke links werken hier niet." in chief.words(issue)


def test_what_was_dropped_is_not_offered_as_newer(chief: Desk) -> None:
    issue, (one, _two) = _assembled(chief, "Een", "Twee")
    chief.post(f"{issue}/drop", {"item": str(one)})
    assert "toevoegen" not in chief.text(issue)
    newer = str(chief.post("/newsroom/items/new", {**GOOD, "title": "Drie", "do": "publish"}).headers["Location"])
    assert "1 nieuwer bericht toevoegen" in chief.text(issue)
    chief.post(f"{issue}/assemble", {"top_up": "yes"})
    assert _items() == {"Een": ItemState.PUBLISHED, "Twee": ItemState.PLACED, "Drie": ItemState.PLACED}
    assert newer in chief.text(issue)


def test_a_test_mail_goes_to_the_editor_who_asks(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    assert chief.post(f"{issue}/test", {"edition": "en"}).status_code == 302
    assert "chief@gemeente.example" in chief.text(issue)
    with db.transaction() as session:
        notice = session.scalars(select(Notice).where(Notice.kind == NoticeKind.TEST_SEND)).one()
        assert (notice.editor.email, notice.language) == ("chief@gemeente.example", "en")


def test_a_button_pressed_twice_mails_one_test_and_the_edition_stays(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    sent = [chief.post(f"{issue}/test", {"edition": edition}) for edition in ("en", "en", "nl")]
    assert sent[1].headers["Location"] == f"{issue}?edition=en#mail"
    query = select(Notice.language).where(Notice.kind == NoticeKind.TEST_SEND).order_by(Notice.id)
    with db.transaction() as session:
        assert list(session.scalars(query)) == ["en", "nl"]


def test_what_cannot_be_taken_back_wants_a_tick(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    for deed in ("approve", "cancel"):
        refused = chief.post(f"{issue}/{deed}", {"seen": _seen(chief, issue)})
        assert refused.status_code == 422
        assert f'href="#sure-{deed}"' in refused.text
    assert _state(issue) is IssueState.ASSEMBLED
    _approve(chief, issue)
    assert chief.post(f"{issue}/send").status_code == 422


@pytest.mark.parametrize(("language", "said"), [("nl", "1.006 lezers"), ("en", "1,006 readers")])
def test_how_many_get_it_is_written_in_one_way(app: flask.Flask, chief: Desk, language: str, said: str) -> None:
    issue, _ = _assembled(chief, "Een")
    with db.transaction() as session:
        for number in range(1006):
            make.reader(session, f"p{number}@gemeente.example", "innovatie")
    page = Desk(app, Role.CHIEF, email="bas@gemeente.example", language=language).words(issue)
    assert f" {said}." in page
    assert said.split()[0] in page.partition("Gegevens" if language == "nl" else "Facts")[2]
    assert "1006" not in page


def test_what_was_not_looked_at_is_not_approved(chief: Desk) -> None:
    issue, (one, _two) = _assembled(chief, "Een", "Twee")
    seen = _seen(chief, issue)
    chief.post(f"{issue}/drop", {"item": str(one)})
    for stale in (seen, ""):
        refused = chief.post(f"{issue}/approve", {"sure": "yes", "seen": stale})
        assert refused.status_code == 409
        assert "Het nummer is veranderd terwijl u keek" in refused.text
    assert _state(issue) is IssueState.ASSEMBLED


def test_of_two_chiefs_the_second_is_told_who_was_first(app: flask.Flask, chief: Desk) -> None:
    other = Desk(app, Role.CHIEF, email="andere@gemeente.example")
    issue, _ = _assembled(chief, "Een")
    seen = _seen(other, issue)
    _approve(chief, issue)
    late = other.post(f"{issue}/approve", {"sure": "yes", "seen": seen})
    assert late.status_code == 409
    assert "Dit nummer is al goedgekeurd, door Carla Visser." in late.text
    assert 'data-state="approved"' in late.text


def test_an_order_that_no_longer_holds_is_refused_with_the_items_as_they_are(chief: Desk) -> None:
    issue, (one, two) = _assembled(chief, "Een", "Twee")
    chief.post(f"{issue}/drop", {"item": str(one)})
    late = chief.post(f"{issue}/order", {"item": str(two), "stood": f"{one} {two}", "to": "up"})
    assert late.status_code == 409
    assert "De berichten zijn veranderd" in late.text


def test_an_emptied_issue_does_not_wait_for_approval(chief: Desk) -> None:
    issue, (one,) = _assembled(chief, "Een")
    chief.post(f"{issue}/drop", {"item": str(one)})
    page = chief.text(issue)
    assert "Er valt dus niets goed te keuren." in page
    assert "leest de mail en keurt hem goed" not in page


def test_a_move_by_who_saw_another_order_is_refused(chief: Desk) -> None:
    issue, (one, two, three) = _assembled(chief, "Een", "Twee", "Drie")
    stood = f"{one} {two} {three}"
    assert chief.post(f"{issue}/order", {"item": str(three), "stood": stood, "to": "up"}).status_code == 302
    assert chief.post(f"{issue}/order", {"item": str(one), "stood": stood, "to": "down"}).status_code == 409
    page = chief.text(issue)
    assert page.index(">Een<") < page.index(">Drie<") < page.index(">Twee<")


def test_approval_can_be_taken_back_and_the_hour_changed(chief: Desk) -> None:
    issue, (one,) = _assembled(chief, "Een")
    _approve(chief, issue)
    chief.post(f"{issue}/reopen")
    assert _state(issue) is IssueState.ASSEMBLED
    assert chief.post(f"/newsroom/items/{one}", {**GOOD, "version": "1"}).status_code == 302
    bad = chief.post(f"{issue}/replan", {"send_at": "2020-01-01T09:00"})
    assert bad.status_code == 422
    assert 'value="2020-01-01T09:00"' in bad.text
    assert 'id="send_at-error"' in bad.text
    with db.transaction() as session:
        monday = rota.monday(session.scalars(select(Issue.week)).one())
    assert chief.post(f"{issue}/replan", {"send_at": f"{monday}T10:30"}).status_code == 302
    assert "10:30" in chief.text(issue)


def test_an_issue_without_items_is_skipped_and_says_so(chief: Desk) -> None:
    issue = _plan(chief)
    chief.post(f"{issue}/assemble")
    page = chief.text(issue)
    assert 'data-state="skipped"' in page
    assert "Er was geen gepubliceerd bericht van dit thema." in page


def test_an_issue_that_missed_its_hour_says_that_it_waits(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    with db.transaction() as session:
        session.scalars(select(Issue)).one().held_since = datetime.now(UTC)
    assert "Dit nummer wacht op u" in chief.text(issue)
    assert "wacht op u" in chief.text("/newsroom/")


@pytest.mark.parametrize("state", [IssueState.PLANNED, IssueState.ASSEMBLED, IssueState.APPROVED])
def test_a_held_issue_whose_week_is_over_offers_only_what_can_be_done(chief: Desk, state: IssueState) -> None:
    issue, _ = _assembled(chief, "Een")
    address = f'action="{issue}/replan"'
    with db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        found.state, found.held_since = state, datetime.now(UTC)
    assert address in chief.text(issue)
    assert "andere tijd" in chief.text(issue)
    with db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        found.week, found.send_at = "2026-W01", datetime(2026, 1, 1, 8, tzinfo=UTC)
    page = chief.text(issue)
    assert address not in page
    assert "andere tijd" not in page
    assert "de week is voorbij" in page
    assert f'action="{issue}/cancel"' in page
    assert chief.post(f"{issue}/replan", {"send_at": "2026-01-01T10:00"}).status_code == 422


def test_a_held_issue_whose_week_is_over_can_still_go(chief: Desk, doorbells: Rung) -> None:
    issue, _ = _assembled(chief, "Een")
    with db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        found.held_since = datetime.now(UTC)
        found.week, found.send_at = "2026-W01", datetime(2026, 1, 1, 8, tzinfo=UTC)
    _approve(chief, issue)
    assert "Het mag nu naar 0 lezers." in chief.words(issue)  # its hour has gone: there is nothing to wait for
    doorbells.clear()
    assert chief.post(f"{issue}/send", {"sure": "yes"}).status_code == 302
    assert [name for name, _ in doorbells] == ["vinkje.start_round"]


def test_a_cancelled_issue_gives_its_items_back(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    chief.post(f"{issue}/cancel", {"sure": "yes"})
    assert _state(issue) is IssueState.CANCELLED
    assert _items() == {"Een": ItemState.PUBLISHED}
    assert "U kunt deze week opnieuw plannen." in chief.words(issue)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cut_at": datetime.now(UTC)}, "Geen: het is geannuleerd toen het al werd verstuurd."),
        ({"week": "2026-W01"}, "Geen: het is geannuleerd, en de week is voorbij."),
    ],
)
def test_a_week_that_cannot_be_planned_again_is_not_offered(chief: Desk, values: dict[str, object], said: str) -> None:
    issue, _ = _assembled(chief, "Een")
    chief.post(f"{issue}/cancel", {"sure": "yes"})
    with db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        for name, value in values.items():
            setattr(found, name, value)
    assert said in chief.words(issue)
    assert "opnieuw plannen" not in chief.words(issue)


def test_the_numbers_stand_on_the_page_while_it_goes_out(chief: Desk) -> None:
    issue, _ = _assembled(chief, "Een")
    with db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        found.state, found.audience, found.cut_at = IssueState.SENDING, 1234, make.NOW
        for reader in range(7):
            session.add(
                Delivery(
                    issue_id=found.id, subscriber_id=reader, outcome=Outcome.ACCEPTED, at=make.NOW, first_at=make.NOW
                )
            )
    page = chief.text(issue)
    assert re.search(r'Lezers bij het begin</th><td class="number">1\.234<', page)
    assert re.search(r'Aangenomen door de mailserver</th><td class="number">7<', page)
    assert chief.post(f"{issue}/pause").status_code == 302
    assert "Verder versturen" in chief.text(issue)
    assert chief.post(f"{issue}/resume").status_code == 302
    assert _state(issue) is IssueState.SENT  # it had no batches left
    late = chief.post(f"{issue}/pause")
    assert late.status_code == 409
    assert "“verstuurd”" in unescape(late.text)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"theme": "nonsense", "week": "2099-W01"}, "theme"),
        ({"theme": "innovatie", "week": "2099-W60"}, "week"),
        ({"theme": "innovatie", "week": "2020-W01"}, "week"),
        ({"theme": "innovatie", "week": "9999-W52"}, "week"),
        ({"theme": "innovatie", "week": "2099-W01", "send_at": "0001-01-01T00:00"}, "send_at"),
        ({"theme": "innovatie", "week": "2099-W01", "send_at": "morgen"}, "send_at"),
        ({"theme": "innovatie", "week": "2099-W01", "send_at": "2099-06-01T09:00"}, "send_at"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_at_its_field(chief: Desk, form: dict[str, str], field: str) -> None:
    refused = chief.post("/newsroom/issues", form)
    assert refused.status_code == 422
    assert f'id="{field}-error"' in refused.text
    assert f'value="{form["week"]}" selected' in refused.text


def test_a_week_has_one_issue_of_a_theme(chief: Desk) -> None:
    _plan(chief)
    week = rota.week_of(datetime.now(UTC) + timedelta(weeks=1))
    again = chief.post("/newsroom/issues", {"theme": "innovatie", "week": week})
    assert again.status_code == 409
    assert "al een nummer gepland" in again.text


def test_the_desk_shows_what_waits(chief: Desk) -> None:
    _assembled(chief, "Een")
    _published("Twee", "Drie")
    chief.post("/newsroom/items/new", {**GOOD, "title": "Nog een concept"})
    page = chief.text("/newsroom/")
    assert "samengesteld" in page
    assert "Nog een concept" in page
    assert "2 berichten" in page


@pytest.mark.parametrize(
    "address",
    [
        "/newsroom/items/4711",
        "/newsroom/issues/4711",
        "/newsroom/nonsense",
        f"/newsroom/issues/{2**31 - 1}",
        f"/newsroom/issues/{2**31}",
        f"/newsroom/issues/{'9' * 23}",
        f"/newsroom/items/{'9' * 5000}",
        f"/newsroom/editors/{10**11}/end",
        "/newsroom/themes/a%00b/retire",
        "/newsroom/themes/nonsense/retire",
    ],
    ids=lambda address: address[:40],
)
def test_what_is_not_there_says_so(app: flask.Flask, address: str) -> None:
    missing = Desk(app, Role.ADMIN).get(address)
    assert missing.status_code == 404
    assert "<h1>" in missing.text


def test_who_may_not_or_cannot_stays_in_the_newsroom(app: flask.Flask) -> None:
    writer = Desk(app, Role.WRITER)
    for address, status in (("/newsroom/editors", 403), ("/newsroom/issues/4711", 404)):
        page = writer.get(address)
        assert page.status_code == status
        assert 'aria-label="Redactie"' in page.text
        assert 'href="/newsroom/">Naar het bureau<' in page.text


def test_an_admin_invites_and_the_invited_editor_signs_in(app: flask.Flask, doorbells: Rung) -> None:
    admin = Desk(app, Role.ADMIN)
    form = {"email": "Joris@Gemeente.example", "name": "Joris Bakker", "role": "writer", "speaks": "en"}
    assert admin.post("/newsroom/editors", form).status_code == 302
    assert [name for name, _ in doorbells] == ["vinkje.send_notice"]
    with db.transaction() as session:
        joris = session.scalars(select(Editor).where(Editor.email == "joris@gemeente.example")).one()
        path = links.invitation(joris.id, joris.password_version).removeprefix("http://localhost:8000")
    stranger = Desk(app, None)
    page = stranger.get(path)
    assert "Welcome, Joris Bakker" in page.text
    assert "Set-Cookie" not in page.headers
    short = stranger.open("POST", path, data={"password": "kort"})
    assert short.status_code == 422
    assert "Use at least 12 characters." in short.text
    assert stranger.open("POST", path, data={"password": PASSWORD}).status_code == 302
    assert stranger.open("POST", path, data={"password": "heel iets anders nu"}).status_code == 404
    used = stranger.get(path, headers={"Accept-Language": "en"})
    assert used.status_code == 404
    assert "Ask an administrator of the newsroom to mail you a new invitation." in used.text
    assert "sign up again" not in used.text
    assert stranger.sign_in("joris@gemeente.example").status_code == 302
    assert "Good day, Joris" in stranger.text("/newsroom/")


def test_an_admin_mails_a_new_invitation_to_who_forgot_the_password(app: flask.Flask, doorbells: Rung) -> None:
    admin, writer = Desk(app, Role.ADMIN), Desk(app, Role.WRITER)
    with db.transaction() as session:
        ids = {str(editor.role): editor.id for editor in session.scalars(select(Editor)).all()}
    address = f"/newsroom/editors/{ids['writer']}/invitation"
    assert address in admin.text("/newsroom/editors")
    assert "Carla Visser een nieuwe uitnodiging mailen?" in admin.text(address)
    assert writer.get("/newsroom/").status_code == 200
    assert admin.post(address).status_code == 302
    assert "onderweg naar writer@gemeente.example" in admin.text("/newsroom/editors")
    assert [name for name, _ in doorbells] == ["vinkje.send_notice"]
    assert writer.get("/newsroom/").status_code == 302
    last = admin.post(f"/newsroom/editors/{ids['admin']}/invitation")
    assert last.status_code == 409
    assert "Dit is de laatste beheerder." in last.text


def test_an_admin_changes_roles_and_ends_access_but_not_the_last_admins(app: flask.Flask) -> None:
    admin = Desk(app, Role.ADMIN)
    writer = Desk(app, Role.WRITER)
    with db.transaction() as session:
        ids = {str(editor.role): editor.id for editor in session.scalars(select(Editor)).all()}
    assert writer.get("/newsroom/editors").status_code == 403
    admin.post(f"/newsroom/editors/{ids['writer']}/role", {"role": "admin"})
    assert writer.get("/newsroom/editors").status_code == 200
    admin.post(f"/newsroom/editors/{ids['writer']}/role", {"role": "writer"})
    assert "Toegang van Carla Visser stoppen?" in admin.text(f"/newsroom/editors/{ids['writer']}/end")
    admin.post(f"/newsroom/editors/{ids['writer']}/end")
    assert writer.get("/newsroom/").status_code == 302
    last = admin.post(f"/newsroom/editors/{ids['admin']}/end")
    assert last.status_code == 409
    assert "Dit is de laatste beheerder." in last.text
    with db.transaction() as session:
        assert session.scalar(select(func.count()).where(Editor.state == EditorState.ACTIVE)) == 1


def test_an_admin_adds_and_retires_themes(app: flask.Flask) -> None:
    admin = Desk(app, Role.ADMIN)
    assert (
        admin.post("/newsroom/themes", {"slug": "open-data", "nl": "Open data", "en": "Open data"}).status_code == 302
    )
    again = admin.post("/newsroom/themes", {"slug": "open-data", "nl": "Open", "en": "Open"})
    assert again.status_code == 422
    assert "Er is al een thema “open-data”." in again.text
    empty = admin.post("/newsroom/themes", {"slug": "", "nl": "", "en": ""})
    assert re.findall(r'id="(\w+)-error"', empty.text) == ["nl", "en", "slug"]
    assert "sluiten?" in admin.text("/newsroom/themes/open-data/retire")
    admin.post("/newsroom/themes/open-data/retire")
    with db.transaction() as session:
        assert themes.open_themes(session=session) == []
    assert "gesloten" in admin.text("/newsroom/themes")


def test_an_editor_changes_language_and_password(app: flask.Flask) -> None:
    desk, elsewhere = Desk(app, Role.WRITER), Desk(app, None)
    elsewhere.sign_in("writer@gemeente.example")
    desk.post("/newsroom/account/language", {"speak": "en"})
    assert "Your language is changed." in desk.text("/newsroom/account")
    wrong = desk.post("/newsroom/account/password", {"current": "iets anders", "password": "acht rode steppen"})
    assert wrong.status_code == 422
    assert 'id="current-error"' in wrong.text
    changed = desk.post("/newsroom/account/password", {"current": PASSWORD, "password": "acht rode steppen"})
    assert changed.status_code == 302
    assert desk.get("/newsroom/").status_code == 200
    assert elsewhere.get("/newsroom/").status_code == 302
    assert elsewhere.sign_in("writer@gemeente.example", "acht rode steppen").status_code == 302
