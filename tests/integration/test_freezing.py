"""What readers were sent must stay what was approved, and what nobody was sent must not linger."""

from __future__ import annotations

from datetime import timedelta

import flask
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import db, errors
from service.delivery import rounds
from service.issues import approval, assembly, editions, notices, previews, rota
from service.issues.models import Edition, Issue, IssueState
from service.newsroom import items
from service.newsroom.models import Editor, EditorState, Item, Notice, NoticeKind, Role
from tests import make
from tests.integration.races import Beside
from tests.make import NOW

NEW = "Utrecht begint een andere proef"


@pytest.fixture(autouse=True)
def _quiet(doorbells: list[tuple[str, tuple[int, ...]]]) -> None:
    """No broker is needed here."""


def rewrite(session: Session) -> Item:
    item = session.scalars(select(Item)).one()
    return items.change(
        session=session,
        now=NOW,
        item_id=item.id,
        version=item.version,
        title=NEW,
        body="Een andere tekst.",
        url="",
        theme_id=item.theme_id,
        language="nl",
    )


def assembled(session: Session) -> Issue:
    make.item(session)
    week, hour = rota.week_of(NOW), NOW + timedelta(hours=3)
    planned = rota.plan(session=session, now=NOW, theme_id=make.theme(session).id, week=week, send_at=hour)
    return assembly.assemble(session=session, now=NOW, issue_id=planned.id)


def test_cancelled_and_planned_again_an_issue_shows_what_it_holds_now(session: Session) -> None:
    issue = make.approved(session)
    rounds.cancel(session=session, now=NOW, issue_id=issue.id)
    assert session.scalars(select(Edition)).all() == []
    rewrite(session)
    hour = NOW + timedelta(hours=5)
    rota.plan(session=session, now=NOW, theme_id=issue.theme_id, week=issue.week, send_at=hour)
    assembly.assemble(session=session, now=NOW, issue_id=issue.id)
    shown = previews.of(session=session, issue=issue, language="nl")
    assert shown is not None
    assert NEW in shown.subject
    assert NEW.encode() in _test_mail(session, issue)


def test_editions_left_from_an_earlier_approval_are_not_shown_before_the_next(session: Session) -> None:
    issue = assembled(session)
    session.add(Edition(issue_id=issue.id, language="nl", subject="Oud", html="<p>Oud</p>", text="Oud"))
    session.flush()
    shown = previews.of(session=session, issue=issue, language="nl")
    assert shown is not None
    assert "Gent test deelauto's" in shown.text
    assert b"Gent test deelauto's" in _test_mail(session, issue)
    approval.approve(session=session, now=NOW, issue_id=issue.id, editor_id=None, seen=None)
    assert editions.frozen(session=session, issue_id=issue.id)["nl"].subject != "Oud"


def test_of_a_cancelled_round_that_reached_readers_the_edition_stays(session: Session) -> None:
    issue = make.approved(session)
    issue.state = IssueState.CANCELLED
    shown = previews.of(session=session, issue=issue, language="nl")
    assert shown is not None
    assert "Gent test deelauto's" in shown.text


def _test_mail(session: Session, issue: Issue) -> bytes:
    editor = Editor(email="zoe@krant.example", name="Zoë", role=Role.CHIEF, state=EditorState.ACTIVE, created_at=NOW)
    session.add(editor)
    session.flush()
    notice = Notice(
        kind=NoticeKind.TEST_SEND,
        editor_id=editor.id,
        issue_id=issue.id,
        language="nl",
        created_at=NOW,
        due_at=NOW,
    )
    session.add(notice)
    session.flush()
    outbound = notices.compose(session=session, now=NOW, notice_id=notice.id)
    assert outbound is not None
    return outbound.message


def test_a_chief_who_approves_while_a_writer_saves_is_told(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue = assembled(session)
        issue_id, seen = issue.id, editions.fingerprint(session=session, issue=issue)

    def approve(work: Session) -> None:
        approval.approve(session=work, now=NOW, issue_id=issue_id, editor_id=None, seen=seen)

    beside = Beside(app, approve)
    with db.transaction() as session:
        rewrite(session)
        beside.start()
    told = beside.refusal()
    assert isinstance(told, errors.Conflict)
    assert "changed while you looked" in told.message
    with db.transaction() as session:
        assert session.scalars(select(Item.frozen_at)).one() is None


def test_a_writer_who_saves_while_a_chief_approves_is_told(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue_id = assembled(session).id
    beside = Beside(app, rewrite)
    with db.transaction() as session:
        approval.approve(session=session, now=NOW, issue_id=issue_id, editor_id=None, seen=None)
        beside.start()
    assert isinstance(beside.refusal(), errors.Conflict)
    with db.transaction() as session:
        title = session.scalars(select(Item.title)).one()
        assert title in editions.frozen(session=session, issue_id=issue_id)["nl"].text


def test_what_a_writer_saved_before_the_chiefs_turn_is_what_is_frozen(app: flask.Flask) -> None:
    """Approval from the command line, without a fingerprint: then what is frozen is at least what is recorded."""
    with db.transaction() as session:
        issue_id = assembled(session).id

    def approve(work: Session) -> None:
        approval.approve(session=work, now=NOW, issue_id=issue_id, editor_id=None, seen=None)

    beside = Beside(app, approve)
    with db.transaction() as session:
        rewrite(session)
        beside.start()
    assert beside.refusal() is None
    with db.transaction() as session:
        assert NEW in editions.frozen(session=session, issue_id=issue_id)["nl"].text
