from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from html.parser import HTMLParser

import jinja2
import pytest

from service import i18n, mail, wire
from service.issues import editions
from service.newsroom.models import Item
from tests import approved_mails

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
NAMES = (
    *("confirmation", "already_subscribed", "data_link", "address_new", "address_told", "themes_told"),
    *("issue", "invitation", "ready", "alarm", "stopped", "stopped_held", "stopped_waits"),
)
EVERY = [f"{name}.{language}" for name in NAMES for language in i18n.LANGUAGES]


@pytest.fixture(autouse=True)
def _settings() -> None:
    approved_mails.use_settings()


class Page(HTMLParser):
    """What a test wants to know of a mail's HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)
        self.words.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.words[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def rendered(
    body: str = "Kort.", title: str = "Titel", url: str = "", count: int = 1, language: str = "nl"
) -> mail.Rendered:
    issue, _ = approved_mails.issue()
    items = [Item(title=title, body=body, url=url, language=language) for _ in range(count)]
    return editions.render(issue=issue, items=items, language="nl")


@pytest.mark.parametrize("name", EVERY)
def test_the_text_is_the_one_that_was_approved(name: str) -> None:
    approved = (approved_mails.FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert approved_mails.text_of(approved_mails.every()[name]) == approved


def test_no_approved_mail_is_left_over() -> None:
    assert sorted(path.stem for path in approved_mails.FOLDER.iterdir()) == sorted(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_text_lines_fit_and_web_addresses_are_whole(name: str) -> None:
    for line in approved_mails.every()[name].text.splitlines():
        assert len(line) <= 76 or re.fullmatch(r"https://\S+", line)


@pytest.mark.parametrize("name", EVERY)
def test_each_mail_says_who_sends_it_and_where_they_live(name: str) -> None:
    made = approved_mails.every()[name]
    for part in (made.text, " ".join(made.html.split())):
        assert "Stichting Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam" in part
        assert "nieuws@voorbeeld.example" in part
        assert "https://nieuws.voorbeeld.example/privacy" in part


@pytest.mark.parametrize("name", EVERY)
def test_html_and_text_lead_to_the_same_pages(name: str) -> None:
    made = approved_mails.every()[name]
    in_text = set(re.findall(r"https://[^\s)]+", made.text))
    assert {link["href"] for link in Page(made.html).all("a")} == in_text


@pytest.mark.parametrize("name", EVERY)
def test_html_is_fit_for_screen_readers(name: str) -> None:
    made = approved_mails.every()[name]
    page = Page(made.html)
    language = name.partition(".")[2]
    assert [(tag["lang"], tag["dir"]) for tag in page.all("html")] == [(language, "ltr")]
    assert [tag for tag in page.all("div") if tag.get("role") == "article" and tag["lang"] == language]
    assert page.words["title"] == [made.subject]
    assert len(page.words["h1"]) == 1
    assert {table["role"] for table in page.all("table")} == {"presentation"}
    texts = [words.strip() for words in page.words["a"]]
    assert all(texts)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_fetched_from_anywhere(name: str) -> None:
    """requirements 3.3: no pixel, no image, no font, no style from elsewhere; so opening a mail tells nobody."""
    html = approved_mails.every()[name].html
    page = Page(html)
    assert {tag for tag, _ in page.tags} & {
        "img",
        "link",
        "script",
        "iframe",
        "object",
        "form",
        "svg",
        "video",
    } == set()
    assert not [attributes for _, attributes in page.tags if {"src", "srcset", "background"} & set(attributes)]
    assert not re.search(r"url\(|@import|@font-face|googleapis", html)
    assert "color-scheme" in html
    assert "prefers-color-scheme: dark" in html


def test_colours_can_be_read_in_light_and_dark() -> None:
    html = approved_mails.every()["issue.nl"].html
    used = {colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}\b", html)}
    light = {"#1f2624": "#fdfdfc", "#1d5b46": "#f2f0ec", "#515b57": "#f2f0ec", "#fbf6ec": "#1d5b46"}
    dark = {"#e9ebe7": "#1e2523", "#7fcdb6": "#1e2523", "#b3bcb7": "#161b1a", "#0d211b": "#7fcdb6"}
    for ink, paper in (light | dark).items():
        assert {ink, paper} <= used
        assert contrast(ink, paper) >= 4.5
    rules = {"#d8d2c6", "#3a4440", "#a9b7ab"}
    assert used == set(light) | set(light.values()) | set(dark) | set(dark.values()) | rules | {"#000000"} & used


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_fifteen_items_fit_under_the_size_where_gmail_clips() -> None:
    body = "Een zin van gewone lengte over wat er is besloten en wat het kost. " * 12 + "\n\n- een\n- twee\n- drie"
    made = rendered(
        body=body, title="Een titel van een regel en nog een halve", url="https://a.example/" + "x" * 80, count=15
    )
    assert len(made.html.encode()) < 80_000


def test_an_item_in_another_language_says_so() -> None:
    langs = [
        tag["lang"] for tag in Page(rendered(language="en").html).all("div") if "lang" in tag and "role" not in tag
    ]
    assert langs == ["en"]
    assert not [tag for tag in Page(rendered().html).all("div") if "lang" in tag and "role" not in tag]


def test_links_of_one_host_are_told_apart_by_title() -> None:
    issue, _ = approved_mails.issue()
    urls = ("https://www.a.example/1", "https://a.example/2", "https://b.example/3")
    items = [Item(title=f"Titel {url[-1]}", body="x", url=url, language="nl") for url in urls]
    made = editions.render(issue=issue, items=items, language="nl")
    found = [words for words in Page(made.html).words["a"] if words.startswith("Lees verder")]
    assert found == ["Lees verder: Titel 1", "Lees verder: Titel 2", "Lees verder: b.example"]


HOSTILE = [
    "{{ 7*7 }}",
    "{% raw %}",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "</mj-text></mj-column>",
    "<mj-raw>",
    "]]>",
    "<!--",
    "&amp;&lt;",
    "@@0@@",
    "%s %(theme)s",
    "\\1 \\g<0>",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_whatever_editors_type_arrives_as_they_typed_it(words: str) -> None:
    made = rendered(title=words, body=f"`{words}`")
    page = Page(made.html)
    assert page.words["h2"] == [words]
    assert page.words["code"] == [words]
    assert words in made.text
    assert "script" not in page.words
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert made.subject == f"Mobiliteit & straat: {words}"


@pytest.mark.parametrize("name", ["Zoë <b>", '"Zoë"', "{{ 7*7 }}"])
def test_an_editors_name_is_text(name: str) -> None:
    made = mail.render(
        "invitation", language="nl", name=name, role="writer", invitation_url="https://a.example/x", until="morgen"
    )
    assert f"Hallo {name}," in made.text
    assert f"Hallo {name}," in Page(made.html).words["p"]


def test_a_mark_typed_by_an_editor_never_becomes_a_readers_link() -> None:
    mark = wire.UNSUBSCRIBE
    split = f"{mark[:7]}\\{mark[7:]} &#64;{mark[1:]}"
    made = rendered(title=f"Titel {mark}", body=f"Tekst {mark} {split}", url=f"https://a.example/{mark}")
    assert made.html.count(mark) == 1
    assert made.text.count(mark) == 1
    assert made.subject.count(mark) == 0


def test_a_missing_word_is_a_fault_and_not_a_hole() -> None:
    with pytest.raises(jinja2.UndefinedError):
        mail.render("confirmation", language="nl", themes=["Democratie"], until="morgen")


@pytest.mark.parametrize(
    ("title", "subject"),
    [
        ("Kort", "Mobiliteit & straat: Kort"),
        ("x " * 25 + "einde", ("x " * 25 + "einde")),
        ("woord " * 18, "woord " * 9 + "woord…"),
    ],
)
def test_a_subject_has_sixty_characters_at_most(title: str, subject: str) -> None:
    made = rendered(title=title.strip())
    assert made.subject == subject
    assert len(made.subject) <= 60


def composed(**values: str) -> EmailMessage:
    made = mail.Rendered(subject="Bevestig uw aanmelding", html="<p>Coöperatie</p>", text="Coöperatie\n")
    message = mail.compose(
        made,
        to=values.get("to", "saskia@gemeente.example"),
        to_name=values.get("to_name", ""),
        stream=mail.Stream(values.get("stream", mail.Stream.CONFIRMATION)),
        now=NOW,
        message_id=mail.message_id("c", 5),
    )
    read = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def test_a_single_mail_says_that_a_machine_sent_it() -> None:
    read = composed()
    assert read.items()[:7] == [
        ("From", "Bureau Voorbeeld <bevestiging@voorbeeld.example>"),
        ("To", "saskia@gemeente.example"),
        ("Reply-To", "nieuws@voorbeeld.example"),
        ("Subject", "Bevestig uw aanmelding"),
        ("Date", "Tue, 24 Nov 2026 09:00:00 +0000"),
        ("Message-ID", mail.message_id("c", 5)),
        ("Auto-Submitted", "auto-generated"),
    ]
    assert "List-Unsubscribe" not in read
    assert [part.get_content_type() for part in read.iter_parts()] == ["text/plain", "text/html"]


def test_streams_have_a_from_of_their_own() -> None:
    senders = {str(composed(stream=stream)["From"]) for stream in mail.Stream}
    assert len(senders) == len(mail.Stream)
    assert mail.from_header(mail.Stream.NEWSLETTER) == "Bureau Voorbeeld <nieuws@voorbeeld.example>"


def test_a_name_with_a_comma_or_an_accent_is_one_receiver() -> None:
    for name in ("Jansen, Piet", "Zoë de Wit"):
        (address,) = composed(to_name=name)["To"].addresses
        assert (address.display_name, address.addr_spec) == (name, "saskia@gemeente.example")


def test_a_message_id_is_the_same_at_each_try_and_another_for_each_reader() -> None:
    ids = [editions.message_id(issue_id=7, subscriber_id=reader) for reader in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]
    assert re.fullmatch(r"<i7\.[0-9a-f]{32}@voorbeeld\.example>", ids[0])
