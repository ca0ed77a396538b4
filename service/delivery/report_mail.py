"""A mail that came in, cut down to what a report needs. Pure; whoever sent it may be after us (requirements 1.6).

The standard library reads every message/* inside by itself, however deep, and leaves its base64 be. So these are
renamed to text/*: then each is a leaf like any other, and only multipart/* nests.
"""

from __future__ import annotations

import html
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
TEXT, HEADER = 64_000, 4_000  # characters of a part, and of a header field
MOST_ADDRESSES, MOST_GROUPS = 10, 200

FIELD = re.compile(rb"[!-9;-~]{1,100}:")
INNER = re.compile(rb"(?i)(?<![^\s:\"])message/")
NEST = re.compile(rb"(?i)multipart/")
ORIGINAL = frozenset({"text/rfc822", "text/rfc822-headers", "text/global", "text/global-headers"})
STATUS = frozenset({"text/delivery-status", "text/global-delivery-status"})
FEEDBACK = frozenset({"text/feedback-report"})
RECEIPT = frozenset({"text/disposition-notification", "text/global-disposition-notification"})
PROSE = frozenset({"text/plain", "text/html"})

# Every pattern fails fast, however it is fed: it starts at few places, and no two repetitions take the same character.
# Only ASCII, as ours are: of other characters we couldn't say which they were.
ADDRESS = re.compile(r"(?<![^\s<>,;:\"'()\[\]])[A-Za-z0-9.!#$%&*+/=?^_`{|}~-]{1,200}@[A-Za-z0-9.-]{1,253}")
TAG = re.compile(r"<[^<>]*>")
# Where a report in plain text goes on with the mail it is about.
BEGINS = re.compile(
    r"(?im)^[-*=>| \t]*(original message|below (this line )?is a copy|(this is|included is) a copy|unsent message|"
    r"(original )?message headers? follow|returned message|the header|message text follows|"
    r"(received|return-path|dkim-signature|arc-seal|x-received): ?).*$"
)
REFERS = re.compile(r"(?im)^(?:return-path|list-unsubscribe)[ \t]*:.*(?:\n[ \t].*)*")

Fields = dict[str, str]  # names in lower case; of a field that stands there twice, the first


class Mail:
    """The header and the leaves, with their text."""

    def __init__(self, raw: bytes) -> None:
        self.message = message_from_bytes(_cut(raw))
        whole = (part for part in self.message.walk() if not part.is_multipart())
        self.leaves = [(part.get_content_type(), part) for part in itertools.islice(whole, LEAVES)]

    def header(self, name: str) -> str:
        return readable(next(iter(self.headers(name)), ""))

    def headers(self, name: str) -> list[str]:
        return [str(value)[:HEADER] for value in self.message.get_all(name, [])]

    def has(self, types: Iterable[str]) -> bool:
        return any(kind in types for kind, _ in self.leaves)

    def blocks(self, types: Iterable[str]) -> list[Fields]:
        """The groups of fields in the parts of these types."""
        return [block for kind, part in self.leaves if kind in types for block in fields(text(part))]

    def original(self) -> Fields:
        """The header of the mail that this one is about, when it came along."""
        return next(iter(self.blocks(ORIGINAL)), {})

    def prose(self) -> str:
        """What is written for people, as far as the original. Of parts that lost their boundaries, all."""
        for kind, part in self.leaves:
            if kind in PROSE or kind.startswith("multipart/"):
                whole = html.unescape(TAG.sub(" ", text(part))) if kind == "text/html" else text(part)
                begins = BEGINS.search(whole)
                return whole[: begins.start()] if begins else whole
        return ""

    def sent_to(self, returns: str) -> list[str]:
        """The addresses it came in at that may be ours, as the servers on its way and then its sender have them."""
        names = ("Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "To")
        return _ours((value for name in names for value in self.headers(name)), returns)

    def refers_to(self, returns: str) -> list[str]:
        """Those in what it quotes."""
        original, texts = self.original(), (text(part) for kind, part in self.leaves if kind == "text/plain")
        return _ours(
            itertools.chain(
                (block.get("original-mail-from", "") for block in self.blocks(FEEDBACK)),
                (block.get("x-postfix-sender", "") for block in self.blocks(STATUS)),
                (original.get(name, "") for name in ("return-path", "list-unsubscribe")),
                (found for written in texts for found in REFERS.findall(written)),
            ),
            returns,
        )


def text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return _decoded(payload)[:TEXT].replace("\r\n", "\n") if isinstance(payload, bytes) else ""


def fields(written: str) -> list[Fields]:
    """Groups of fields with an empty line between (RFC 3464 §2.1). Of a quoted mail, the first is its header."""
    blocks = []
    for group in re.split(r"\n[ \t]*\n", written.strip(), maxsplit=MOST_GROUPS)[:MOST_GROUPS]:
        block: Fields = {}
        for name, value in HeaderParser().parsestr(group, headersonly=True).items():
            block.setdefault(name.lower(), str(value)[:HEADER])
        if block:
            blocks.append(block)
    return blocks


def readable(value: str) -> str:
    """A header field with its encoded words read (RFC 2047), whatever their charset is said to be."""
    if "=?" not in value:
        return value
    try:
        chunks = decode_header(value)
    except (HeaderParseError, ValueError):
        return value
    return "".join(_decoded(chunk) if isinstance(chunk, bytes) else chunk for chunk, _ in chunks)


def _ours(values: Iterable[str], returns: str) -> list[str]:
    found = (address for value in values for address in ADDRESS.findall(value) if _maybe_ours(address, returns))
    return list(itertools.islice(dict.fromkeys(found), MOST_ADDRESSES))


def _maybe_ours(address: str, returns: str) -> bool:
    """By its looks. Any domain will do: a mail server may have a name of its own for ours, and forwarders wrap
    addresses in theirs."""
    local, _, domain = address.lower().rpartition("@")
    mailbox, _, home = returns.lower().partition("@")
    before, plus, after = local.rpartition("+")
    return bool(plus) and ((before, domain) == (mailbox, home) or links.RETURN.fullmatch(after) is not None)


def _cut(raw: bytes) -> bytes:
    raw = INNER.sub(b"text/", raw[:OCTETS])
    raw = b"".join(_shorter(itertools.islice(_lines(raw), LINES)))
    deep = next(itertools.islice(NEST.finditer(raw), NESTED, None), None)
    return raw[: deep.start()] if deep else raw


def _lines(raw: bytes) -> Iterator[bytes]:
    return iter(raw.splitlines(keepends=True))


def _shorter(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Each header field cut off, folded or not: the library takes hours over a long list of parameters."""
    left: int | None = None
    for line in lines:
        if line[:1] not in (b" ", b"\t"):
            left = HEADER if FIELD.match(line) else None
        if left is None or len(line) <= left:
            yield line
        elif cut := line[:left].rstrip():
            yield cut + b"\n"
        if left is not None:
            left = max(left - len(line), 0)


def _decoded(said: bytes) -> str:
    """As UTF-8 or else as Western; a charset that a mail names is not looked up. We look for plain words."""
    try:
        return said.decode()
    except UnicodeDecodeError:
        return said.decode("cp1252", "replace")
