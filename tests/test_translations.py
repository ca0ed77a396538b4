"""Every English text that a reader or an editor meets has its Dutch one, complete and with the same blanks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

from tests import house

BLANK = re.compile(r"%\((\w+)\)s")
# Function → which arguments are texts. `errors.SettingsRefused` and `FenceLost` are for operators and workers.
IN_PYTHON = {
    "_": (0,),
    "N_": (0,),
    "translate": (0,),
    "gettext": (1,),
    "ngettext": (1, 2),
    "Refused": (1,),
    "NotFound": (0,),
    "NotAllowed": (0,),
    "Conflict": (0,),
    "LinkRefused": (0,),
    "Throttled": (0,),
}
ERRORS = {"Refused", "NotFound", "NotAllowed", "Conflict", "LinkRefused", "Throttled"}
TEMPLATES = ("templates/emails", "service/web/templates")


def _in_python() -> Iterator[tuple[str, str]]:
    for module in house.modules():
        for name, call in module.calls():
            for place in IN_PYTHON.get(name.rpartition(".")[2], ()):
                text = call.args[place] if place < len(call.args) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.value, f"{module.name}:{call.lineno}"


def _in_templates() -> Iterator[tuple[str, str]]:
    for folder in TEMPLATES:
        for path in sorted((house.ROOT / folder).rglob("*.*")):
            with path.open("rb") as source:
                for line, _, found, _ in babel_extract(source, ("_", "ngettext"), (), {}):
                    for text in (found,) if isinstance(found, str) else (found or ())[:2]:
                        if text:
                            yield text, f"{path.relative_to(house.ROOT)}:{line}"


@lru_cache(maxsize=1)
def texts() -> dict[str, str]:
    """Each English text with the place where it's used."""
    return dict((*_in_templates(), *_in_python()))


@lru_cache(maxsize=1)
def catalogues() -> dict[str, Catalog]:
    found = {}
    for path in sorted(Path(house.ROOT, "service", "locale", "nl").glob("*.po")):
        with path.open("rb") as source:
            found[path.name] = read_po(source, locale="nl", abort_invalid=True)
    return found


def entries() -> Iterator[tuple[str, Message]]:
    for name, catalogue in catalogues().items():
        for message in catalogue:
            if message.id:
                yield name, message


def _ids(message: Message) -> tuple[str, ...]:
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def _strings(message: Message) -> tuple[str, ...]:
    return (message.string,) if isinstance(message.string, str) else tuple(message.string or ())


def test_texts_are_found_at_all() -> None:
    assert len(texts()) > 200
    assert "This link isn’t valid. Perhaps a part of it got lost." in texts()


def test_every_text_has_its_dutch() -> None:
    translated = {text for _, message in entries() for text in _ids(message) if all(_strings(message))}
    missing = {text: place for text, place in texts().items() if text not in translated}
    assert missing == {}


def test_every_text_has_the_marks_of_print() -> None:
    """’ “ ” and no typewriter's: in English and in Dutch."""
    said = {**texts(), **{text: name for name, message in entries() for text in (*_ids(message), *_strings(message))}}
    assert {text: place for text, place in said.items() if re.search("['\"`´]", text)} == {}


def test_no_translation_is_a_guess_or_lacks_a_blank() -> None:
    for name, message in entries():
        where = f"{name}: {message.id}"
        assert not message.fuzzy, where
        wanted = {blank for text in _ids(message) for blank in BLANK.findall(text)}
        for text in _strings(message):
            assert set(BLANK.findall(text)) <= wanted, where
            assert message.pluralizable or set(BLANK.findall(text)) == wanted, where
            assert _ids(message)[-1].endswith("\n") == text.endswith("\n"), where


def test_every_blank_takes_text() -> None:
    """A number comes as its readers write it, "2.006": a %(count)d would raise on that."""
    said = [*texts(), *(text for _, message in entries() for text in (*_ids(message), *_strings(message)))]
    assert [text for text in said if re.search(r"%\(\w+\)(?!s)", text)] == []


def test_two_areas_say_the_same_thing_the_same_way() -> None:
    said: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, message in entries():
        assert said.setdefault(_ids(message), _strings(message)) == _strings(message), f"{name}: {message.id}"


def test_no_translation_is_left_of_a_text_that_has_gone() -> None:
    """States and notes are translated by their value: those count as used when the code has them at all."""
    words = {
        node.value
        for module in house.modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    used = texts().keys() | words
    assert [f"{name}: {message.id}" for name, message in entries() if _ids(message)[0] not in used] == []


@pytest.mark.parametrize("module", house.modules(), ids=lambda module: module.name)
def test_the_words_of_an_error_stand_where_it_is_raised(module: house.Module) -> None:
    """Words that are put together at run time can't be translated."""
    for name, call in module.calls():
        kind = name.removeprefix("errors.")
        if name.startswith("errors.") and kind in ERRORS:
            text = call.args[IN_PYTHON[kind][0]]
            assert isinstance(text, ast.Constant), f"{module.name}:{call.lineno}"
            blanks = set(BLANK.findall(str(text.value)))
            given = {keyword.arg for keyword in call.keywords if keyword.arg}
            assert blanks <= given, f"{module.name}:{call.lineno}"
