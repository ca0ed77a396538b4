from __future__ import annotations

import email
import email.policy
from datetime import timedelta
from email.message import EmailMessage

import pytest
from sqlalchemy.orm import Session

from service import errors, links, mail
from service.issues import approval, assembly, editions, notices, rota
from service.issues.models import Issue, IssueState
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role
from tests import make
from tests.make import NOW


@pytest.fixture(autouse=True)
def _quiet(doorbells: list[tuple[str, tuple[int, ...]]]) -> None:
    """No broker is needed here."""


def editor(session: Session, state: EditorState = EditorState.ACTIVE, name: str = "Zoë") -> Editor:
    made = Editor(
        email="zoe@krant.example",
        name=name,
        role=Role.CHIEF,
        state=state,
        language="nl",
        created_at=NOW,
        invited_at=NOW,
    )
    session.add(made)
    session.flush()
    return made


def notice(session: Session, kind: NoticeKind, to: Editor, issue: Issue | None = None, language: str = "nl") -> Notice:
    made = Notice(
        kind=kind,
        editor_id=to.id,
        issue_id=issue.id if issue else None,
        language=language,
        created_at=NOW,
        due_at=NOW,
    )
    session.add(made)
    session.flush()
    return made


def issue(session: Session) -> Issue:
    make.item(session, "innovatie", "Gent test deelauto's")
    planned = rota.plan(
        session=session, now=NOW, theme_id=make.theme(session).id, week="2026-W49", send_at=NOW + timedelta(days=9)
    )
    return assembly.assemble(session=session, now=NOW, issue_id=planned.id)


def compose(session: Session, of: Notice, days: float = 0) -> mail.Outbound | None:
    return notices.compose(session=session, now=NOW + timedelta(days=days), notice_id=of.id)


def read(outbound: mail.Outbound | None) -> EmailMessage:
    assert outbound is not None
    assert (outbound.recipient, outbound.sender) == ("zoe@krant.example", "nieuws@vinkje.example")
    found = email.message_from_bytes(outbound.message, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def test_an_invitation_opens_with_its_link(session: Session) -> None:
    invited = editor(session, EditorState.INVITED)
    message = read(compose(session, notice(session, NoticeKind.INVITATION, invited)))
    assert links.invitation(invited.id, 0) in text_of(message).splitlines()
    assert "Hallo Zoë," in text_of(message)
    assert "dinsdag 1 december 2026, 10:00" in " ".join(text_of(message).split())
    assert message["From"] == "Vinkje <redactie@vinkje.example>"
    assert message["To"].addresses[0].display_name == "Zoë"
    assert message["Auto-Submitted"] == "auto-generated"


def test_an_invitation_is_not_mailed_when_it_opens_nothing(session: Session) -> None:
    invited = editor(session, EditorState.INVITED)
    invitation = notice(session, NoticeKind.INVITATION, invited)
    assert compose(session, invitation, days=7) is not None
    assert compose(session, invitation, days=7.01) is None
    invited.state = EditorState.ACTIVE
    assert compose(session, invitation) is None


def test_who_may_approve_is_shown_the_way(session: Session) -> None:
    chief, number = editor(session), issue(session)
    message = read(compose(session, notice(session, NoticeKind.READY, chief, number)))
    assert message["Subject"] == "Klaar om goed te keuren: Innovatie, week 49"
    assert links.page(f"newsroom/issues/{number.id}") in text_of(message).splitlines()
    assert "- Gent test deelauto's" in text_of(message)
    assert "donderdag 3 december 2026, 10:00" in " ".join(text_of(message).split())


def test_ready_is_old_news_once_the_issue_was_approved(session: Session) -> None:
    chief, number = editor(session), issue(session)
    ready = notice(session, NoticeKind.READY, chief, number)
    approval.approve(session=session, now=NOW, issue_id=number.id, editor_id=chief.id, seen=None)
    assert compose(session, ready) is None


@pytest.mark.parametrize("approved", [False, True])
def test_a_test_send_is_what_readers_get(session: Session, approved: bool) -> None:
    chief, number = editor(session), issue(session)
    if approved:
        approval.approve(session=session, now=NOW, issue_id=number.id, editor_id=chief.id, seen=None)
    message = read(compose(session, notice(session, NoticeKind.TEST_SEND, chief, number, "en")))
    rendered = editions.render(issue=number, items=editions.of(session=session, issue=number), language="en")
    assert message["Subject"] == f"[Test] {rendered.subject}"
    assert text_of(message) == editions.sample(rendered, language="en").text
    assert message["From"] == "Vinkje <nieuws@vinkje.example>"
    assert message["List-Id"] == "Innovatie <innovatie.list-id.vinkje.example>"
    assert message["Auto-Submitted"] is None


def test_a_test_sends_links_leave_nothing(session: Session) -> None:
    message = read(compose(session, notice(session, NoticeKind.TEST_SEND, editor(session), issue(session))))
    link = str(message["List-Unsubscribe"])
    assert link == f"<{links.page('unsubscribe/sample')}>"
    with pytest.raises(errors.LinkRefused):
        links.read(links.Purpose.UNSUBSCRIBE, "sample")


def test_after_approval_a_test_send_is_the_frozen_edition(session: Session) -> None:
    chief, number = editor(session), issue(session)
    approval.approve(session=session, now=NOW, issue_id=number.id, editor_id=chief.id, seen=None)
    number.placements[0].item.title = "Iets anders"
    session.flush()
    message = read(compose(session, notice(session, NoticeKind.TEST_SEND, chief, number)))
    assert "Gent test deelauto's" in text_of(message)
    assert "Iets anders" not in text_of(message)


@pytest.mark.parametrize("state", [IssueState.SKIPPED, IssueState.CANCELLED, IssueState.PLANNED])
def test_there_is_nothing_to_test_in_an_issue_without_items(session: Session, state: IssueState) -> None:
    number = issue(session)
    number.state = state
    assert compose(session, notice(session, NoticeKind.TEST_SEND, editor(session), number)) is None


@pytest.mark.parametrize("kind", NoticeKind)
def test_who_left_gets_no_notice(session: Session, kind: NoticeKind) -> None:
    assert compose(session, notice(session, kind, editor(session, EditorState.LEFT), issue(session))) is None


def test_a_notice_that_vanished_is_not_mailed(session: Session) -> None:
    assert notices.compose(session=session, now=NOW, notice_id=404) is None
