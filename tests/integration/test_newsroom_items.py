from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session

from service import errors, themes
from service.newsroom import items
from service.newsroom.models import Item, ItemState
from tests import make
from tests.make import NOW

GOOD: dict[str, Any] = {
    "title": "Gent test deelauto's",
    "body": "De proef kost **40.000 euro**.",
    "url": "https://gent.example/deelauto?a=1&b=2#proef",
    "language": "nl",
}


def _write(session: Session, **values: Any) -> Item:
    fields = {"theme_id": make.theme(session).id, **GOOD, **values}
    return items.write(session=session, now=NOW, editor_id=None, **fields)


def _change(session: Session, item: Item, version: int, **values: Any) -> Item:
    fields = {"theme_id": item.theme_id, **GOOD, **values}
    return items.change(session=session, now=NOW, item_id=item.id, version=version, **fields)


def test_an_item_goes_from_draft_to_published_to_withdrawn_and_back(session: Session) -> None:
    item = _write(session)
    states = [item.state]
    for move in (items.publish, items.publish, items.withdraw, items.withdraw, items.publish):
        states.append(move(session=session, now=NOW, item_id=item.id).state)
    assert [str(state) for state in states] == [
        "draft",
        "published",
        "published",
        "withdrawn",
        "withdrawn",
        "published",
    ]
    assert item.published_at == NOW


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "  "),
        ("title", "a" * 121),
        ("title", "abc\x00def"),
        ("title", "omgekeerd\u202etxt"),
        ("body", " \n "),
        ("body", "a" * 5001),
        ("body", "a\x00b"),
        ("body", ">" * 4000 + " diep"),
        ("url", "javascript:alert(1)"),
        ("url", "data:text/html,x"),
        ("url", "ftp://gent.example/"),
        ("url", "gent.example/deelauto"),
        ("url", "https://"),
        ("url", "https://gent.example/een twee"),
        ("url", 'https://gent.example/"onclick="x'),
        ("url", "https://gent.example/\r\nBcc: x"),
        ("url", "https://gent.example@slecht.example/"),
        ("url", "https://[::1/"),
        ("url", "https://gent.example:port/"),
        ("url", "https://gent.example/" + "a" * 500),
        ("language", "de"),
        ("theme", 999_999),
    ],
)
def test_bad_input_is_refused_with_its_field(session: Session, field: str, value: Any) -> None:
    with pytest.raises(errors.Refused) as refused:
        _write(session, **{"theme_id" if field == "theme" else field: value})
    assert refused.value.field == field


def test_pasted_text_is_taken_as_it_was_meant(session: Session) -> None:
    item = _write(session, title=" Gent\u00a0test\n 👩‍💻 ", body="een\r\ntwee {{ x }}\r", url="")
    assert item.title == "Gent test 👩‍💻"
    assert item.body == "een\ntwee {{ x }}"
    assert item.url == ""


def test_a_retired_theme_gets_no_new_items_and_keeps_its_old_ones(session: Session) -> None:
    item = _write(session)
    themes.retire(session=session, slug="innovatie", now=NOW)
    with pytest.raises(errors.Refused) as refused:
        _write(session)
    assert refused.value.field == "theme"
    assert _change(session, item, 1, title="Toch nog beter").title == "Toch nog beter"


def test_a_save_that_started_from_an_older_version_is_refused(session: Session) -> None:
    item = _write(session)
    _change(session, item, 1, title="Van Anneke")
    with pytest.raises(errors.Conflict, match="Somebody else"):
        _change(session, item, 1, title="Van Joris")
    assert item.title == "Van Anneke"
    assert _change(session, item, 2, title="Van Joris").version == 3


def test_a_placed_item_can_be_mended_but_not_moved_or_withdrawn(session: Session) -> None:
    item = _write(session)
    item.state = ItemState.PLACED
    assert _change(session, item, 1, title="Zonder tikfout").title == "Zonder tikfout"
    with pytest.raises(errors.Conflict, match="placed in an issue of its theme"):
        _change(session, item, 2, theme_id=make.theme(session, "democratie").id)
    with pytest.raises(errors.Conflict, match="Drop it from the issue"):
        items.withdraw(session=session, now=NOW, item_id=item.id)


def test_an_item_of_an_approved_issue_stays_as_it_was(session: Session) -> None:
    item = _write(session)
    item.state, item.frozen_at = ItemState.PLACED, NOW
    session.flush()
    for move in (items.withdraw, items.publish):
        with pytest.raises(errors.Conflict, match="approved issue"):
            move(session=session, now=NOW, item_id=item.id)
    with pytest.raises(errors.Conflict, match="approved issue"):
        _change(session, item, 1, title="Anders")


def test_items_are_listed_by_theme_and_state_newest_first(session: Session) -> None:
    first, second = _write(session, title="Een"), _write(session, title="Twee")
    other = _write(session, theme_id=make.theme(session, "democratie").id)
    items.publish(session=session, now=NOW, item_id=second.id)
    theme_id = first.theme_id
    assert [item.id for item in items.some(session=session)] == [other.id, second.id, first.id]
    assert list(items.some(session=session, theme_id=theme_id, state=ItemState.DRAFT)) == [first]
    assert list(items.some(session=session, start=1, limit=1)) == [second]


def test_an_item_that_is_not_there(session: Session) -> None:
    for move in (items.withdraw, items.publish):
        with pytest.raises(errors.NotFound):
            move(session=session, now=NOW, item_id=4711)
    with pytest.raises(errors.NotFound):
        items.find(session=session, item_id=4711)


def test_all_that_is_wrong_with_a_form_is_found_at_once(session: Session) -> None:
    found = items.problems(session=session, theme_id=0, title="", body="", url="x", language="de")
    assert [refused.field for refused in found] == ["title", "body", "url", "language", "theme"]


def test_the_items_that_wait_are_counted_by_theme(session: Session) -> None:
    first = make.item(session)
    make.item(session, title="Nog een")
    make.item(session, "democratie", state=ItemState.PLACED)
    assert items.waiting(session=session) == {first.theme_id: 2}
