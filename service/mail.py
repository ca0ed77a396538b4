"""From a template and its words to a mail: subject, text, HTML, headers.

Jinja renders first, MJML after it; HTML that comes from editors is put in after both. So nothing an
editor types is ever read as a template, and no nesting of theirs reaches the MJML engine, which a
deep one brings down with the whole process (decision 0009).
"""

from __future__ import annotations

import re
import secrets
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parseaddr
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path

import jinja2
import mjml
from markupsafe import Markup

from service import dkim, i18n, links, settings, wire

WIDTH = 72  # of the text part; requirements 5 allows 76
SUBJECT = 60
# Editors' HTML is dressed inline: some clients drop <style> (requirements 5).
DRESS = {
    "p": "margin:0 0 10px",
    "a": "color:#1d5b46;text-decoration:underline",
    "ul": "margin:0 0 10px;padding:0 0 0 22px",
    "ol": "margin:0 0 10px;padding:0 0 0 26px",
    "h3": "margin:14px 0 6px;font-size:17px;line-height:1.35",
    "blockquote": "margin:0 0 10px;padding:0 0 0 14px;border-left:3px solid #a9b7ab",
    "pre": "margin:0 0 10px;white-space:pre-wrap;font-size:15px",
}


class Stream(StrEnum):
    """Each has a From of its own, so that receivers judge them apart (requirements 2). The value is its local
    part; the newsletter's is MAIL_FROM's."""

    NEWSLETTER = ""
    CONFIRMATION = "bevestiging"
    NOTICE = "redactie"


@dataclass(frozen=True)
class Rendered:
    subject: str
    html: str
    text: str


@dataclass(frozen=True)
class Outbound:
    """`sender` is the envelope's: where bounces go. `message` is ready for the relay."""

    recipient: str
    sender: str
    message: bytes


def render(name: str, /, *, language: str, **context: object) -> Rendered:
    """The templates of mail `name` with their words in `language`. Raises jinja2.UndefinedError for a missing word."""
    late = _Late()
    words = {**_everywhere(language), **context, "late": late.keep}
    subject = " ".join(_template(name, "subject.txt", words).split())
    source = _template(name, "body.mjml", {**words, "subject": subject})
    text = _template(name, "body.txt", {**words, "subject": subject})
    return Rendered(subject=subject, html=_with_short_lines(late.insert(mjml.mjml2html(source))), text=_tidy(text))


def compose(
    rendered: Rendered,
    *,
    to: str,
    to_name: str = "",
    stream: Stream,
    now: datetime,
    message_id: str,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A single mail that a machine sends of itself (RFC 3834 §5); its answers go to MAIL_FROM."""
    every = {
        "From": from_header(stream),
        "To": wire.mailbox(to_name, to),
        "Reply-To": wire.mailbox("", address()),
        "Subject": wire.phrase(rendered.subject),
        "Date": format_datetime(now),
        "Message-ID": message_id,
        "Auto-Submitted": "auto-generated",
        **(headers or {}),
    }
    return dkim.sign(wire.write(every, text=rendered.text, html=rendered.html))


def from_header(stream: Stream) -> str:
    chosen = settings.current()
    name = parseaddr(chosen.mail_from)[0] or organisation_name()
    return wire.mailbox(name, f"{stream}@{chosen.mail_domain}" if stream else address())


def address() -> str:
    """Where a reader can write to."""
    return parseaddr(settings.current().mail_from)[1]


def return_address() -> str:
    """Where bounces of a single mail go: the envelope's sender (requirements 1.6)."""
    return settings.current().return_address or address()


def organisation_name() -> str:
    return settings.current().organisation.partition(",")[0].strip()


def message_id(kind: str, row_id: int, reader: int | str = "") -> str:
    """The same at each try for the same reader, so that a mail that came twice can be seen to be one
    (requirements 1.9); unguessable, since bounces come back with it."""
    derived = links.keyed_hash("message_id", f"{kind}{row_id}.{reader}")[:32]
    return f"<{kind}{row_id}.{derived}@{settings.current().mail_domain}>"


def short_subject(*candidates: str) -> str:
    """The first that fits in SUBJECT characters; else the last, cut at a word."""
    for candidate in candidates:
        if len(candidate) <= SUBJECT:
            return candidate
    return textwrap.shorten(candidates[-1], SUBJECT, placeholder="…")


class _Late:
    """HTML that is put in after MJML, at tokens nobody can type."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(8)
        self._kept: list[str] = []

    def keep(self, html: str) -> Markup:
        self._kept.append(re.sub(r"<([a-z0-9]+)(?=[ >])", _dressed, html))
        return Markup(f"@@{self._secret}-{len(self._kept) - 1}@@")  # noqa: S704  # hex and digits

    def insert(self, html: str) -> str:
        return re.sub(f"@@{self._secret}-([0-9]+)@@", lambda spot: self._kept[int(spot[1])], html)


def _dressed(tag: re.Match[str]) -> str:
    style = DRESS.get(tag[1])
    return f'{tag[0]} style="{style}"' if style else tag[0]


def _everywhere(language: str) -> dict[str, object]:
    chosen = settings.current()
    return {
        "_": partial(i18n.gettext, language),
        "ngettext": partial(i18n.ngettext, language),
        "language": language,
        "sender": parseaddr(chosen.mail_from)[0] or organisation_name(),
        "organisation": chosen.organisation,
        "contact": address(),
        "privacy_url": links.page("privacy"),
    }


def _template(name: str, file: str, words: Mapping[str, object]) -> str:
    return _environment().get_template(f"{name}/{file}").render(words)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates()),
        autoescape=jinja2.select_autoescape(enabled_extensions=["mjml"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(wrap=_wrap, headed=_headed)
    return environment


def templates() -> Path:
    """Beside this module when installed from a wheel, in the checkout's `templates/emails` otherwise."""
    packed = Path(__file__).parent / "emails"
    return packed if packed.is_dir() else settings.source_root() / "templates" / "emails"


def _wrap(text: str) -> str:
    """Web addresses stay whole, however long."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _headed(text: str, line: str) -> str:
    """A heading with a line under it."""
    heading = _wrap(text)
    return f"{heading}\n{line * max(map(len, heading.splitlines()), default=0)}"


def _tidy(text: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", text.strip()) + "\n"


def _with_short_lines(html: str) -> str:
    """A line end inside the tags of each link: wire.py encodes lines with a reader's link for every reader anew."""
    return re.sub(r"<a (?=[^>]*href)", "<a\n", html).replace("</a>", "</a\n>")
