"""What a good address in the settings looks like. Each check raises ValueError and never repeats the value:
passwords stand in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

StartTls = Literal["required", "opportunistic", "never"]
LONGEST_RETURN = 20
# It stands in a mailto link as it is (RFC 6068 §2).
RETURN_BOX = re.compile(rf"[a-zA-Z0-9._-]{{1,{LONGEST_RETURN}}}")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# As in DNS: labels of letters, digits and hyphens (RFC 1123 §2.1), or an address in brackets.
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
PUBLIC_HOST = re.compile(rf"({LABEL}(\.{LABEL})*|\[[0-9a-f:.]+\])(:[0-9]+)?")
SELECTOR = re.compile(rf"{LABEL}(\.{LABEL})*", re.IGNORECASE)
MAILBOX = re.compile(r"[^@\s<>()\[\],;:\\\"]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*")


class RelayAddress(BaseModel):
    """Where our mail goes, read from `SMTP_URL`."""

    host: str
    port: int
    user: str = ""
    password: str = Field(default="", repr=False)
    implicit_tls: bool = False
    starttls: StartTls = "opportunistic"


def database(value: str) -> str:
    """PostgreSQL through psycopg 3, or SQLite in a file, whose path is made absolute."""
    wish = "use postgresql://user:password@host/name, or leave it empty for SQLite"
    scheme, _, rest = value.partition("://")
    if scheme in ("postgres", "postgresql"):
        scheme, value = "postgresql+psycopg", f"postgresql+psycopg://{rest}"
    try:
        found = make_url(value)
    except (ValueError, ArgumentError):
        raise ValueError(wish) from None
    if scheme == "postgresql+psycopg" and found.database:
        return value
    if scheme != "sqlite":
        raise ValueError(wish)
    if found.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file, as in sqlite:////srv/vinkje/vinkje.db")
    return sqlite(Path(found.database))


def sqlite(path: Path) -> str:
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def redis(value: str) -> str:
    value = value.replace("unix://", "redis+socket://", 1)
    parts = _split(value)
    socket = parts is not None and parts.scheme == "redis+socket" and parts.path not in ("", "/")
    host = parts is not None and parts.scheme in ("redis", "rediss") and parts.hostname
    if not socket and not host:
        raise ValueError("use redis://host:6379/0, or leave it empty for one process")
    return value


def relay(value: str) -> RelayAddress:
    parts = _split(value)
    if parts is None or parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("use smtp://user:password@host:587?starttls=required or smtps://…")
    implicit = parts.scheme == "smtps"
    query = parse_qs(parts.query)
    default = "opportunistic" if parts.hostname in LOOPBACK else "required"
    starttls = query.pop("starttls", [default])[0]
    if query or starttls not in ("required", "opportunistic", "never"):
        raise ValueError("the only option is starttls=required, opportunistic or never")
    return RelayAddress(
        host=parts.hostname,
        port=parts.port or (465 if implicit else 587),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        implicit_tls=implicit,
        starttls=cast("StartTls", starttls),
    )


def base(value: str) -> str:
    """The public address that every link in a mail starts with: it must fit in a header unfolded and unencoded."""
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not PUBLIC_HOST.fullmatch(parts.netloc.lower()):
        raise ValueError("use the public address, as in https://news.example.nl")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "give Vinkje a host name of its own, as in https://news.example.nl: below a path it can't work"
        )
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must be https: readers leave by one click over HTTPS (RFC 8058 §3.1)")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def sender(value: str) -> str:
    found = getaddresses([value])
    if len(found) != 1 or not value.isprintable() or not MAILBOX.fullmatch(found[0][1]) or not found[0][1].isascii():
        raise ValueError('use an address, as in "Vinkje <news@example.nl>"')
    return value


def organisation(value: str) -> str:
    if "," not in value or not value.isprintable():
        raise ValueError("give legal name and postal address on one line, with commas between (Tw 11.7)")
    return value


def selector(value: str) -> str:
    """A name in DNS, below which a DKIM key is published (RFC 6376 §3.1)."""
    if value and not SELECTOR.fullmatch(value):
        raise ValueError("use letters, digits and hyphens, as in vinkje-2026")
    return value


def smtp(value: str) -> str:
    relay(value)
    return value


def return_address(value: str) -> str:
    """What comes back gets a plus sign and a token before the @ (requirements 1.6), 64 octets at most in all."""
    if not MAILBOX.fullmatch(value) or not RETURN_BOX.fullmatch(value.partition("@")[0]):
        raise ValueError(
            f"use at most {LONGEST_RETURN} letters, digits, dots and hyphens before the @: bounces@example.nl"
        )
    return value


def inbox(value: str) -> str:
    """An IMAP mailbox, as in imaps://user:password@host/INBOX."""
    parts = _split(value)
    if parts is None or parts.scheme not in ("imap", "imaps") or not (parts.hostname and parts.username):
        raise ValueError("use imaps://user:password@host/INBOX")
    if parts.scheme == "imap" and parts.hostname not in LOOPBACK:
        raise ValueError("must be imaps: a password goes over it")
    return value


def _unless_empty(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: check(value) if value else value)


Selector = Annotated[str, AfterValidator(selector)]
Database = Annotated[str, _unless_empty(database)]
Redis = Annotated[str, _unless_empty(redis)]
Smtp = Annotated[str, _unless_empty(smtp)]
Base = Annotated[str, _unless_empty(base)]
Sender = Annotated[str, _unless_empty(sender)]
Organisation = Annotated[str, _unless_empty(organisation)]
ReturnAddress = Annotated[str, _unless_empty(return_address)]
Inbox = Annotated[str, _unless_empty(inbox)]


def _split(value: str) -> SplitResult | None:
    """None for what isn't a URL; urlsplit itself drops line breaks, and looks at a port only when asked and
    at what stands in brackets only in later versions of Python."""
    try:
        parts = urlsplit(value)
        _ = parts.port
        if parts.netloc.rpartition("@")[2].startswith("["):
            ipaddress.IPv6Address(parts.hostname or "")
    except ValueError:
        return None
    return parts if value.isprintable() and " " not in value else None
