"""One address in the spellings that mails, links, queues and files give it. Pure.

Encodings of text are undone before looking, so that each mixture of them is seen through; base64, which may begin
anywhere in a longer text, is looked for as it is, at its three alignments.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import re
import urllib.parse
from collections.abc import Iterator
from functools import cached_property

WORD = re.compile(r"[a-z0-9]+")
SOFT_BREAK = re.compile(rb"=\r?\n")
# RFC 2047: words of a header, and what stands between two of them.
BETWEEN = re.compile(rb"(?<=\?=)\s+(?==\?)")
HEADER_WORD = re.compile(rb"=\?[^?\s]+\?([bq])\?([^?\s]*)\?=", re.IGNORECASE)
ESCAPED = re.compile(rb"\\(?:u([0-9a-f]{4})|[nrt])")
WHITE = b" \t\r\n"
URLSAFE = bytes.maketrans(b"+/", b"-_")
# Where a longer address would go on: "an@x.nl" stands neither in "jan@x.nl" nor in "an@x.nl.example".
BEFORE, AFTER = rb"(?<![a-z0-9._+-])", rb"(?![a-z0-9-]|\.[a-z0-9])"


class Spelled:
    """One address, as it was typed in one way or several, with its domain in A-labels."""

    def __init__(self, *typed: str) -> None:
        self._forms = {form for one in typed for form in (one, one.lower(), one.upper())}
        local_part, _, domain = typed[0].lower().rpartition("@")
        with contextlib.suppress(UnicodeError):  # as a person reads its domain
            self._forms.add(f"{local_part}@{domain.encode().decode('idna')}")
        # What no encoding changes, but for base64: the longest run of letters and digits on each side of the @.
        readable = ".".join(label for label in domain.split(".") if not label.startswith("xn--"))
        self.words = [max(found, key=len) for part in (local_part, readable) if (found := WORD.findall(part))]

    @cached_property
    def in_base64(self) -> list[bytes]:
        """Those characters of it that don't depend on what stands around it."""
        found = set()
        for form in self._forms:
            for skipped, first in enumerate((0, 2, 3)):
                whole = base64.b64encode(bytes(skipped) + form.encode())
                part = whole[first : (skipped + len(form.encode())) * 8 // 6]
                found |= {part, part.translate(URLSAFE)}
        return sorted(found)

    @cached_property
    def _plain(self) -> re.Pattern[bytes]:
        forms = {re.escape(form.lower().encode()) for form in self._forms}
        return re.compile(BEFORE + rb"(?:" + rb"|".join(sorted(forms)) + rb")" + AFTER)

    def inside(self, data: bytes) -> bool:
        whole = data.translate(None, WHITE)
        if any(part in whole for part in self.in_base64):
            return True
        if b"=?" in data:
            data += b"\n" + HEADER_WORD.sub(_decoded, BETWEEN.sub(b"", data))
        joined = SOFT_BREAK.sub(b"", data).lower()
        if not all(word.encode() in joined for word in self.words):
            return False
        return any(self._plain.search(view) for view in _views(data))


def _views(data: bytes) -> Iterator[bytes]:
    """The text with its encodings undone."""
    for text in {data, binascii.a2b_qp(data)} if b"=" in data else {data}:
        low = text.lower()
        yield low
        if b"%" in low:
            yield urllib.parse.unquote_to_bytes(low).lower()
        if b"&" in low:
            yield html.unescape(low.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape").lower()
        if b"\\" in low:
            yield ESCAPED.sub(_unescaped, low).lower()


def _unescaped(found: re.Match[bytes]) -> bytes:
    return chr(int(found[1], 16)).encode("utf-8", "surrogatepass") if found[1] else b" "


def _decoded(found: re.Match[bytes]) -> bytes:
    try:
        return binascii.a2b_base64(found[2]) if found[1] in b"bB" else binascii.a2b_qp(found[2], header=True)
    except binascii.Error:
        return found[0]
