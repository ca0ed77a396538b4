"""What we hold about a reader (service/privacy/export.py), in words that the reader knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from service import i18n
from service.i18n import N_
from service.subscribers import address_change, consent
from service.subscribers.models import Channel, ConsentEvent, LetterKind
from service.web import view

STATES = {
    "pending": N_("Asked for, not confirmed yet"),
    "active": N_("You get this newsletter"),
    "ended": N_("Not any more"),
}
ENDS = {
    "unsubscribed": N_("you left"),
    "hard_bounce": N_("our mail couldn’t be delivered"),
    "complaint": N_("you reported it as unwanted mail"),
    "erased": N_("your data were erased"),
    "expired": N_("the request wasn’t confirmed in time"),
}
EVENTS = {
    "requested": N_("Asked for"),
    "confirmed": N_("You gave permission"),
    "changed": N_("You gave permission"),
    "withdrawn": N_("You took your permission back"),
    "complaint": N_("You reported it as unwanted mail"),
    "bounced": N_("Our mail couldn’t be delivered"),
    "imported": N_("You gave permission elsewhere"),
}
CHANNELS = {
    "web_form": N_("with the sign-up form"),
    "mail": N_("with the button behind a mailed link"),
    "preferences": N_("on your own page"),
    "one_click": N_("with the unsubscribe button of your mail program"),
    "unsubscribe_page": N_("on the page to leave"),
    "relay": N_("told by the mail server"),
    "report": N_("told by your mail provider"),
    "import": N_("as an older list says: “%(source)s”"),  # in that file's own words
    "ledger": N_("before we had to put back a backup"),
}
UNREAD_FORM = N_("with a form whose text we don’t know")
SOURCES = {address_change.SOURCE: N_("when you changed your address")}
OUTCOMES = {
    "accepted": N_("Taken by your mail server"),
    "deferred": N_("Tried; we try again later"),
    "rejected": N_("Refused by your mail server"),
    "given_up": N_("Given up after several tries"),
    "uncertain": N_("Sent; we don’t know whether it arrived"),
}
REPORTS = {
    "hard": N_("Came back: the address doesn’t exist"),
    "soft": N_("Came back: couldn’t be delivered at that moment"),
    "complaint": N_("Reported as unwanted mail"),
    "fault": N_("Came back: something in the mail was wrong"),
}
LETTERS = {
    "data": N_("A link to your data"),
    "address_new": N_("Question whether an address is yours"),
    "address_told": N_("Notice that your address was changed"),
    "themes_told": N_("Notice that your themes or language were changed"),
}


BARRED = {
    "hard_bounce": ENDS["hard_bounce"],
    "complaint": ENDS["complaint"],
    "blocked": N_("you told us never to mail you again"),
}


@dataclass(frozen=True)
class Line:
    """Something that happened. `text` is what the reader read then; `more` says what else is known of it."""

    at: str
    what: str
    more: str = ""
    text: str = ""


@dataclass(frozen=True)
class Held:
    address: str
    language: str
    since: str
    themes: list[tuple[str, str, list[Line]]]  # name, state in words, evidence
    mails: list[Line]
    letters: list[Line]
    forms: list[Line]
    tries: int
    marks: list[str]


def words(data: Mapping[str, Any], names: Mapping[str, str]) -> Held:
    """`names` of all themes, by slug: a form or a mail may be about one that the reader never had."""
    return Held(
        address=data["address"],
        language=i18n.NAMES[data["language"]],
        since=_moment(data["created_at"]),
        themes=[
            (names[row["theme"]], _state(row), _evidence(data["consents"], row["theme"]))
            for row in sorted(data["subscriptions"], key=lambda row: str(names[row["theme"]]).casefold())
        ],
        mails=_mails(data, names),
        letters=_letters(data, names),
        forms=[
            Line(at=_moment(row["at"]), what=view.translate("Sign-up form"), more=_form(row, names))
            for row in data["forms"]
        ],
        tries=len(data["marks"]["tries"]),
        marks=_marks(data["marks"]),
    )


def _state(row: Mapping[str, Any]) -> str:
    said = view.translate(STATES[row["state"]])
    if row["state"] == "active":
        return view.translate("%(state)s since %(moment)s", state=said, moment=_moment(row["confirmed_at"]))
    if row["state"] == "ended" and row["end_reason"]:
        why = view.translate(ENDS[row["end_reason"]])
        return view.translate("Ended on %(moment)s: %(reason)s", moment=_moment(row["ended_at"]), reason=why)
    return said


def _evidence(consents: Iterable[Mapping[str, Any]], theme: str) -> list[Line]:
    return [
        Line(
            at=_given(row),
            what=view.translate(EVENTS[row["event"]]),
            more=_how(row),
            text=row["text"] if consent.was_read(row["wording"]) else "",
        )
        for row in consents
        if row["theme"] == theme
    ]


def _given(row: Mapping[str, Any]) -> str:
    """Of a list that knows only the day, its first moment is kept (service/subscribers/csv_rows.py)."""
    at = datetime.fromisoformat(row["at"])
    if row["event"] == ConsentEvent.IMPORTED and at.astimezone(i18n.HERE).time() == time.min:
        return i18n.long_date(view.language(), at)
    return _moment(row["at"])


def _how(row: Mapping[str, Any]) -> str:
    if row["channel"] == Channel.IMPORT:
        return view.translate(CHANNELS["import"], source=row["source"])
    if row["channel"] == Channel.WEB_FORM and not consent.was_read(row["wording"]):
        return view.translate(UNREAD_FORM)
    source = SOURCES.get(row["source"])
    parts = (view.translate(CHANNELS[row["channel"]]), view.translate(source) if source else row["source"])
    return ", ".join(part for part in parts if part)


def _mails(data: Mapping[str, Any], names: Mapping[str, str]) -> list[Line]:
    sent = [(row["first_at"], row, OUTCOMES[row["outcome"]]) for row in data["deliveries"]]
    back = [(row["at"], row, REPORTS[row["kind"]]) for row in data["reports"]]
    return [
        Line(
            at=_moment(at),
            what=view.translate(
                "%(theme)s, week %(week)s", theme=names.get(row["theme"], row["theme"]), week=row["week"][-2:]
            ),
            more=view.translate(became) + (f" ({row['status']})" if row["status"] else ""),
        )
        for at, row, became in sorted([*sent, *back], key=lambda line: line[0])
    ]


def _letters(data: Mapping[str, Any], names: Mapping[str, str]) -> list[Line]:
    asked = [
        (
            row["requested_at"],
            view.translate("Mail to confirm your choice")
            if row["themes"]
            else view.translate("You are subscribed already"),
            ", ".join(names.get(theme, theme) for theme in row["themes"]),
            row,
        )
        for row in data["confirmations"]
    ]
    letters = [(row["asked_at"], view.translate(LETTERS[row["kind"]]), row["address"], row) for row in data["letters"]]
    return [
        Line(at=_moment(at), what=what, more="; ".join(part for part in (about, _on_its_way(row)) if part))
        for at, what, about, row in sorted([*asked, *letters], key=lambda line: line[0])
    ]


def _on_its_way(row: Mapping[str, Any]) -> str:
    if row.get("kind") == LetterKind.ADDRESS_NEW:  # it isn't told (service/privacy/export.py)
        return ""
    if row["mailed_at"]:
        return view.translate("mailed")
    return view.translate("not mailed") if row["failed_at"] else view.translate("on its way")


def _form(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    parts = [", ".join(names.get(theme, theme) for theme in row["themes"]), i18n.NAMES[row["language"]]]
    parts.append(view.translate("from the network %(network)s", network=row["network"]))
    if row["elsewhere"]:
        parts.append(view.translate("on another site"))
    return "; ".join(parts)


def _marks(known_by: Mapping[str, Any]) -> list[str]:
    barred = [
        view.translate(
            "Since %(moment)s there is a mark that keeps us from mailing you newsletters: %(reason)s.",
            moment=_moment(row["at"]),
            reason=view.translate(BARRED[row["reason"]]),
        )
        for row in known_by["suppressions"]
    ]
    erased = [
        view.translate(
            "On %(moment)s the data of this address were erased, or its reader moved to another address. "
            "We keep a mark of that, for when we must put back a backup.",
            moment=_moment(row["at"]),
        )
        for row in known_by["erasures"]
    ]
    return barred + erased


def _moment(iso: str) -> str:
    at = datetime.fromisoformat(iso)
    return f"{i18n.long_date(view.language(), at)}, {i18n.hour(at)}"
