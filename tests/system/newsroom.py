"""The newsroom's pages for the browser: how to get to each, with something on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page
from sqlalchemy import select

from service import db, links
from service.issues import assembly, rota
from service.issues.models import Issue, IssueState
from service.newsroom import editors
from service.newsroom.models import Editor, Role
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
    """An issue of next week in that state, without all the road there."""
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
        if state is IssueState.SENDING:
            planned.state, planned.audience, planned.cut_at = state, 1234, now
        return planned.id


def _plain(path: str) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        issue(site, IssueState.ASSEMBLED)
        sign_in(page, site)
        page.goto(path)

    return go


def _issue(state: IssueState) -> Callable[[Page, Site], None]:
    def go(page: Page, site: Site) -> None:
        issue_id = issue(site, state)
        sign_in(page, site)
        page.goto(f"/newsroom/issues/{issue_id}")

    return go


def _held(page: Page, site: Site) -> None:
    issue_id = issue(site, IssueState.ASSEMBLED)
    with site.app.app_context(), db.transaction() as session:
        session.scalars(select(Issue)).one().held_since = datetime.now(UTC)
    sign_in(page, site)
    page.goto(f"/newsroom/issues/{issue_id}")


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


def _item_errors(page: Page, site: Site) -> None:
    sign_in(page, site)
    page.goto("/newsroom/items/new")
    page.get_by_role("button", name="Opslaan", exact=True).click()
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


def _end(page: Page, site: Site) -> None:
    sign_in(page, site)
    with site.app.app_context():
        editor_id = db.reading().scalars(select(Editor.id)).one()
    page.goto(f"/newsroom/editors/{editor_id}/end")


PAGES: dict[str, Callable[[Page, Site], None]] = {
    "login": _plain("/newsroom/login"),
    "login with errors": _login_errors,
    "invitation": _invitation,
    "desk": _plain("/newsroom/"),
    "items": _plain("/newsroom/items"),
    "new item": _plain("/newsroom/items/new"),
    "item with errors": _item_errors,
    "item": _item,
    "kept form": _kept,
    "issues": _plain("/newsroom/issues"),
    "planned issue": _issue(IssueState.PLANNED),
    "skipped issue": _issue(IssueState.SKIPPED),
    "assembled issue": _issue(IssueState.ASSEMBLED),
    "approval with errors": _approve_errors,
    "held issue": _held,
    "sending issue": _issue(IssueState.SENDING),
    "editors": _plain("/newsroom/editors"),
    "end of access": _end,
    "themes": _plain("/newsroom/themes"),
    "account": _plain("/newsroom/account"),
}
