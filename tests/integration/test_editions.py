from __future__ import annotations

import email
import email.policy
from datetime import timedelta
from email.message import EmailMessage

import pytest
from sqlalchemy.orm import Session

from service import errors, links, wire
from service.issues import assembly, editions, models, rota
from service.issues.models import Issue
from tests import make
from tests.make import NOW


@pytest.fixture(autouse=True)
def _quiet(doorbells: list[tuple[str, tuple[int, ...]]]) -> None:
    """No broker is needed here."""


def assembled(session: Session, *titles: str, **values: object) -> Issue:
    for title in titles:
        make.item(session, "innovatie", title, **values)
    issue = rota.plan(
        session=session, now=NOW, theme_id=make.theme(session).id, week="2026-W49", send_at=NOW + timedelta(days=9)
    )
    return assembly.assemble(session=session, now=NOW, issue_id=issue.id)


def frozen(session: Session, *titles: str, **values: object) -> Issue:
    issue = assembled(session, *titles, **values)
    editions.freeze(session=session, now=NOW, issue=issue)
    return issue


def message_to(session: Session, issue: Issue, reader: int, language: str = "nl") -> EmailMessage:
    filled = editions.pieces(session=session, issue_id=issue.id)[language].fill(
        to=f"lezer{reader}@gemeente.example",
        message_id=editions.message_id(issue_id=issue.id, subscriber_id=reader),
        unsubscribe=links.unsubscribe(reader, issue.theme_id),
        preferences=links.preferences(reader),
    )
    read = email.message_from_bytes(filled, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def test_a_readers_message_carries_the_headers_of_its_list(session: Session) -> None:
    issue = frozen(session, "Gent test deelauto's")
    message = message_to(session, issue, 41)
    assert message.items() == [
        ("To", "lezer41@gemeente.example"),
        ("Message-ID", editions.message_id(issue_id=issue.id, subscriber_id=41)),
        ("List-Unsubscribe", f"<{links.unsubscribe(41, issue.theme_id)}>"),
        ("Subject", "Innovatie: Gent test deelauto's"),
        ("From", "Vinkje <nieuws@vinkje.example>"),
        ("Date", "Thu, 03 Dec 2026 09:00:00 +0000"),
        ("List-Id", "Innovatie <innovatie.list-id.vinkje.example>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("List-Post", "NO"),
        ("Feedback-ID", f"{issue.id}:innovatie:newsletter:vinkje"),
        ("MIME-Version", "1.0"),
        ("Content-Type", 'multipart/alternative; boundary="=_vinkje"'),
    ]


def test_each_reader_gets_their_own_links_and_nobody_elses(session: Session) -> None:
    issue = frozen(session, "Gent test deelauto's")
    for reader in (41, 42):
        message = message_to(session, issue, reader)
        for kind in ("plain", "html"):
            content = body(message, kind)
            assert content.count(links.unsubscribe(reader, issue.theme_id)) == 1
            assert content.count(links.preferences(reader)) == 1
            assert "@@" not in content
            assert links.preferences(83 - reader) not in content


def test_the_message_is_the_edition_that_was_frozen(session: Session) -> None:
    issue = frozen(session, "Gent test deelauto's", body="Het kost *40.000 euro*; “dat is veel”. " * 30)
    edition = editions.frozen(session=session, issue_id=issue.id)["nl"]
    own = {"unsubscribe": links.unsubscribe(41, issue.theme_id), "preferences": links.preferences(41)}
    message = message_to(session, issue, 41)
    assert body(message, "html") == wire.fill(edition.html, **own) + "\n"
    assert body(message, "plain") == wire.fill(edition.text, **own)


def test_what_is_frozen_does_not_change_with_its_items(session: Session) -> None:
    issue = frozen(session, "Gent test deelauto's")
    before = body(message_to(session, issue, 41), "plain")
    issue.placements[0].item.title = "Iets anders"
    issue.theme.name_nl = "Iets nieuws"
    session.flush()
    session.expire_all()
    assert body(message_to(session, models.find(session=session, issue_id=issue.id), 41), "plain") == before


def test_there_is_an_edition_for_each_language(session: Session) -> None:
    issue = frozen(session, "Gent test deelauto's")
    assert set(editions.pieces(session=session, issue_id=issue.id)) == {"nl", "en"}
    assert "You get this mail because you subscribed to “Innovatie”." in body(
        message_to(session, issue, 41, "en"), "plain"
    )


def test_only_the_lines_with_links_are_encoded_for_each_reader(session: Session) -> None:
    """What makes a round quick: a few short lines a message, however long the edition."""
    issue = frozen(session, *(f"Bericht {number}" for number in range(15)), body="Een zin van gewone lengte. " * 20)
    for pieces in editions.pieces(session=session, issue_id=issue.id).values():
        personal = [chunk for chunk in pieces.chunks if isinstance(chunk, str)]
        assert len(personal) == 4
        assert sum(map(len, personal)) < 400


def test_items_stand_in_the_order_the_chief_chose(session: Session) -> None:
    issue = assembled(session, "Eerst", "Dan", "Slot")
    first, second, third = editions.of(session=session, issue=issue)
    seen, wanted = [first.id, second.id, third.id], [third.id, first.id, second.id]
    assembly.reorder(session=session, now=NOW, issue_id=issue.id, seen=seen, item_ids=wanted)
    text = editions.render(issue=issue, items=editions.of(session=session, issue=issue), language="nl").text
    assert text.index("Slot") < text.index("Eerst") < text.index("Dan")


def test_a_fingerprint_holds_until_something_changes(session: Session) -> None:
    issue = assembled(session, "Eerst", "Dan")
    seen = editions.fingerprint(session=session, issue=issue)
    assert editions.fingerprint(session=session, issue=issue) == seen
    item = editions.of(session=session, issue=issue)[0]
    item.body += " Erbij."
    session.flush()
    changed = editions.fingerprint(session=session, issue=issue)
    assert changed != seen
    item.body = item.body.removesuffix(" Erbij.")
    session.flush()
    assert editions.fingerprint(session=session, issue=issue) == seen


def test_a_sample_has_links_that_open_nobodys_page(session: Session) -> None:
    issue = assembled(session, "Gent test deelauto's")
    made = editions.render(issue=issue, items=editions.of(session=session, issue=issue), language="nl")
    shown = editions.sample(made, language="nl")
    assert "@@" not in shown.html + shown.text
    with pytest.raises(errors.LinkRefused):
        links.read(links.Purpose.UNSUBSCRIBE, editions.sample_links()[0].rpartition("/")[2])
    assert editions.sample_links()[0] in shown.html
    assert editions.sample_links()[1] in shown.text.splitlines()


def test_an_issue_that_gmail_would_cut_off_is_not_frozen(session: Session) -> None:
    issue = assembled(session, *(f"Bericht {number}" for number in range(15)), body="Veel te lang. " * 400)
    with pytest.raises(errors.Conflict, match="too long for a mail"):
        editions.freeze(session=session, now=NOW, issue=issue)
