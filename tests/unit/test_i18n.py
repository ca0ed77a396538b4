from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from service import i18n


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("nl", "nl"),
        ("en-GB,en;q=0.9,nl;q=0.8", "en"),
        ("de-DE,de;q=0.9,nl-BE;q=0.5", "nl"),
        ("NL_nl", None),
        ("de, fr", None),
        ("", None),
        ("*", None),
        (";;;,,,\x00", None),
    ],
)
def test_the_first_of_our_languages_that_a_browser_asks_for(wanted: str, found: str | None) -> None:
    assert i18n.best_language(wanted) == found


def test_a_message_without_translation_stays_english() -> None:
    message = "No catalogue has this: %(what)s."
    for language in (*i18n.LANGUAGES, "de"):
        assert i18n.gettext(language, message, what="x") == "No catalogue has this: x."
    assert i18n.ngettext("nl", "%(count)s bird", "%(count)s birds", 1) == "1 bird"
    assert i18n.ngettext("nl", "%(count)s bird", "%(count)s birds", 2) == "2 birds"


def test_dutch_comes_from_the_catalogues() -> None:
    message = "A theme needs a Dutch name, of 80 characters at most."
    assert i18n.gettext("en", message) == message
    assert i18n.gettext("nl", message) not in ("", message)


def test_a_percent_sign_in_a_message_without_values_is_no_trouble() -> None:
    assert i18n.gettext("nl", "100% sure") == "100% sure"


@pytest.mark.parametrize(
    ("moment", "dutch"),
    [
        (datetime(2026, 12, 3, 8, 0, tzinfo=UTC), "donderdag 3 december 2026, 09:00"),
        (datetime(2026, 7, 2, 7, 0, tzinfo=UTC), "donderdag 2 juli 2026, 09:00"),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "zondag 29 maart 2026, 03:00"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "vrijdag 1 januari 2027, 00:30"),
    ],
)
def test_hours_are_those_of_amsterdam(moment: datetime, dutch: str) -> None:
    assert i18n.day_and_hour("nl", moment) == dutch
    assert i18n.long_date("nl", moment) == dutch.split(" ", 1)[1].split(",")[0]


def test_dates_in_english() -> None:
    assert i18n.long_date("en", datetime(2026, 12, 3, 8, 0, tzinfo=UTC)) == "3 December 2026"


@pytest.mark.parametrize(
    ("length", "dutch", "english"),
    [
        (timedelta(hours=1), "1 uur", "1 hour"),
        (timedelta(hours=72), "72 uur", "72 hours"),
        (timedelta(hours=100), "100 uur", "100 hours"),
        (timedelta(days=7), "7 dagen", "7 days"),
        (timedelta(days=30), "30 dagen", "30 days"),
        (timedelta(weeks=26), "26 weken", "26 weeks"),
        (timedelta(days=365), "1 jaar", "1 year"),
        (timedelta(days=730), "2 jaar", "2 years"),
    ],
)
def test_a_promised_span_is_said_exactly(length: timedelta, dutch: str, english: str) -> None:
    assert (i18n.span("nl", length), i18n.span("en", length)) == (dutch, english)


@pytest.mark.parametrize(
    ("count", "dutch", "english"), [(0, "0", "0"), (999, "999", "999"), (2006, "2.006", "2,006"), (2.5, "2,5", "2.5")]
)
def test_a_number_is_written_as_its_readers_write_it(count: float, dutch: str, english: str) -> None:
    assert (i18n.number("nl", count), i18n.number("en", count)) == (dutch, english)


def test_a_number_in_a_text_is_written_so_and_a_name_stays_as_it_is() -> None:
    one, many = "%(count)s item is ready.", "%(count)s items are ready."
    assert i18n.ngettext("nl", one, many, 2006) == "Er zijn 2.006 berichten klaar."
    assert i18n.ngettext("en", one, many, 2006) == "2,006 items are ready."
    assert i18n.gettext("nl", "about %(count)s", count=12345).endswith(" 12.345")
    assert i18n.gettext("en", "There is no issue %(id)s.", id="12345") == "There is no issue 12345."


@pytest.mark.parametrize(
    ("first", "dutch", "english"),
    [
        (date(2026, 11, 23), "23–29 nov 2026", "23–29 Nov 2026"),
        (date(2026, 11, 30), "30 nov – 6 dec 2026", "30 Nov – 6 Dec 2026"),
        (date(2026, 12, 28), "28 dec 2026 – 3 jan 2027", "28 Dec 2026 – 3 Jan 2027"),
    ],
)
def test_the_day_comes_before_the_month_in_both_languages(first: date, dutch: str, english: str) -> None:
    last = first + timedelta(days=6)
    said = [i18n.days(language, first, last).replace("\u2009", " ") for language in ("nl", "en")]
    assert said == [dutch, english]
