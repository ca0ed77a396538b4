"""A mail that came in, cut down to what a report needs. Pure; whoever sent it may be after us (requirements 1.6).

The standard library reads every message/* inside by itself, however deep, and leaves its base64 be. So these are
renamed to text/*: then each is a leaf like any other, and only multipart/* nests.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import HeaderParser

from service import links

# More than any report needs; what lies behind is not read.
OCTETS, LINES, NESTED, LEAVES = 1_000_000, 20_000, 20, 40
TEXT = 64_000  # characters of one part
HEADER = 4_000  # characters of one header field
MOST_ADDRESSES = 10

INNER = re.compile(rb"(?i)(?<![^\s:\"])message/")
NEST = re.compile(rb"(?i)multipart/")
# No two of its repetitions can take the same character, so it takes no time to fail.
ADDRESS = re.compile(r"(?<![^\s<>,;:\"'()\[\]])[^\s<>,;:\"'()\[\]@]{1,200}@[A-Za-z0-9.-]{1,253}")
ORIGINAL = frozenset({"text/rfc822", "text/rfc822-headers", "text/global", "text/global-headers"})
STATUS = frozenset({"text/delivery-status", "text/global-delivery-status"})
FEEDBACK = "text/feedback-report"
REFERS = re.compile(r"(?im)^(?:return-path|list-unsubscribe)[ \t]*:.*(?:\n[ \t].*)*")

Fields = dict[str, str]  # names in lower case; of a field that stands there twice, the first


class Mail:
    """The header and the leaves, with their text."""

    def __init__(self, raw: bytes) -> None:
        self.message = message_from_bytes(_cut(raw))
        self.leaves = [(_type(part), part) for part in _leaves(self.message)]

    def header(self, name: str) -> str:
        return next(self.headers(name), "")

    def headers(self, name: str) -> Iterator[str]:
        return (readable(str(value)) for value in self.message.get_all(name, []))

    def blocks(self, types: Iterable[str]) -> list[Fields]:
        """The groups of fields in the parts of these types."""
        return [block for kind, part in self.leaves if kind in types for block in fields(text(part))]

    def original(self) -> Fields:
        """The header of the mail that this one is about, when it came along."""
        return next(iter(self.blocks(ORIGINAL)), {})

    def prose(self) -> str:
        """What is written for people, without the original."""
        written = [part for kind, part in self.leaves if kind in ("text/plain", "text/html")]
        return text(written[0]) if written else ""

    def addresses(self, returns: str) -> tuple[str, ...]:
        delivered = (
            value
            for name in ("Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "To")
            for value in self.headers(name)
        )
        told = (
            block.get(name, "")
            for name in ("original-mail-from", "x-postfix-sender")
            for block in self.blocks((FEEDBACK, *STATUS))
        )
        original = self.original()
        quoted = (original.get(name, "") for name in ("return-path", "list-unsubscribe"))
        within = (found for kind, part in self.leaves if kind == "text/plain" for found in REFERS.findall(text(part)))
        found = (
            address
            for value in itertools.chain(delivered, told, quoted, within)
            for address in ADDRESS.findall(value.replace("mailto:", " "))
            if maybe_ours(address, returns)
        )
        return tuple(itertools.islice(dict.fromkeys(found), MOST_ADDRESSES))


def maybe_ours(address: str, returns: str) -> bool:
    """By its looks. Any domain will do: a mail server may have put a name of its own for it, and forwarders wrap
    addresses in theirs."""
    local, _, domain = address.lower().rpartition("@")
    mailbox, _, home = returns.lower().partition("@")
    before, plus, after = local.rpartition("+")
    return bool(plus) and ((before, domain) == (mailbox, home) or links.RETURN.fullmatch(after) is not None)


def text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return _decoded(payload)[:TEXT].replace("\r\n", "\n") if isinstance(payload, bytes) else ""


def fields(written: str) -> list[Fields]:
    """Groups of fields with an empty line between (RFC 3464 §2.1). Of a quoted mail, the first is its header."""
    blocks = []
    for group in re.split(r"\n[ \t]*\n", written.strip()):
        read = HeaderParser().parsestr(group, headersonly=True)
        block: Fields = {}
        for name, value in read.items():
            block.setdefault(name.lower(), str(value)[:HEADER])
        if block:
            blocks.append(block)
    return blocks


def readable(value: str) -> str:
    """A header field with its encoded words read (RFC 2047), whatever their charset is said to be."""
    value = value[:HEADER]
    if "=?" not in value:
        return value
    try:
        chunks = decode_header(value)
    except (HeaderParseError, ValueError):
        return value
    return "".join(_decoded(chunk) if isinstance(chunk, bytes) else chunk for chunk, _ in chunks)


def _cut(raw: bytes) -> bytes:
    raw = INNER.sub(b"text/", raw[:OCTETS])
    raw = b"".join(itertools.islice(raw.splitlines(keepends=True), LINES))
    deep = next(itertools.islice(NEST.finditer(raw), NESTED, None), None)
    return raw[: deep.start()] if deep else raw


def _leaves(message: Message) -> Iterator[Message]:
    return itertools.islice((part for part in message.walk() if not part.is_multipart()), LEAVES)


def _type(part: Message) -> str:
    return part.get_content_type()


def _decoded(said: bytes) -> str:
    """As UTF-8 or else as Western; a charset that a mail names is not looked up. We look for plain words."""
    try:
        return said.decode()
    except UnicodeDecodeError:
        return said.decode("cp1252", "replace")
