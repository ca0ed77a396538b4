"""The newsroom's pages for the browser: how to get to each, with something on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect
from sqlalchemy import select

from service import db, links
from service.issues import approval, assembly, rota
from service.issues.models import EARLY, GATHERING, Issue, IssueState
from service.newsroom import editors
from service.newsroom.models import Editor, Item, Role
from tests import make
from tests.system.conftest import Site

EMAIL, PASSWORD = "anneke@gemeente.example", "zeven gele fietsen"
NAME = "Anneke de Vries-van der Zwaluwenberg"
LONG = "Hoogwaterbeschermingsprogrammaorganisatie begint in Zaltbommel met dijkversterkingswerkzaamheden"


def editor(site: Site, role: Role = Role.ADMIN) -> None:
    with site.app.app_context(), db.transaction() as session:
        editors.add(session=session, now=datetime.now(UTC), email=EMAIL, name=NAME, role=role, password=PASSWORD)


def sign_in(page: Page, site: Site, role: Role = Role.ADMIN) -> None:
    editor(site, role)
    page.goto("/newsroom/login")
    page.get_by_label("E-mailadres").fill(EMAIL)
    page.get_by_label("Wachtwoord").fill(PASSWORD)
    page.get_by_role("button", name="Inloggen").click()


def issue(site: Site, state: IssueState) -> int:
    """An issue of next week in that state, its text frozen if it is; without all the road there."""
    now = datetime.now(UTC)
    with site.app.app_context(), db.transaction() as session:
        theme = make.theme(session)
        if state is not IssueState.SKIPPED:
            make.item(session, title=LONG)
            make.item(session)
        week = rota.week_of(now + timedelta(days=7))
        planned = rota.plan(session=session, now=now, theme_id=theme.id, week=week, send_at=None)
        if state is not IssueState.PLANNED:
            assembly.assemble(session=session, now=now, issue_id=planned.id)
        if state not in GATHERING:
            approval.approve(session=session, now=now, issue_id=planned.id, editor_id=None, seen=None)
        if state not in EARLY | GATHERING:
            planned.state, planned.audience, planned.cut_at = state, 1234, now
        if state in (IssueState.SENT, IssueState.CANCELLED):
            planned.finished_at = now
        return planned.id


def _plain(path: str) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        issue(site, IssueState.ASSEMBLED)
        sign_in(page, site)
        page.goto(path)
        assert page.url == site.url + path

    return go


def _issue(state: IssueState, **values: object) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        issue_id = issue(site, state)
        with site.app.app_context(), db.transaction() as session:
            for name, value in values.items():
                setattr(session.get_one(Issue, issue_id), name, value)
        sign_in(page, site)
        page.goto(f"/newsroom/issues/{issue_id}")
        expect(page.locator(f"[data-state={state}]")).to_have_count(1)

    return go


def _faulty(path: str, button: str) -> Callable[[Page, Site], None]:
    """A form of page `path` that is sent with something wrong in it."""

    def go(page: Page, site: Site) -> None:
        _plain(path)(page, site)
        page.get_by_role("button", name=button).click()
        assert page.title().startswith("Fout: ")

    return go


def _login(page: Page, site: Site) -> None:
    page.goto("/newsroom/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Inloggen bij de redactie")


def _item(page: Page, site: Site) -> None:
    with site.app.app_context(), db.transaction() as session:
        item_id = make.item(session, title=LONG).id
    sign_in(page, site)
    page.goto(f"/newsroom/items/{item_id}")
    assert LONG in page.title()


def _login_errors(page: Page, site: Site) -> None:
    page.goto("/newsroom/login")
    page.get_by_role("button", name="Inloggen").click()
    assert page.title().startswith("Fout: ")


def _approve_errors(page: Page, site: Site) -> None:
    _issue(IssueState.ASSEMBLED)(page, site)
    page.get_by_role("button", name="Goedkeuren").click()
    assert page.title().startswith("Fout: ")


def _kept(page: Page, site: Site) -> None:
    """A form that comes back to be sent again."""
    sign_in(page, site)
    page.goto("/newsroom/items/new")
    page.get_by_label("Titel").fill(LONG)
    page.context.clear_cookies()
    page.get_by_role("button", name="Opslaan", exact=True).click()
    assert LONG in page.content()


def _invitation(page: Page, site: Site) -> None:
    with site.app.app_context(), db.transaction() as session:
        invited = editors.invite(
            session=session, now=datetime.now(UTC), email=EMAIL, name=NAME, role=Role.WRITER, language="nl"
        )
        address = links.invitation(invited.id, invited.password_version)
    page.goto(address)


def _invitation_errors(page: Page, site: Site) -> None:
    _invitation(page, site)
    page.get_by_role("button", name="Wachtwoord opslaan").click()
    assert page.title().startswith("Fout: ")


def _asked(deed: str) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        sign_in(page, site)
        with site.app.app_context():
            editor_id = db.reading().scalars(select(Editor.id)).one()
        page.goto(f"/newsroom/editors/{editor_id}/{deed}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(NAME)

    return go


def _clash(page: Page, site: Site) -> None:
    """Two writers of one item: the second sees both texts."""
    _item(page, site)
    with site.app.app_context(), db.transaction() as session:
        session.scalars(select(Item)).one().version += 1
    page.get_by_role("button", name="Opslaan", exact=True).click()
    expect(page.get_by_role("heading", name="Zo staat het er nu")).to_be_visible()


def _conflict(page: Page, site: Site) -> None:
    """Two chiefs: what this one saw has changed."""
    _issue(IssueState.ASSEMBLED)(page, site)
    with site.app.app_context(), db.transaction() as session:
        found = session.scalars(select(Issue)).one()
        assembly.drop(session=session, now=datetime.now(UTC), issue_id=found.id, item_id=found.placements[1].item_id)
    page.get_by_label("Ik heb de mail gelezen.").check()
    page.get_by_role("button", name="Goedkeuren").click()
    assert page.title().startswith("Fout: ")


def _forbidden(page: Page, site: Site) -> None:
    sign_in(page, site, Role.WRITER)
    page.goto("/newsroom/editors")
    expect(page.get_by_role("heading", level=1)).to_have_text("U mag dit niet doen")


LONG_AGO = datetime(2026, 1, 1, 8, tzinfo=UTC)
PAGES: dict[str, Callable[[Page, Site], None]] = {
    "login": _login,
    "login with errors": _login_errors,
    "invitation": _invitation,
    "invitation with errors": _invitation_errors,
    "desk": _plain("/newsroom/"),
    "items": _plain("/newsroom/items"),
    "new item": _plain("/newsroom/items/new"),
    "item with errors": _faulty("/newsroom/items/new", "Opslaan en publiceren"),
    "item": _item,
    "item of two writers": _clash,
    "kept form": _kept,
    "issues": _plain("/newsroom/issues"),
    "plan with errors": _faulty("/newsroom/issues", "Plannen"),
    "planned issue": _issue(IssueState.PLANNED),
    "skipped issue": _issue(IssueState.SKIPPED),
    "assembled issue": _issue(IssueState.ASSEMBLED),
    "approval with errors": _approve_errors,
    "approval of what changed": _conflict,
    "approved issue": _issue(IssueState.APPROVED),
    "held issue": _issue(IssueState.ASSEMBLED, held_since=LONG_AGO),
    "held issue of a week that is over": _issue(
        IssueState.APPROVED, held_since=LONG_AGO, week="2026-W01", send_at=LONG_AGO
    ),
    "sending issue": _issue(IssueState.SENDING),
    "paused issue": _issue(IssueState.PAUSED, note="relay_refuses"),
    "sent issue": _issue(IssueState.SENT),
    "cancelled issue": _issue(IssueState.CANCELLED),
    "editors": _plain("/newsroom/editors"),
    "editor with errors": _faulty("/newsroom/editors", "Uitnodiging versturen"),
    "new invitation": _asked("invitation"),
    "end of access": _asked("end"),
    "themes": _plain("/newsroom/themes"),
    "theme with errors": _faulty("/newsroom/themes", "Thema toevoegen"),
    "end of a theme": _plain("/newsroom/themes/innovatie/retire"),
    "form for elsewhere": _plain("/newsroom/embed"),
    "form for elsewhere with errors": _plain("/newsroom/embed?language=nl"),
    "account": _plain("/newsroom/account"),
    "account with errors": _faulty("/newsroom/account", "Wachtwoord wijzigen"),
    "forbidden": _forbidden,
}
