"""The pages behind the links in our mails: confirm, change, leave."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import flask
import pytest
import time_machine
from sqlalchemy import delete, func, select
from werkzeug.test import TestResponse

from service import db, links, settings, themes
from service.issues import editions
from service.subscribers import confirmation, signup
from service.subscribers import models as subscribers
from tests import make
from tests.integration.conftest import Visitor

NOW = make.NOW
EMAIL = "saskia@gemeente.example"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def words(response: TestResponse) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def path(link: str) -> str:
    return link.removeprefix(settings.current().base_url)


def states() -> dict[str, str]:
    """Slug → state, over all readers."""
    session = db.reading()
    session.rollback()
    query = select(themes.Theme.slug, subscribers.Subscription.state).join(
        subscribers.Subscription, subscribers.Subscription.theme_id == themes.Theme.id
    )
    return {slug: str(state) for slug, state in session.execute(query)}


def evidence() -> list[tuple[str, str]]:
    query = select(subscribers.Consent.event, subscribers.Consent.channel).order_by(subscribers.Consent.id)
    return [(str(event), str(channel)) for event, channel in db.reading().execute(query)]


@pytest.fixture
def asked(app: flask.Flask, doorbells: list[tuple[str, tuple[int, ...]]]) -> str:
    """The path of the confirm link of someone who ticked two themes at NOW."""
    with db.transaction() as session:
        for slug in ("innovatie", "democratie", "organisatie"):
            make.theme(session, slug)
        signup.sign_up(
            session=session,
            now=NOW,
            email=EMAIL,
            slugs=["innovatie", "democratie"],
            language="nl",
            network="192.0.2.0/24",
        )
        return path(links.confirm(session.scalars(select(subscribers.Confirmation.id)).one()))


@pytest.fixture
def reader(app: flask.Flask) -> int:
    """The id of an English reader of two of three themes."""
    with db.transaction() as session:
        make.theme(session, "organisatie")
        return make.reader(session, EMAIL, "innovatie", "democratie", language="en").id


def theme_id(slug: str) -> int:
    return themes.by_slug(session=db.reading(), slug=slug).id


def test_link_shows_a_button_and_only_the_press_confirms(visitor: Visitor, asked: str) -> None:
    with time_machine.travel(NOW + timedelta(hours=71)):
        for _ in range(2):
            looked = visitor.get(asked)
            assert visitor.head(asked).status_code == looked.status_code == 200
        assert re.search(rf'<form method="post" action="{asked}">.*?<button', looked.text, re.DOTALL)
        assert "Innovatie" in looked.text
        assert EMAIL in looked.text
        assert set(states().values()) == {"pending"}
        pressed = visitor.post(asked)
        assert "U bent aangemeld" in words(pressed)
        assert states() == {"innovatie": "active", "democratie": "active"}
        assert 'href="http://localhost:8000/preferences/' in pressed.text


def test_second_press_says_so_and_changes_nothing(visitor: Visitor, asked: str) -> None:
    with time_machine.travel(NOW):
        visitor.post(asked)
        before = evidence()
        again = visitor.post(asked)
        assert (again.status_code, "U hebt al bevestigd" in words(again)) == (200, True)
        assert "U hebt al bevestigd" in words(visitor.get(asked))
        assert evidence() == before


def test_expired_link_says_what_to_do(visitor: Visitor, asked: str) -> None:
    with time_machine.travel(NOW + confirmation.LIFE + timedelta(minutes=1)):
        for answer in (visitor.get(asked), visitor.post(asked)):
            assert answer.status_code == 410
            assert "Deze link is verlopen" in words(answer)
            assert '<a class="button" href="/">Opnieuw aanmelden</a>' in answer.text
        assert set(states().values()) == {"pending"}
        with db.transaction() as session:
            assert confirmation.expire(session=session, now=NOW + timedelta(hours=80)) == 1
        assert visitor.get(asked).status_code == 410


def test_preferences_change_themes_and_language(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    page = visitor.get(link).text
    assert '<html lang="en"' in page
    assert re.findall(r'value="(\w+)" checked', page) == ["democratie", "innovatie", "en"]
    saved = visitor.post(link, data={"themes": ["organisatie", "innovatie"], "language": "nl"})
    assert saved.status_code == 200
    assert '<html lang="nl"' in saved.text
    assert re.search(r'role="status"><p>Uw keuze is opgeslagen.', saved.text)
    assert re.findall(r'value="(\w+)" checked', saved.text) == ["innovatie", "organisatie", "nl"]
    assert states() == {"innovatie": "active", "democratie": "ended", "organisatie": "active"}
    assert sorted(evidence()) == [("changed", "preferences"), ("withdrawn", "preferences")]


def test_looking_at_preferences_changes_nothing(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    assert visitor.get(f"{link}?themes=organisatie&leave=all&language=nl").status_code == 200
    assert visitor.head(link).status_code == 200
    assert states() == {"innovatie": "active", "democratie": "active"}
    assert visitor.get(link).text.count('<html lang="en"') == 1


def test_retired_theme_can_be_left_and_not_come_back_to(visitor: Visitor, reader: int) -> None:
    with db.transaction() as session:
        themes.retire(session=session, slug="innovatie", now=NOW)
    link = path(links.preferences(reader))
    assert "Not offered any more" in visitor.get(link).text
    visitor.post(link, data={"themes": ["innovatie", "democratie"], "language": "en"})
    assert states()["innovatie"] == "active"
    assert "Not offered" not in visitor.post(link, data={"themes": ["democratie"], "language": "en"}).text
    assert states()["innovatie"] == "ended"
    refused = visitor.post(link, data={"themes": ["innovatie", "organisatie"], "language": "en"})
    assert refused.status_code == 422
    assert "<title>Error: " in refused.text
    assert re.findall(r'value="(\w+)" checked', refused.text) == ["organisatie", "en"]
    assert states() == {"innovatie": "ended", "democratie": "active"}


def test_unknown_language_and_themes_are_refused(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    for data in (
        {"themes": "nergens", "language": "nl"},
        {"themes": "innovatie", "language": "xx"},
        {"themes": "\x00"},
    ):
        assert visitor.post(link, data=data).status_code == 422
    assert states() == {"innovatie": "active", "democratie": "active"}


def test_everything_is_left_in_one_press_on_the_preferences_page(visitor: Visitor, reader: int) -> None:
    answer = visitor.post(path(links.preferences(reader)), data={"leave": "all", "language": "en"})
    assert "You get no newsletter from us any more." in words(answer)
    assert states() == {"innovatie": "ended", "democratie": "ended"}
    assert "Stop all newsletters" not in answer.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_one_click_ends_that_theme_only(visitor: Visitor, reader: int, kind: str) -> None:
    """RFC 8058 §3.1, §3.2: both kinds of body, 200 without redirect or cookie, also when repeated."""
    link = path(links.unsubscribe(reader, theme_id("innovatie")))
    for _ in range(2):
        answer = visitor.post(link, data=ONE_CLICK, content_type=kind)
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
        assert "Location" not in answer.headers
    assert states() == {"innovatie": "ended", "democratie": "active"}
    assert evidence() == [("withdrawn", "one_click")]


def test_one_click_works_for_who_is_erased(visitor: Visitor, reader: int) -> None:
    link = path(links.unsubscribe(reader, theme_id("innovatie")))
    with db.transaction() as session:
        for model in (subscribers.Consent, subscribers.Subscription, subscribers.Subscriber):
            session.execute(delete(model))
    assert visitor.post(link, data=ONE_CLICK).status_code == 200
    assert "We hebben geen gegevens meer van u" in words(visitor.get(link))
    assert visitor.post(path(links.preferences(reader)), data={"language": "nl"}).status_code == 404


def test_one_click_cannot_be_stretched_to_everything(visitor: Visitor, reader: int) -> None:
    link = path(links.unsubscribe(reader, theme_id("innovatie")))
    assert visitor.post(link, data={**ONE_CLICK, "scope": "all"}).status_code == 200
    assert states() == {"innovatie": "ended", "democratie": "active"}


def test_one_click_survives_a_broken_body(visitor: Visitor, reader: int) -> None:
    """Some mail programs send the header's URI a POST without the form field; it can only mean one thing."""
    link = path(links.unsubscribe(reader, theme_id("innovatie")))
    assert visitor.post(link, data=b"", content_type="text/plain").status_code == 200
    assert states() == {"innovatie": "ended", "democratie": "active"}


def test_scanner_that_looks_at_the_unsubscribe_link_changes_nothing(visitor: Visitor, reader: int) -> None:
    link = path(links.unsubscribe(reader, theme_id("innovatie")))
    for query in ("", "?List-Unsubscribe=One-Click", "?scope=all"):
        assert visitor.get(link + query).status_code == visitor.head(link + query).status_code == 200
    assert states() == {"innovatie": "active", "democratie": "active"}


def test_page_offers_this_theme_or_all(visitor: Visitor, reader: int) -> None:
    link = path(links.unsubscribe(reader, theme_id("innovatie")))
    page = visitor.get(link)
    assert re.findall(r'name="scope" value="(\w+)">([^<]+)<', page.text) == [
        ("theme", "Stop Innovatie"),
        ("all", "Stop all newsletters"),
    ]
    after = visitor.post(link, data={"scope": "theme"})
    assert "You don’t get the newsletter about Innovatie any more." in words(after)
    assert re.findall(r'name="scope" value="(\w+)"', after.text) == ["all"]
    assert states() == {"innovatie": "ended", "democratie": "active"}
    last = visitor.post(link, data={"scope": "all"})
    assert "You get no newsletter from us any more." in words(last)
    assert 'name="scope"' not in last.text
    assert states() == {"innovatie": "ended", "democratie": "ended"}
    assert evidence() == [("withdrawn", "unsubscribe_page")] * 2


def test_confirmation_of_who_left_meanwhile_stays_without_effect(visitor: Visitor, asked: str) -> None:
    with time_machine.travel(NOW):
        visitor.post(asked)
        subscriber_id = db.reading().scalars(select(subscribers.Subscriber.id)).one()
        visitor.post(path(links.preferences(subscriber_id)), data={"leave": "all"})
        visitor.post(asked)
    assert set(states().values()) == {"ended"}


def test_links_that_are_tampered_with_open_nothing(visitor: Visitor, reader: int, asked: str) -> None:
    tokens = {
        "confirm": asked.rpartition("/")[2],
        "preferences": path(links.preferences(reader)).rpartition("/")[2],
        "unsubscribe": path(links.unsubscribe(reader, theme_id("innovatie"))).rpartition("/")[2],
    }
    before = states()
    for door in tokens:
        foreign = [token for name, token in tokens.items() if name != door]
        own = tokens[door]
        for token in (
            *foreign,
            own[:-1],
            own + "x",
            "9" + own,
            own.replace(".", ""),
            "x",
            "%00",
            "%ff",
            "é",
            "1." * 500,
        ):
            for answer in (visitor.get(f"/{door}/{token}"), visitor.post(f"/{door}/{token}", data=ONE_CLICK)):
                assert answer.status_code == 404, (door, token)
                assert "Deze link werkt niet" in words(answer)
    assert states() == before


def test_links_of_a_test_mail_say_what_they_are(visitor: Visitor) -> None:
    for link in editions.sample_links():
        page = visitor.get(path(link))
        assert page.status_code == 200
        assert "Dit is de link van een proefmail" in words(page)
        assert "<button" not in page.text


def test_one_theme_is_spoken_of_as_one(visitor: Visitor, asked: str) -> None:
    with db.transaction() as session:
        confirmation = session.scalars(select(subscribers.Confirmation)).one()
        confirmation.theme_ids = confirmation.theme_ids[:1]
    with time_machine.travel(NOW + timedelta(hours=1)):
        page = words(visitor.get(asked))
        assert f"Dit thema is gekozen voor {EMAIL}:" in page
        assert "deze thema" not in page
        assert "these themes" not in words(visitor.get(f"{asked}?lang=en"))
        assert "U krijgt onze nieuwsbrief over dit thema:" in words(visitor.post(asked))
        assert "U hebt dit thema bevestigd:" in words(visitor.get(asked))


def test_themes_stand_in_the_order_of_the_names_shown(visitor: Visitor, reader: int) -> None:
    with db.transaction() as session:
        for slug, name in (("democratie", "Voting"), ("innovatie", "Renewal"), ("organisatie", "Administration")):
            themes.by_slug(session=session, slug=slug).name_en = name
    page = visitor.get(path(links.preferences(reader))).text
    assert page.index("Administration") < page.index("Renewal") < page.index("Voting")


def test_pages_behind_links_are_kept_out_of_caches_and_indexes(visitor: Visitor, reader: int, asked: str) -> None:
    for link in (asked, path(links.preferences(reader)), path(links.unsubscribe(reader, theme_id("innovatie")))):
        for answer in (visitor.get(link), visitor.post(link, data=ONE_CLICK), visitor.get(link[:-1])):
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Robots-Tag"] == "noindex"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "Set-Cookie" not in answer.headers


def test_reader_can_ask_for_another_language(visitor: Visitor, reader: int) -> None:
    link = path(links.preferences(reader))
    assert '<html lang="nl"' in visitor.get(f"{link}?lang=nl").text
    assert f'href="{link}?lang=nl"' in visitor.get(link).text
    rows = db.reading().scalar(select(func.count()).where(subscribers.Subscriber.language == "en"))
    assert rows == 1
