"""Messages as bytes for the wire: CRLF, seven bits, lines of 76 at most.

An edition is cut once at its personal spots and encoded; a reader's message is then a join of
byte strings (decision 0010, service/spots.py). What comes out is, byte for byte, what the standard
library writes for that reader (tests/unit/test_wire.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email import policy
from email.header import Header
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.quoprimime import body_encode
from email.utils import quote
from functools import lru_cache
from typing import Any, NamedTuple

from service import dkim, spots

UNSUBSCRIBE = "@@vinkje-unsubscribe@@"
PREFERENCES = "@@vinkje-preferences@@"

LINE = 76  # RFC 2045 §6.7; the standard library's own 78 is two too many for quoted-printable
# Quoted-printable never gives "=_", so no text can hold it (RFC 2045 §6.7, note on boundaries).
BOUNDARY = "=_vinkje"
SHAPES = 64  # of links that an edition keeps in mind; row numbers have few lengths
JOINERS = "\u200c\u200d"  # invisible, but they hold emoji together
TEXT_SPOT, HTML_SPOT = "@@text@@", "@@html@@"


class Plain(UnstructuredHeader, BaseHeader):
    """A header whose tokens go out as they are; a long one is folded at its spaces only.

    The standard library turns a List-Unsubscribe of more than 78 characters into encoded words,
    which no receiver reads, and may break an address in two. We encode what needs it beforehand.
    """

    max_count = 1

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        super().parse(value, kwds)
        kwds["decoded"] = value  # as given: encoded words stay encoded

    def fold(self, *, policy: policy.Policy) -> str:
        lines = [f"{self.name}:"]
        for token in self.split():
            # The first token stays on the header's own line, however long it is.
            if len(lines[-1]) + 1 + len(token) > LINE and not lines[-1].endswith(":"):
                lines.append("")
            lines[-1] += f" {token}"
        return policy.linesep.join(lines) + policy.linesep


def _registry() -> HeaderRegistry:
    registry = HeaderRegistry()
    for name in (
        "from", "reply-to", "to", "subject", "message-id", "feedback-id",
        "list-id", "list-unsubscribe", "list-unsubscribe-post", "list-post",
    ):  # fmt: skip
        registry.map_to_type(name, Plain)
    return registry


POLICY = policy.SMTP.clone(header_factory=_registry(), max_line_length=LINE, cte_type="7bit")
UTF8_POLICY = POLICY.clone(utf8=True)


def phrase(text: str) -> str:
    """Words for a header, encoded when they need it (RFC 2047 §5). Line breaks and controls become spaces."""
    clean = " ".join("".join(letter if letter.isprintable() or letter in JOINERS else " " for letter in text).split())
    if clean.isascii() and "=?" not in clean:
        return clean
    return " ".join(Header(clean, "utf-8", maxlinelen=LINE - 11).encode(linesep="").split())


def mailbox(name: str, address: str) -> str:
    """As in `Vinkje <nieuws@example.nl>`. The address is taken as it is: it must have been checked."""
    shown = phrase(name)
    if not shown:
        return address
    if shown.isascii() and "=?" not in shown and not all(part.isalnum() for part in shown.split()):
        shown = f'"{quote(shown)}"'
    return f"{shown} <{address}>"


def write(headers: Mapping[str, str], *, text: str, html: str) -> bytes:
    """One whole message through the standard library. An address outside ASCII is written raw (RFC 6532 §3.2)."""
    message = EmailMessage(policy=UTF8_POLICY if _needs_utf8(headers) else POLICY)
    for name, value in headers.items():
        message[name] = value
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    message.set_boundary(BOUNDARY)
    return message.as_bytes()


def _needs_utf8(headers: Mapping[str, str]) -> bool:
    return not headers.get("To", "").isascii()


class Wired(NamedTuple):
    """`content` is dot-stuffed and ends a line; the lone dot is still to come. `size` counts neither
    those dots nor that one (RFC 1870 §5)."""

    content: bytes
    size: int


class _Encoded(NamedTuple):
    """An edition for readers whose links have one shape."""

    plain: spots.Spotted
    stuffed: spots.Spotted
    dots: int
    relaxed: spots.Spotted | None  # the body as it is signed


@dataclass(frozen=True)
class Pieces:
    """An edition, encoded: `bytes` are everybody's, a `str` is a source line with marks. `head` is the headers,
    without the last line end; a reader's own, and with a `seal` the signatures, come before them."""

    head: bytes
    chunks: tuple[bytes | str, ...]
    seal: dkim.Seal | None = None
    _known: dict[tuple[bytes, bytes], _Encoded] = field(default_factory=dict, compare=False, repr=False)

    def fill(self, *, to: str, message_id: str, unsubscribe: str, preferences: str, leave_to: str = "") -> bytes:
        """`to` is a checked address, raw in the header when it isn't ASCII (then the relay needs SMTPUTF8).
        The links are for both the body and List-Unsubscribe. Not dot-stuffed."""
        leave, choose = unsubscribe.encode(), preferences.encode()
        encoded = self._encoded(leave, choose)
        head = self._own_head(encoded, leave + choose, personal(to, message_id, unsubscribe, leave_to))
        return encoded.plain.fill(head, leave + choose)

    def wire(self, *, to: str, message_id: str, unsubscribe: str, preferences: str, leave_to: str = "") -> Wired:
        """What `fill` gives, ready for after DATA."""
        leave, choose = unsubscribe.encode(), preferences.encode()
        encoded = self._encoded(leave, choose)
        head = self._own_head(encoded, leave + choose, personal(to, message_id, unsubscribe, leave_to))
        content = encoded.stuffed.fill(head, leave + choose)
        return Wired(content, len(content) - encoded.dots)

    def _own_head(self, encoded: _Encoded, links: bytes, headers: Mapping[str, str]) -> bytes:
        # A signed link leaves no room on its line for what comes after it.
        head = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).replace(", <", ",\r\n <").encode()
        if self.seal is None or encoded.relaxed is None:
            return head
        return self.seal.headers(head, encoded.relaxed.fill(b"", links)) + head

    def _encoded(self, leave: bytes, choose: bytes) -> _Encoded:
        shapes = leave.translate(spots.SHAPE), choose.translate(spots.SHAPE)
        found = self._known.get(shapes)
        if found is None:
            steady = all(map(spots.steady, shapes))
            found = self._encode(leave, choose, shapes if steady else None)
            if steady and len(self._known) < SHAPES:
                self._known[shapes] = found
        return found

    def _encode(self, leave: bytes, choose: bytes, shapes: tuple[bytes, bytes] | None) -> _Encoded:
        """For all links of these shapes; without shapes for these two alone."""
        own = leave.decode("latin-1"), choose.decode("latin-1")
        if shapes:
            own = spots.stand_ins(0, len(leave)), spots.stand_ins(len(leave), len(leave) + len(choose))
        body = "".join(
            chunk.decode("latin-1")
            if isinstance(chunk, bytes)
            else _encode(fill(_octets(chunk), unsubscribe=own[0], preferences=own[1]))
            for chunk in self.chunks
        )
        text = f"{self.head.decode('latin-1')}\r\n\r\n{body}"
        stuffed, dots = spots.stuffed(text, b"".join(shapes or ()))
        relaxed = spots.spotted(dkim.relaxed_body(body)) if self.seal else None
        return _Encoded(spots.spotted(text), spots.spotted(stuffed), dots, relaxed)


def personal(to: str, message_id: str, unsubscribe: str, leave_to: str = "") -> dict[str, str]:
    """The headers of one reader. Exactly one HTTPS link to leave (RFC 8058 §3.1), on one line; after it an
    address, mail to which does the same (RFC 2369 §2: the preferred one first)."""
    if not to.isprintable():
        raise ValueError("an address with control characters")  # the standard library refuses them too
    leave = f"<{unsubscribe}>, <mailto:{leave_to}?subject=unsubscribe>" if leave_to else f"<{unsubscribe}>"
    return {"To": to, "Message-ID": message_id, "List-Unsubscribe": leave}


def fill(content: str, *, unsubscribe: str, preferences: str) -> str:
    """A reader's text or HTML, before it is encoded."""
    return content.replace(UNSUBSCRIBE, unsubscribe).replace(PREFERENCES, preferences)


def without_marks(content: str) -> str:
    """So that a mark which an editor typed doesn't become a reader's link.

    Not taken out but replaced: what stood around it must not close up to a new one.
    """
    return content.replace(UNSUBSCRIBE, "…").replace(PREFERENCES, "…")


def cut(subject: str, html: str, text: str, *, headers: Mapping[str, str], signer: dkim.Signer | None = None) -> Pieces:
    """`headers` are everybody's: From, Date, List-Id… Those of `personal` come from `fill`."""
    return _cut(subject, html, text, tuple(headers.items()), signer)


@lru_cache(maxsize=8)  # a round asks for the same few editions with every batch
def _cut(
    subject: str, html: str, text: str, headers: tuple[tuple[str, str], ...], signer: dkim.Signer | None
) -> Pieces:
    frame = write({"Subject": phrase(subject), **dict(headers)}, text=TEXT_SPOT, html=HTML_SPOT)
    # The spots are looked for below the headers only: there the frame holds no word of anybody's.
    head, _, body = frame.partition(b"\r\n\r\n")
    before, _, rest = body.partition(TEXT_SPOT.encode())
    between, _, after = rest.partition(HTML_SPOT.encode())
    chunks: list[bytes | str] = [before, *_lines(text), between, *_lines(html), after]
    return Pieces(head, tuple(_joined(chunks)), signer.seal(head, own=personal("", "", "")) if signer else None)


def _lines(content: str) -> list[bytes | str]:
    """Quoted-printable works line by line: a line without marks has one encoding for all readers."""
    chunks: list[bytes | str] = []
    for line in content.encode().splitlines():
        source = line.decode()
        marked = UNSUBSCRIBE in source or PREFERENCES in source
        chunks += [source if marked else _encode(_octets(source)).encode("ascii"), b"\r\n"]
    return chunks[:-1]  # the frame brings the last line end


def _joined(chunks: list[bytes | str]) -> list[bytes | str]:
    joined: list[bytes | str] = []
    for chunk in chunks:
        if isinstance(chunk, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += chunk
        else:
            joined.append(chunk)
    return joined


def _encode(octets: str) -> str:
    return body_encode(octets, LINE, "\r\n")


def _octets(text: str) -> str:
    """As the encoder wants them: a character for each."""
    return text.encode().decode("latin-1")
