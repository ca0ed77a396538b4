from __future__ import annotations

import contextlib
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.newsroom import markup

MARKDOWN = [
    "[a](",
    ")",
    "`",
    "**",
    "_",
    "> ",
    "- ",
    "1. ",
    "# ",
    "\n",
    "\n\n",
    "    ",
    "\\",
    "![x](y)",
    "<https://a.example>",
]
HOSTILE = [
    "<script>",
    "</p>",
    "javascript:alert(1)",
    "{{ 7*7 }}",
    "<b onclick=x>",
    '"',
    "'",
    "&",
    "&lt;",
    "<!--",
    "]]>",
]
pieces = st.sampled_from([*MARKDOWN, *HOSTILE, "woord "])


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]


@settings(deadline=None)  # other tests may keep the processors busy
@given(st.lists(pieces, max_size=25).map("".join))
def test_whatever_is_typed_only_allowed_elements_come_out(markdown: str) -> None:
    try:
        found = Elements(markup.to_html(markdown))
    except errors.Refused:
        return
    assert found.seen <= markup.TAGS
    assert found.attributes <= {("a", "href"), ("ol", "start")}
    assert all(re.match(r"https?://|mailto:", link) for link in found.links)


@settings(deadline=None)  # other tests may keep the processors busy
@given(st.lists(pieces, max_size=25).map("".join))
def test_text_is_made_of_whatever_html_is_made_of(markdown: str) -> None:
    try:
        markup.to_html(markdown)
    except errors.Refused:
        with pytest.raises(errors.Refused):
            markup.to_text(markdown)
    else:
        assert isinstance(markup.to_text(markdown), str)


def test_html_stays_visible_as_text() -> None:
    assert markup.to_html("<script>alert(1)</script> en <b>vet</b>") == (
        "<p>&lt;script&gt;alert(1)&lt;/script&gt; en &lt;b&gt;vet&lt;/b&gt;</p>"
    )


def test_braces_stay_as_they_are() -> None:
    assert markup.to_html("{{ 7*7 }} {% raw %}") == "<p>{{ 7*7 }} {% raw %}</p>"


def test_a_quote_in_a_link_stays_inside_it() -> None:
    html = markup.to_html('[lees](https://a.example/"onmouseover="alert(1))')
    assert Elements(html).links == ["https://a.example/%22onmouseover=%22alert(1)"]


def test_a_script_is_no_link() -> None:
    assert Elements(markup.to_html("[a](javascript:alert(1)) [b](data:text/html,x) [c](vbscript:x)")).links == []


def test_headings_stand_under_the_items_own() -> None:
    assert markup.to_html("# Groot\n\n###### Klein") == "<h3>Groot</h3>\n<h3>Klein</h3>"


@pytest.mark.parametrize(
    "deep", ["> " * 60 + "x", "- " * 60 + "x", "> " * 12_000 + "x"[:1], "*a " * 60 + "b" + "*" * 60, "**" * 4_000 + "x"]
)
def test_deep_nesting_is_refused_or_flat(deep: str) -> None:
    with contextlib.suppress(errors.Refused):
        html = markup.to_html(deep)
        assert html.count("<blockquote>") < markup.DEEPEST
        assert html.count("<em>") + html.count("<strong>") < markup.DEEPEST


@pytest.mark.parametrize("deep", ["> " * 50 + "x", "- " * 25 + "x"])
def test_lists_and_quotations_of_fifty_levels_are_refused(deep: str) -> None:
    with pytest.raises(errors.Refused, match="too deep"):
        markup.check(deep)


def test_forty_levels_come_out_whole() -> None:
    html = markup.to_html("> " * 40 + "kern")
    assert html.count("<blockquote>") == 40
    assert "kern" in html
    assert "kern" in markup.to_text("> " * 40 + "kern")


def test_twelve_thousand_tags_are_refused() -> None:
    with pytest.raises(errors.Refused, match="too long"):
        markup.check("<b>" * 12_000)


def test_a_picture_is_refused_with_what_to_do() -> None:
    with pytest.raises(errors.Refused, match="Link to the page"):
        markup.check("Kijk: ![een foto](https://a.example/f.png)")


@pytest.mark.parametrize(
    "hard", ["*a " * 6_000, "[" * 19_000, "`" * 19_000, "[a](<b" * 3_000, "&" * 19_000, "<" * 19_000]
)
def test_hard_texts_take_no_long_time(hard: str) -> None:
    started = time.perf_counter()
    with contextlib.suppress(errors.Refused):
        markup.to_html(hard)
    assert time.perf_counter() - started < 20


def test_text_is_written_for_reading() -> None:
    markdown = """De gemeente [publiceert](https://gent.example/cijfers) elke maand de *cijfers* en `ruwe data`
van de hele proef. Op <https://gent.example> staat alles.

## Meedoen

1. bel 14 030
2. of mail <hulp@gent.example>
   - liefst voor 12 uur
   - met uw *naam*

> Wie meedoet, krijgt
> bericht.

- los

- nog los, met een regel die zo lang is dat ze op een tweede regel verder moet gaan

```
code   blijft
```
Einde\\
nieuwe regel"""
    assert (
        markup.to_text(markdown)
        == """De gemeente publiceert (https://gent.example/cijfers) elke maand de
cijfers en ruwe data van de hele proef. Op https://gent.example staat
alles.

Meedoen

1. bel 14 030
2. of mail hulp@gent.example
   - liefst voor 12 uur
   - met uw naam

> Wie meedoet, krijgt bericht.

- los

- nog los, met een regel die zo lang is dat ze op een tweede regel
  verder moet gaan

    code   blijft

Einde
nieuwe regel"""
    )


def test_a_web_address_stays_whole_in_text() -> None:
    url = "https://gent.example/" + "lang-adres/" * 20
    assert url in markup.to_text(f"Lees [hier]({url}) meer.").replace("(", "").replace(")", "").split()
