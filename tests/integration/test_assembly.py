"""From published items to an approved issue."""

from __future__ import annotations

import threading
from datetime import timedelta

import flask
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import db, errors, jobs
from service.issues import approval, assembly, editions, rota
from service.issues.models import Edition, Issue, IssueState, Placement
from service.newsroom.models import Editor, EditorState, Item, ItemState, Notice, Role
from tests import make

NOW = make.NOW
LATER = NOW + timedelta(hours=1)


def plan(session: Session, week: str = "2026-W49") -> Issue:
    return rota.plan(session=session, now=NOW, theme_id=make.theme(session).id, week=week, send_at=None)


def editor(session: Session, name: str, role: Role) -> Editor:
    made = Editor(email=f"{name}@vinkje.example", name=name, role=role, state=EditorState.ACTIVE, created_at=NOW)
    session.add(made)
    session.flush()
    return made


def titles(issue: Issue) -> list[str]:
    return [placement.item.title for placement in issue.placements]


def assembled(session: Session, *names: str) -> Issue:
    for number, name in enumerate(names):
        make.item(session, title=name, published_at=NOW - timedelta(minutes=len(names) - number))
    return assembly.assemble(session=session, now=NOW, issue_id=plan(session).id)


def test_an_issue_gathers_what_its_theme_published_oldest_first_and_tells_the_chiefs(
    session: Session, doorbells: list[tuple[str, tuple[int, ...]]]
) -> None:
    make.item(session, "democratie", title="Ander thema")
    make.item(session, title="Concept", state=ItemState.DRAFT)
    editor(session, "Wies", Role.WRITER)
    chief = editor(session, "Carla", Role.CHIEF)
    issue = assembled(session, "Een", "Twee")
    assert titles(issue) == ["Een", "Twee"]
    assert issue.state is IssueState.ASSEMBLED
    assert session.scalars(select(Notice.editor_id)).all() == [chief.id]
    session.commit()
    assert [name for name, _ in doorbells] == [jobs.SEND_NOTICE]


def test_assembling_twice_neither_doubles_nor_brings_back_what_the_chief_dropped(session: Session) -> None:
    issue = assembled(session, "Een", "Twee")
    assembly.drop(session=session, now=NOW, issue_id=issue.id, item_id=issue.placements[0].item_id)
    make.item(session, title="Drie", published_at=LATER)
    assembly.assemble(session=session, now=LATER, issue_id=issue.id)
    assert titles(issue) == ["Twee"]
    assert assembly.waiting(session=session, issue=issue) == 1
    assembly.assemble(session=session, now=LATER, issue_id=issue.id, top_up=True)
    assert titles(issue) == ["Twee", "Drie"]
    assert session.scalar(select(func.count()).select_from(Notice)) == 0
    following = plan(session, "2026-W50")
    assert assembly.waiting(session=session, issue=following) == 1
    assert titles(assembly.assemble(session=session, now=LATER, issue_id=following.id)) == ["Een"]


def test_an_emptied_issue_can_gather_anew(session: Session) -> None:
    issue = assembled(session, "Een")
    assembly.drop(session=session, now=NOW, issue_id=issue.id, item_id=issue.placements[0].item_id)
    assert assembly.waiting(session=session, issue=issue) == 1
    assembly.assemble(session=session, now=NOW, issue_id=issue.id, top_up=True)
    assert titles(issue) == ["Een"]


def test_an_issue_without_items_is_skipped_and_says_so(session: Session) -> None:
    issue = assembled(session)
    assert (issue.state, issue.note, issue.finished_at) == (IssueState.SKIPPED, "no_items", NOW)
    make.item(session)
    assert assembly.assemble(session=session, now=NOW, issue_id=issue.id).state is IssueState.ASSEMBLED
    assert (issue.note, issue.finished_at) == ("", None)


def test_what_misses_an_issue_waits_for_the_next_of_its_theme(session: Session) -> None:
    first = assembled(session, *(f"Bericht {number:02}" for number in range(17)))
    assert len(first.placements) == assembly.MOST_ITEMS
    second = assembly.assemble(session=session, now=NOW, issue_id=plan(session, "2026-W50").id)
    assert titles(second) == ["Bericht 15", "Bericht 16"]


def test_a_chief_puts_items_in_order_and_an_old_view_is_refused(session: Session) -> None:
    issue = assembled(session, "Een", "Twee", "Drie")
    one, two, three = (placement.item_id for placement in issue.placements)
    found = [one, two, three]
    assembly.reorder(session=session, now=NOW, issue_id=issue.id, seen=found, item_ids=[three, one, two])
    assert titles(issue) == ["Drie", "Een", "Twee"]
    with pytest.raises(errors.Conflict):  # another chief, who still looks at the first order
        assembly.reorder(session=session, now=NOW, issue_id=issue.id, seen=found, item_ids=[two, one, three])
    assert titles(issue) == ["Drie", "Een", "Twee"]
    assembly.drop(session=session, now=NOW, issue_id=issue.id, item_id=two)
    for stale in ([three, one, two], [three, three], []):
        with pytest.raises(errors.Conflict):
            assembly.reorder(session=session, now=NOW, issue_id=issue.id, seen=[three, one], item_ids=stale)
    assert session.get_one(Item, two).state is ItemState.PUBLISHED


def test_approval_freezes_the_text_in_both_languages(session: Session) -> None:
    issue = assembled(session, "Een")
    seen = editions.fingerprint(session=session, issue=issue)
    approval.approve(session=session, now=NOW, issue_id=issue.id, editor_id=None, seen=seen)
    assert sorted(session.scalars(select(Edition.language))) == ["en", "nl"]
    assert issue.placements[0].item.frozen_at == NOW
    with pytest.raises(errors.Conflict):
        assembly.drop(session=session, now=NOW, issue_id=issue.id, item_id=issue.placements[0].item_id)
    approval.reopen(session=session, now=NOW, issue_id=issue.id)
    assert session.scalars(select(Edition)).all() == []
    assert issue.placements[0].item.frozen_at is None


def test_a_chief_cannot_approve_what_changed_while_looking(session: Session) -> None:
    issue = assembled(session, "Een", "Twee")
    seen = editions.fingerprint(session=session, issue=issue)
    issue.placements[0].item.body = "Iets anders."
    session.flush()
    with pytest.raises(errors.Conflict, match="changed while you looked"):
        approval.approve(session=session, now=NOW, issue_id=issue.id, editor_id=None, seen=seen)


def test_an_emptied_issue_cannot_be_approved(session: Session) -> None:
    issue = assembled(session, "Een")
    assembly.drop(session=session, now=NOW, issue_id=issue.id, item_id=issue.placements[0].item_id)
    with pytest.raises(errors.Conflict, match="no items"):
        approval.approve(session=session, now=NOW, issue_id=issue.id, editor_id=None, seen=None)


def test_approving_after_the_hour_rings_for_the_round_unless_it_is_held(
    session: Session, doorbells: list[tuple[str, tuple[int, ...]]]
) -> None:
    issue = assembled(session, "Een")
    late = issue.send_at + timedelta(hours=1)
    approval.approve(session=session, now=late, issue_id=issue.id, editor_id=None, seen=None)
    session.commit()
    assert (jobs.START_ROUND, (issue.id,)) in doorbells


def test_of_two_chiefs_who_press_at_once_one_approves_and_the_other_is_told(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue_id = assembled(session, "Een").id
        chiefs = [editor(session, name, Role.CHIEF).id for name in ("Carla", "Bram")]
    start, told = threading.Barrier(2), []

    def press(chief: int) -> None:
        with app.app_context():
            start.wait(10)
            try:
                with db.transaction() as session:
                    approval.approve(session=session, now=NOW, issue_id=issue_id, editor_id=chief, seen=None)
            except errors.Conflict as conflict:
                told.append(conflict.message)

    pressing = [threading.Thread(target=press, args=(chief,)) for chief in chiefs]
    for thread in pressing:
        thread.start()
    for thread in pressing:
        thread.join(20)
    assert told == ["This issue was approved already, by %(who)s."]
    assert db.reading().scalar(select(func.count()).select_from(Edition)) == 2


def test_two_issues_assembled_at_once_share_no_item(app: flask.Flask) -> None:
    with db.transaction() as session:
        for number in range(10):
            make.item(session, title=f"Bericht {number}")
        issues = [plan(session, week).id for week in ("2026-W49", "2026-W50")]
    start = threading.Barrier(2)

    def gather(issue_id: int) -> None:
        with app.app_context():
            start.wait(10)
            with db.transaction() as session:
                assembly.assemble(session=session, now=NOW, issue_id=issue_id)

    gathering = [threading.Thread(target=gather, args=(issue_id,)) for issue_id in issues]
    for thread in gathering:
        thread.start()
    for thread in gathering:
        thread.join(20)
    placed = db.reading().scalars(select(Placement.item_id)).all()
    assert len(placed) == len(set(placed)) == 10
