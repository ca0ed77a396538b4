"""A scanner in front of a mailbox opens every link of every mail, with GET and with HEAD. Nothing may change by it."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from html import unescape
from typing import Any

import flask
import pytest
import time_machine
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, links, settings
from service.delivery import return_faults
from service.issues import approval, assembly, editions, notices, rota
from service.issues.models import Issue, IssueState
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role
from service.subscribers import address_change, letters, own_data, signup
from service.subscribers.models import Confirmation, Letter, LetterKind
from tests import house, make
from tests.integration.conftest import Visitor

NOW = make.NOW
# Mail → the doors of ours that it must have links to; else the test would look at nothing.
DOORS = {
    "confirmation": {"confirm", "block"},
    "already_subscribed": {"preferences"},
    "issue": {"unsubscribe", "preferences"},
    "invitation": {"invitation"},
    "ready": {"newsroom/issues"},
    "test_send": {"unsubscribe", "preferences"},
    "data_link": {"data"},
    "address_new": {"address", "block"},
    "address_told": set(),
    "themes_told": {"preferences"},
    "alarm": {"newsroom"},
    "stopped": {"newsroom/issues"},
}
STOPPED = {NoticeKind.HELD, NoticeKind.PAUSED, NoticeKind.WAITS}  # one mail in three wordings


def test_no_kind_of_mail_is_left_out() -> None:
    templates = {path.name for path in (house.ROOT / "templates" / "emails").iterdir() if path.is_dir()}
    assert set(DOORS) == templates | {"test_send"}
    assert {"stopped" if kind in STOPPED else str(kind) for kind in NoticeKind} <= set(DOORS)


@pytest.fixture
def mails(app: flask.Flask, doorbells: object) -> dict[str, EmailMessage]:
    """One of each kind, as it reaches its mailbox."""
    with db.transaction() as session:
        found = {
            "confirmation": _letter(session, "nieuw@gemeente.example", "innovatie"),
            "already_subscribed": _already_subscribed(session),
            "invitation": _notice(session, NoticeKind.INVITATION, _editor(session, EditorState.INVITED)),
        }
        chief, issue = _editor(session, EditorState.ACTIVE), _assembled(session)
        found["ready"] = _notice(session, NoticeKind.READY, chief, issue)
        found["test_send"] = _notice(session, NoticeKind.TEST_SEND, chief, issue)
        chief.role = Role.ADMIN
        found["alarm"] = _notice(session, NoticeKind.ALARM, chief)
        found["issue"] = _issue(session, issue)
        issue.state, issue.note = IssueState.PAUSED, return_faults.NOTE
        found["stopped"] = _notice(session, NoticeKind.PAUSED, chief, issue)
        found |= _about_data(session)
    return {kind: _read(source) for kind, source in found.items()}


def _letter(session: Session, address: str, *slugs: str) -> bytes:
    for slug in slugs:
        make.theme(session, slug)
    signup.sign_up(session=session, now=NOW, email=address, slugs=slugs, language="en", network="192.0.2.0/24")
    asked = session.scalars(select(Confirmation.id).order_by(Confirmation.id.desc())).first()
    assert asked is not None
    letter = letters.compose(session=session, now=NOW, confirmation_id=asked)
    assert letter is not None
    return letter.message


def _already_subscribed(session: Session) -> bytes:
    make.reader(session, "saskia@gemeente.example", "innovatie")
    return _letter(session, "saskia@gemeente.example", "innovatie")


def _about_data(session: Session) -> dict[str, bytes]:
    """A reader asks for their data, for another address, and changes it once more: a letter of each kind."""
    reader = make.reader(session, "kees@gemeente.example", "innovatie")
    own_data.ask(session=session, now=NOW, subscriber_id=reader.id)
    address_change.ask(session=session, now=NOW, subscriber_id=reader.id, email="kees@elders.example")
    own_data.post(session=session, now=NOW, reader=reader, kind=LetterKind.ADDRESS_TOLD, email="kees@vroeger.example")
    own_data.post(session=session, now=NOW, reader=reader, kind=LetterKind.THEMES_TOLD, email=reader.email)
    composed = {}
    for letter in session.scalars(select(Letter)).all():
        made = letters.compose_letter(session=session, now=NOW, letter_id=letter.id)
        assert made is not None
        composed["data_link" if letter.kind is LetterKind.DATA else str(letter.kind)] = made.message
    return composed


def _editor(session: Session, state: EditorState) -> Editor:
    made = Editor(
        email=f"{state}@gemeente.example",
        name="Zoë",
        role=Role.CHIEF,
        state=state,
        language="en",
        created_at=NOW,
        invited_at=NOW,
    )
    session.add(made)
    session.flush()
    return made


def _assembled(session: Session) -> Issue:
    make.item(session)
    theme_id = make.theme(session).id
    planned = rota.plan(
        session=session, now=NOW, theme_id=theme_id, week=rota.week_of(NOW), send_at=NOW + timedelta(hours=1)
    )
    return assembly.assemble(session=session, now=NOW, issue_id=planned.id)


def _notice(session: Session, kind: NoticeKind, editor: Editor, issue: Issue | None = None) -> bytes:
    notice = Notice(
        kind=kind,
        editor_id=editor.id,
        issue_id=issue.id if issue else None,
        language="en",
        created_at=NOW,
        due_at=NOW,
    )
    session.add(notice)
    session.flush()
    composed = notices.compose(session=session, now=NOW, notice_id=notice.id)
    assert composed is not None
    return composed.message


def _issue(session: Session, issue: Issue) -> bytes:
    reader = make.reader(session, "lezer@gemeente.example", "innovatie")
    approval.approve(session=session, now=NOW, issue_id=issue.id, editor_id=None, seen=None)
    return editions.pieces(session=session, issue_id=issue.id, now=NOW)["nl"].fill(
        to=reader.email,
        message_id="<1@vinkje.example>",
        unsubscribe=links.unsubscribe(reader.id, issue.theme_id),
        preferences=links.preferences(reader.id),
    )


def _read(source: bytes) -> EmailMessage:
    message = email.message_from_bytes(source, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _links(message: EmailMessage) -> set[str]:
    """Of the HTML, of the text, and of the header for one click."""
    found = re.findall(r"<(https?:[^>]+)>", str(message.get("List-Unsubscribe", "")))
    for kind, pattern in (("html", r'href="([^"]+)"'), ("plain", r"https?://\S+")):
        part = message.get_body((kind,))
        assert part is not None
        here = [unescape(link) for link in re.findall(pattern, str(part.get_content()))]
        assert here, kind
        found += here
    return set(found)


def _ours(addresses: set[str]) -> set[str]:
    base = settings.current().base_url
    return {address.removeprefix(base) for address in addresses if address.startswith((f"{base}/", "/"))}


def _every_row() -> dict[str, list[Any]]:
    with db.transaction() as session:
        tables = db.Base.metadata.sorted_tables
        return {table.name: [tuple(row) for row in session.execute(table.select())] for table in tables}


def _looked_at(visitor: Visitor, paths: set[str]) -> Iterator[str]:
    """The pages' own links too: some scanners go one step further."""
    for path in sorted(paths):
        page = visitor.get(path)
        assert page.status_code < 400, path
        assert visitor.head(path).status_code == page.status_code
        yield from _ours({unescape(link) for link in re.findall(r'href="([^"#]+)', page.text)})


@pytest.mark.parametrize("kind", DOORS)
def test_who_opens_every_link_of_a_mail_changes_nothing(
    mails: dict[str, EmailMessage], visitor: Visitor, kind: str
) -> None:
    paths = _ours(_links(mails[kind]))
    assert {door for door in DOORS[kind] if any(path.startswith(f"/{door}/") for path in paths)} == DOORS[kind]
    before = _every_row()
    assert sum(map(len, before.values())) > 10
    with time_machine.travel(NOW + timedelta(minutes=5), tick=False):
        further = set(_looked_at(visitor, paths))
        assert further
        list(_looked_at(visitor, further))
    assert _every_row() == before
