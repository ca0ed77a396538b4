"""The privacy page says what is so: the table that the night's job applies, the settings, and what can be tried out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import flask
import pytest

from service import db, folder, links, settings
from service.issues import editions
from service.issues.models import Issue
from service.newsroom.models import Role
from service.privacy import grounds, retention
from service.subscribers import consent
from tests import make
from tests.integration.conftest import Visitor
from tests.integration.newsroom import Desk

LANGUAGES = ("nl", "en")
LOADS = re.compile(r'<(?:img|script|link|iframe|source|object|embed)\b[^>]*?(?:src|href|data)="([^"]*)"')
COLUMNS = {"nl": ["Wat", "Hoe lang", "Waarom"], "en": ["What", "How long", "Why"]}
LONGEST = 22  # words in a sentence


@dataclass
class Table(HTMLParser):
    """What a reader, and a screen reader, has of the page's one table."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)
    scopes: list[list[str]] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    tables: int = 0
    _into: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tables += tag == "table"
        if tag == "tr":
            for kept in (self.rows, self.scopes, self.labels):
                kept.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self.scopes[-1].append(given.get("scope") or "")
            self.labels[-1].append(given.get("data-label") or "")
        if tag in ("caption", "th", "td"):
            self._into = tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("caption", "th", "td"):
            self._into = ""

    def handle_data(self, data: str) -> None:
        if self._into == "caption":
            self.caption += data
        elif self._into:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def page(visitor: Visitor, language: str) -> str:
    answer = visitor.get(f"/privacy?lang={language}")
    assert answer.status_code == 200
    return unescape(answer.text)


def table(visitor: Visitor, language: str) -> Table:
    found = Table()
    found.feed(visitor.get(f"/privacy?lang={language}").text)
    return found


def shown(line: retention.Line, language: str) -> list[str]:
    """A row as the page has it: the ground stands with the reason."""
    what, long, why = retention.row(line=line, language=language)
    return [what, long, " ".join(filter(None, (why, grounds.words(key=line.key, language=language))))]


def use(**chosen: object) -> None:
    settings.use(settings.current().model_copy(update=chosen))


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_shows_the_table_word_for_word(visitor: Visitor, language: str) -> None:
    found = table(visitor, language)
    head, *rows = found.rows
    assert head == COLUMNS[language]
    assert rows == [shown(line, language) for line in retention.TABLE if not line.trial]
    assert found.tables == 1
    assert found.caption
    assert found.scopes == [["col"] * 3] + [["row", "", ""]] * len(rows)
    assert found.labels[1:] == [["", *COLUMNS[language][1:]]] * len(rows)


def test_the_periods_are_those_that_were_decided(visitor: Visitor) -> None:
    """By hand, so that a slip in how a span is said can't pass."""
    spans = {line.key: long for line, (_, long, _) in zip(retention.TABLE, table(visitor, "nl").rows[1:], strict=False)}
    assert "tot 2 jaar nadat u het laatste opzegde" in spans["readers"]
    assert spans["forms"] == "Meestal een paar seconden, hoogstens 72 uur."
    assert spans["unconfirmed"] == "72 uur."
    assert spans["confirmed"] == "30 dagen na uw aanmelding."
    assert spans["attempts"] == spans["letters"] == "30 dagen."
    assert spans["deliveries"].startswith("26 weken ")
    assert spans["dead_addresses"].startswith("2 jaar ")
    assert spans["erasures"] == "1 jaar."
    assert spans["sessions"] == "7 dagen na het inloggen."


def test_each_kind_of_data_has_its_ground(visitor: Visitor) -> None:
    """GDPR art. 13(1)(c), by hand; what names nobody needs none."""
    keys = [line.key for line in retention.TABLE if not line.trial]
    said = dict(zip(keys, (why for _, _, why in table(visitor, "nl").rows[1:]), strict=True))
    found = {key: why.partition(" Grondslag: ")[2] for key, why in said.items()}
    assert found.pop("readers") == "uw toestemming en de wet."
    assert found.pop("letters") == "de wet en ons belang."
    assert {key for key, ground in found.items() if not ground} == {"totals", "report_counts", "logs"}
    assert {ground for ground in found.values() if ground} == {"ons belang."}
    assert {"deliveries", "reports", "refusals", "dead_addresses", "editors", "sessions", "backups"} <= found.keys()
    assert {line.key for line in retention.TABLE} == grounds.OF.keys()


@pytest.mark.parametrize(
    ("language", "articles"),
    [("nl", ("onder a", "onder c", "onder f")), ("en", ("6.1.a", "6.1.c", "6.1.f"))],
)
def test_it_says_what_the_grounds_are(visitor: Visitor, language: str, articles: tuple[str, ...]) -> None:
    text = page(visitor, language)
    for article in articles:
        assert article in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_names_every_right_with_its_article(visitor: Visitor, language: str) -> None:
    rights = page(visitor, language).partition('id="rights"')[2].partition("</ul>")[0]
    word = {"nl": "artikel", "en": "article"}[language]
    assert re.findall(rf"\({word} (\d+)\)", rights) == ["15", "16", "17", "18", "20", "21"]


def test_it_says_that_nobody_must_give_anything_and_no_computer_decides(visitor: Visitor) -> None:
    """GDPR art. 13(2)(e) and (f)"""
    text = page(visitor, "nl")
    assert "U hoeft ons niets te geven" in text
    assert "Zonder e-mailadres kunnen we u geen nieuwsbrief sturen" in text
    assert "(AVG, artikel 22)" in text


def test_what_leaves_europe_is_what_the_setting_says(visitor: Visitor) -> None:
    """GDPR art. 13(1)(f). Unset, it claims neither the one nor the other."""
    outside = "gaan naar landen buiten de Europese Economische Ruimte:"
    stays = "blijven in de Europese Economische Ruimte"
    unset = page(visitor, "nl")
    assert outside not in unset
    assert stays not in unset
    assert "Vraag ons of er gegevens buiten de Europese Economische Ruimte komen" in unset
    use(transfers="Relaas <VS> (mail), met modelcontracten")
    named = page(visitor, "nl")
    assert f"{outside} Relaas <VS> (mail), met modelcontracten." in named
    assert "<VS>" not in visitor.get("/privacy").text
    for word in ("none", "None.", "geen"):
        use(transfers=word)
        text = page(visitor, "nl")
        assert stays in text
        assert outside not in text


@pytest.mark.parametrize(
    ("given", "name"),
    [("Jo Fraanje <fg@vink.example>", "Jo Fraanje, "), ("fg@vink.example", "")],
)
def test_the_officer_stands_there_when_there_is_one(visitor: Visitor, given: str, name: str) -> None:
    """GDPR art. 13(1)(b)"""
    assert "functionaris" not in page(visitor, "nl")
    use(privacy_officer=given)
    text = " ".join(page(visitor, "nl").split())
    assert "functionaris voor gegevensbescherming" in text
    assert f'{name}<a href="mailto:fg@vink.example">fg@vink.example</a>' in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_trial_says_that_mails_are_caught(app: flask.Flask, visitor: Visitor, language: str) -> None:
    app.config["MAILBOX_DIR"] = settings.current().data_dir
    try:
        rows = table(visitor, language).rows[1:]
    finally:
        del app.config["MAILBOX_DIR"]
    assert rows == [shown(line, language) for line in retention.TABLE]


@pytest.mark.parametrize("language", LANGUAGES)
def test_after_a_trial_it_says_so_while_a_mail_is_left(visitor: Visitor, tmp_path: Path, language: str) -> None:
    use(data_dir=tmp_path)
    mail = tmp_path / folder.MAILBOX / f"{1:020d}.eml"
    mail.parent.mkdir()
    caught = shown(retention.TABLE[-1], language)
    assert caught not in table(visitor, language).rows
    mail.write_bytes(b"To: saskia@gemeente.example\r\n\r\nx\r\n")
    assert table(visitor, language).rows[-1] == caught
    mail.unlink()
    assert caught not in table(visitor, language).rows


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_says_who_we_are_and_where_to_complain(visitor: Visitor, language: str) -> None:
    use(organisation="De Vink & Zn, Vinkenstraat 1, 1013 JL Amsterdam", mail_from="De Vink <post@vink.example>")
    text = page(visitor, language)
    for words in ("De Vink & Zn<br>", "Vinkenstraat 1, 1013 JL Amsterdam", 'href="mailto:post@vink.example"'):
        assert words in text
    assert 'href="https://www.autoriteitpersoonsgegevens.nl/"' in text


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        (
            "processors",
            "Hostnet <BV> (server), Relaas (mail)",
            "mogen alleen doen wat wij zeggen: Hostnet <BV> (server)",
        ),
        ("proof_of_work", True, "een kleine berekening"),
        ("return_address", "bounces@vink.example", "per mail, naar het adres"),
    ],
)
def test_what_depends_on_a_setting_stands_there_when_it_is_so(
    visitor: Visitor, setting: str, value: object, words: str
) -> None:
    assert words not in page(visitor, "nl")
    use(**{setting: value})
    assert words in page(visitor, "nl")
    assert "<BV>" not in visitor.get("/privacy").text


def test_without_processors_it_names_the_kinds_there_can_be(visitor: Visitor) -> None:
    words = "de bedrijven die onze server beheren en onze mail bezorgen"
    assert words in page(visitor, "nl")
    use(processors="Hostnet (server)")
    assert words not in page(visitor, "nl")
    use(processors="none.")
    assert "Wij, en niemand anders" in page(visitor, "nl")
    assert "none" not in page(visitor, "nl")


def test_chiefs_are_told_what_the_page_does_not_say_yet(app: flask.Flask, doorbells: object) -> None:
    """Once mail goes out for real: not on localhost, nor where mails are caught."""
    desks = {role: Desk(app, role) for role in (Role.WRITER, Role.CHIEF, Role.ADMIN)}
    heading = "De privacypagina is nog niet af"

    def told() -> dict[Role, bool]:
        return {role: heading in desk.text("/newsroom/") for role, desk in desks.items()}

    nobody, chiefs = dict.fromkeys(desks, False), {Role.WRITER: False, Role.CHIEF: True, Role.ADMIN: True}
    assert told() == nobody
    use(smtp_url="smtp://relay.example")
    assert told() == nobody
    use(base_url="https://nieuws.example")
    assert told() == chiefs
    page = desks[Role.CHIEF].text("/newsroom/")
    assert "PROCESSORS" in page
    assert "TRANSFERS" in page
    use(processors="Hostnet (server)")
    page = desks[Role.CHIEF].text("/newsroom/")
    assert "PROCESSORS" not in page
    assert heading in page
    use(transfers="geen")
    assert told() == nobody


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_quotes_every_text_that_evidence_can_name(visitor: Visitor, language: str) -> None:
    text = page(visitor, language)
    texts = re.findall(r"<dt><code>([^<]+)</code>[^<]*</dt>\s*<dd>([^<]+)</dd>", text)
    published = {path.stem for path in (Path(consent.__file__).parent / "wordings").glob(f"*.{language}.txt")}
    assert {name for name, _ in texts} == published  # of an older list, a form elsewhere, and of before
    for name, said in texts:
        assert said == consent.wording(name.removesuffix(f".{language}"), language).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_sentences_are_short(visitor: Visitor, language: str) -> None:
    """requirements 7.2"""
    main = page(visitor, language).partition("<main")[2].partition("</main>")[0]
    main = re.sub(r"<details>.*</details>", "", main, flags=re.DOTALL)  # other texts, which are judged elsewhere
    blocks = re.sub(r"</(?:p|li|h\d|td|th|caption|address)>|<br>", "\n", main)
    words = re.sub(r"<[^>]+>", "", blocks)
    sentences = [one.split() for line in words.splitlines() for one in re.split(r"(?<=[.?!:;])\s", line.strip()) if one]
    assert len(sentences) > 50
    assert [" ".join(one) for one in sentences if len(one) > LONGEST] == []
    assert sum(map(len, sentences)) / len(sentences) < 12


# --- promises that can be tried out ---


@pytest.fixture
def public(app: flask.Flask, visitor: Visitor, doorbells: object) -> dict[str, str]:
    """Each public page, by its address."""
    with db.transaction() as session:
        reader = make.reader(session, "saskia@gemeente.example", "innovatie", "democratie")
        theme_id = make.theme(session).id
    addresses = ("/", "/privacy", "/nowhere", links.preferences(reader.id), links.unsubscribe(reader.id, theme_id))
    paths = [address.removeprefix(settings.current().base_url) for address in addresses]
    answers = {path: visitor.get(path) for path in paths}
    answers["sent"] = visitor.post("/subscribe", data={"email": "a@b.example", "themes": "innovatie"})
    assert not [path for path, answer in answers.items() if "Set-Cookie" in answer.headers]
    return {path: answer.text for path, answer in answers.items()}


def test_visitors_get_no_cookie_and_nothing_from_other_sites(public: dict[str, str]) -> None:
    for path, text in public.items():
        loaded = LOADS.findall(text)
        assert len(loaded) >= 2, path
        assert [address for address in loaded if not re.match(r"/static/[\w.]+\?v=", address)] == [], path


def test_readers_can_see_download_and_erase_from_their_own_page(public: dict[str, str]) -> None:
    """Further on: tests/integration/test_own_data.py."""
    (text,) = [text for path, text in public.items() if "/preferences/" in path]
    assert '<button class="button button--second" name="letter" value="data">' in text


def test_our_mail_has_no_pictures_and_its_links_lead_straight_there(app: flask.Flask) -> None:
    with db.transaction() as session:
        issue = make.approved(session)
        shown = [editions.shown(session=session, issue=issue, language=language) for language in LANGUAGES]
    for rendered in shown:
        assert rendered is not None
        assert not re.search(r"<img|background=|url\(|<script|@import", rendered.html)
        led = {unescape(link) for link in re.findall(r'href="([^"]+)"', rendered.html)}
        assert "https://gent.example/deelauto" in led  # the item's own
        away = {link for link in led if link.startswith("http") and not link.startswith(settings.current().base_url)}
        assert away == {"https://gent.example/deelauto"}


def test_editors_see_how_many_and_not_who(app: flask.Flask, doorbells: object) -> None:
    """On every page that an admin can open by its address, but for that of uncertain mails."""
    with db.transaction() as session:
        make.reader(session, "saskia@gemeente.example", "innovatie")
        numbers = {"issue_id": make.approved(session).id, "item_id": 1}
        assert session.get(Issue, numbers["issue_id"])
    desk, seen = Desk(app, Role.ADMIN), 0
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/newsroom") or "GET" not in (rule.methods or ()) or "uncertain" in rule.rule:
            continue
        path = re.sub(r"<[^>]*?(\w+)>", lambda match: str(numbers.get(match[1], "innovatie")), rule.rule)
        answer = desk.get(path)
        seen += answer.status_code == 200
        assert "saskia@" not in answer.text, path
    assert seen >= 10
