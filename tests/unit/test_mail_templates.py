"""The MJML engine takes unknown elements and attributes without a word (decision 0009), so we look ourselves."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from service import i18n, mail, settings

PADDING = {"padding", "padding-top", "padding-bottom", "padding-left", "padding-right"}
TYPE = {"font-family", "font-size", "font-weight", "line-height", "color"}
ALLOWED: dict[str, set[str]] = {
    "mjml": {"lang", "dir"},
    "mj-head": set(),
    "mj-title": set(),
    "mj-raw": set(),
    "mj-style": set(),
    "mj-attributes": set(),
    "mj-all": {"font-family"},
    "mj-body": {"background-color", "css-class", "width"},
    "mj-section": {"background-color", "css-class", "border-top", *PADDING},
    "mj-column": {"css-class", "width", *PADDING},
    "mj-text": {"css-class", "align", *TYPE, *PADDING},
    "mj-button": {"href", "css-class", "align", "background-color", "inner-padding", "border-radius", *TYPE, *PADDING},
}
INSIDE: dict[str, set[str]] = {
    "mj-section": {"mj-body", "mj-attributes"},
    "mj-column": {"mj-section"},
    "mj-text": {"mj-column", "mj-attributes", ""},
    "mj-button": {"mj-column", "mj-attributes", ""},
}
VOID = {"meta", "br"}
FILES = sorted(mail.templates().rglob("*.mjml"))


class Lint(HTMLParser):
    """Faults as "line: what". A partial template starts outside any element."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(
            re.sub(
                r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", lambda found: re.sub(r"[^\n]", "_", found[0]), source, flags=re.S
            )
        )
        self.close()
        if self._open:
            self._fault(f"{self._open} not closed")

    def _fault(self, words: str) -> None:
        self.faults.append(f"{self.getpos()[0]}: {words}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._check(tag, attrs)
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._check(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self._fault(f"</{tag}> closes another")

    def _check(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not tag.startswith("mj"):
            return
        if tag not in ALLOWED:
            self._fault(f"<{tag}> is no element we know")
            return
        around = self._open[-1] if self._open else ""
        if around not in INSIDE.get(tag, {around}):
            self._fault(f"<{tag}> in <{around}>")
        for name, value in attrs:
            if name not in ALLOWED[tag]:
                self._fault(f"<{tag}> has no {name}")
            if name.endswith("color") and not re.fullmatch(r"#[0-9a-f]{6}", value or ""):
                self._fault(f"{value} is no colour")
            if name.startswith(("padding", "inner")) and not re.fullmatch(r"(\d+(px)?( |$)){1,4}", value or ""):
                self._fault(f"{value} is no padding")


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_our_mjml_holds_only_what_the_engine_knows(path: Path) -> None:
    assert Lint(path.read_text(encoding="utf-8")).faults == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("<mj-txt>x</mj-txt>", "1: <mj-txt> is no element we know"),
        ('\n<mj-text colour="#ffffff">x</mj-text>', "2: <mj-text> has no colour"),
        ('<mj-text color="{{ it }}">x</mj-text>', "1: ________ is no colour"),
        ("<mj-column><mj-section></mj-section></mj-column>", "1: <mj-section> in <mj-column>"),
        ("<mj-text><p>x</mj-text>", "1: </mj-text> closes another"),
        ("<mj-text>x", "1: ['mj-text'] not closed"),
    ],
)
def test_the_check_finds_what_the_engine_lets_pass(source: str, fault: str) -> None:
    assert fault in Lint(source).faults


def test_every_mail_has_its_three_templates() -> None:
    mails = [path for path in mail.templates().iterdir() if path.is_dir()]
    assert {path.name for path in mails} == {
        *("confirmation", "already_subscribed", "data_link", "address_new", "address_told", "themes_told"),
        *("issue", "invitation", "ready", "alarm", "stopped"),
    }
    for path in mails:
        assert {file.name for file in path.iterdir()} == {"subject.txt", "body.txt", "body.mjml"}


def test_every_sentence_of_the_mails_stands_in_dutch() -> None:
    options = {"silent": "false", "trimmed": "true"}
    found = extract_from_dir(
        mail.templates(), [("**.mjml", "jinja2"), ("**.txt", "jinja2")], {"**.mjml": options, "**.txt": options}
    )
    wanted = {message for _, _, message, _, _ in found}
    dutch: dict[object, Any] = {}
    for path in (settings.source_root() / "service/locale/nl").glob("*.po"):
        with path.open("rb") as file:
            dutch |= {entry.id: entry.string for entry in read_po(file, locale="nl") if entry.id}
    assert len(wanted) > 30
    assert wanted - set(dutch) == set()
    assert [sentence for sentence in wanted if not dutch[sentence] or not all(dutch[sentence])] == []


def test_sentences_keep_their_places_in_dutch() -> None:
    with (settings.source_root() / "service/locale/nl/mail.po").open("rb") as file:
        entries = [entry for entry in read_po(file, locale="nl") if entry.id]
    places = re.compile(r"%\(\w+\)s")
    for entry in entries:
        english, *_ = [entry.id] if isinstance(entry.id, str) else entry.id
        for dutch in [entry.string] if isinstance(entry.string, str) else list(entry.string or ()):
            assert sorted(places.findall(dutch)) == sorted(places.findall(english))


def test_an_unknown_language_is_read_in_english() -> None:
    assert i18n.gettext("xx", "Confirm your subscription") == "Confirm your subscription"
