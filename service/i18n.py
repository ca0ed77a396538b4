"""Dutch and English. English is the source; each `locale/<language>/*.po` holds one area's words."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import dates, numbers
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES = ("nl", "en")
NAMES = {"nl": "Nederlands", "en": "English"}
LOCALES = {"nl": "nl_NL", "en": "en_GB"}  # the day before the month
HERE = ZoneInfo("Europe/Amsterdam")


def N_(message: str) -> str:  # noqa: N802  # gettext's own name for "translate later"
    return message


@lru_cache(maxsize=8)
def translations(language: str) -> NullTranslations:
    """Unknown languages get the English source. Catalogues are compiled in memory: no .mo in the repository."""
    merged = NullTranslations()
    for path in sorted((Path(__file__).parent / "locale" / language).glob("*.po")):
        compiled = io.BytesIO()
        with path.open("rb") as source:
            write_mo(compiled, read_po(source, locale=language))
        compiled.seek(0)
        catalogue = GNUTranslations(compiled)
        catalogue.add_fallback(merged)
        merged = catalogue
    return merged


def gettext(language: str, message: str, **params: object) -> str:
    """A whole number among `params` is written as people write it: what is a name, such as an id or a year, comes as
    text.
    """
    translated = translations(language).gettext(message)
    return translated % _written(language, params) if params else translated


def ngettext(language: str, one: str, many: str, count: int, **params: object) -> str:
    return translations(language).ngettext(one, many, count) % _written(language, {"count": count, **params})


def _written(language: str, params: Mapping[str, object]) -> dict[str, object]:
    return {name: number(language, value) if type(value) is int else value for name, value in params.items()}


def number(language: str, count: float, pattern: str | None = None) -> str:
    """As in "2.006" in Dutch and "2,006" in English."""
    return numbers.format_decimal(count, format=pattern, locale=LOCALES.get(language, language))


def best_language(wanted: str) -> str | None:
    """The first of ours in an Accept-Language value's order of preference, without its quality numbers."""
    for part in wanted.split(","):
        tag = part.split(";")[0].strip().lower().split("-")[0]
        if tag in LANGUAGES:
            return tag
    return None


def long_date(language: str, moment: datetime) -> str:
    return dates.format_date(moment.astimezone(HERE), "d MMMM y", locale=language)


def day_and_hour(language: str, moment: datetime) -> str:
    """As in "donderdag 3 december 2026, 09:00", in Europe/Amsterdam."""
    return dates.format_datetime(moment, "EEEE d MMMM y, HH:mm", tzinfo=HERE, locale=language)


def days(language: str, first: date, last: date) -> str:
    """As in "23–29 nov 2026" or "30 Nov – 6 Dec 2026"."""
    return dates.format_interval(first, last, "yMMMd", locale=LOCALES[language])


def hour(moment: datetime) -> str:
    """As in "10:32", in Europe/Amsterdam."""
    return moment.astimezone(HERE).strftime("%H:%M")


def duration(language: str, seconds: float) -> str:
    """As in "56 seconds" or "12 minuten": in the largest unit of which there are two."""
    return dates.format_timedelta(timedelta(seconds=seconds), threshold=2, locale=language)


def span(language: str, length: timedelta) -> str:
    """As in "72 hours", "30 dagen", "26 weeks" or "2 jaar": a promise, so nothing is rounded."""
    days, rest = divmod(length, timedelta(days=1))
    if rest or days <= 3:
        return ngettext(language, "%(count)s hour", "%(count)s hours", length // timedelta(hours=1))
    if days % 365 == 0:
        return ngettext(language, "%(count)s year", "%(count)s years", days // 365)
    if days % 7 == 0 and days > 60:
        return ngettext(language, "%(count)s week", "%(count)s weeks", days // 7)
    return ngettext(language, "%(count)s day", "%(count)s days", days)
