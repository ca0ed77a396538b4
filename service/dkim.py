"""Signatures of our own under every mail, for those whose relay doesn't sign (RFC 6376): rsa-sha256, and
ed25519-sha256 beside it (RFC 8463), which receivers that don't know it skip. Decision 0013.

Relaxed on both sides, and over the whole body (no l=). No time in it: a mail is the same at each try.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service import pem, settings

# Requirements 1.8.
SIGNED = frozenset((
    b"from", b"reply-to", b"subject", b"date", b"to", b"cc", b"mime-version", b"content-type", b"message-id",
    b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"feedback-id",
))  # fmt: skip
# Named once more than they are there: who adds another one on the way breaks the signature (RFC 6376 §8.15).
OVERSIGNED = (b"from", b"subject", b"to", b"date", b"list-unsubscribe", b"list-unsubscribe-post")
WIDTH = 72  # of the signatures' own lines

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class Key:
    algorithm: str  # as in a=
    selector: str
    private: pem.Key

    def sign(self, said: bytes) -> bytes:
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(said, PKCS1v15(), SHA256())
        return self.private.sign(hashlib.sha256(said).digest())  # of the hash (RFC 8463 §3)

    def record(self) -> str:
        """What stands in DNS (RFC 6376 §3.6.1, RFC 8463 §4)."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k={self.algorithm.partition('-')[0]}; p={b64encode(octets).decode()}"


@dataclass(frozen=True)
class Seal:
    """What signs many messages that have these headers in common: `fixed` is their relaxed form, and an opening is
    a signature as far as its bh=, as it goes out and relaxed."""

    fixed: bytes
    openings: tuple[tuple[Key, bytes, bytes], ...]

    def headers(self, own: bytes, body: bytes) -> bytes:
        """The signatures, to be put before all else. `own`: this message's own header lines, in the order that was
        told; `body`: its relaxed form."""
        signed = self.fixed + b"".join(line for _, line in _relaxed(own))
        digest = b64encode(hashlib.sha256(body).digest())
        made = []
        for key, opening, relaxed in self.openings:
            signature = b64encode(key.sign(b"".join((signed, relaxed, digest, b"; b="))))
            folded = b"\r\n ".join(signature[place : place + WIDTH] for place in range(0, len(signature), WIDTH))
            made += [opening, digest, b";\r\n b=", folded, b"\r\n"]
        return b"".join(made)


@dataclass(frozen=True, eq=False)
class Signer:
    domain: str
    keys: tuple[Key, ...]

    def sign(self, message: bytes) -> bytes:
        head, _, body = message.partition(b"\r\n\r\n")
        relaxed = relaxed_body(body.decode("latin-1")).encode("latin-1")
        return self.seal(head).headers(b"", relaxed) + message

    def seal(self, head: bytes, own: Iterable[str] = ()) -> Seal:
        """`own`: the names of headers that come before those of `head`, and differ by message."""
        lines = list(_relaxed(head))
        names = [name for name, _ in lines] + [name.lower().encode() for name in reversed(list(own))]
        openings = [(key, self._opening(key, (*names, *OVERSIGNED))) for key in self.keys]
        return Seal(
            fixed=b"".join(line for _, line in lines),
            openings=tuple((key, opening, _relaxed_lines(opening)[0]) for key, opening in openings),
        )

    def records(self) -> list[tuple[str, str]]:
        """What must stand in DNS: names, and the text of their TXT records."""
        return [(f"{key.selector}._domainkey.{self.domain}", key.record()) for key in self.keys]

    def _opening(self, key: Key, names: Iterable[bytes]) -> bytes:
        lines = textwrap.wrap(b" ".join(names).decode(), WIDTH, break_on_hyphens=False)
        listed = ":\r\n  ".join(line.replace(" ", ":") for line in lines)
        return (
            f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed;\r\n"
            f" d={self.domain}; s={key.selector};\r\n h={listed};\r\n bh="
        ).encode()


def sign(message: bytes) -> bytes:
    """A whole message, signed when we have keys."""
    chosen = signer()
    return chosen.sign(message) if chosen else message


def signer() -> Signer | None:
    """None when no key is set."""
    chosen = settings.current()
    return _signer(
        chosen.mail_domain,
        ("rsa-sha256", chosen.dkim_rsa_selector, chosen.dkim_rsa_key_file),
        ("ed25519-sha256", chosen.dkim_ed25519_selector, chosen.dkim_ed25519_key_file),
    )


def relaxed_body(text: str) -> str:
    """RFC 6376 §3.4.4, of a body whose line ends are CRLF. Characters stand for octets (service/spots.py)."""
    text = re.sub(r"[ \t]+", " ", text).replace(" \r\n", "\r\n").rstrip("\r\n")
    return f"{text}\r\n" if text else ""


def _relaxed(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The names of the headers we sign and their relaxed lines, from the bottom up (RFC 6376 §5.4.2)."""
    for line in reversed(_relaxed_lines(head)):
        name = line.partition(b":")[0]
        if name in SIGNED:
            yield name, line + b"\r\n"


def _relaxed_lines(head: bytes) -> list[bytes]:
    """RFC 6376 §3.4.2, without their line ends."""
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", head).split(b"\r\n")
    spaced = re.compile(rb"[ \t]+")
    fields = (spaced.sub(b" ", line).partition(b":") for line in unfolded)
    return [name.rstrip(b" ").lower() + b":" + value.strip(b" ") for name, _, value in fields]


@lru_cache(maxsize=4)
def _signer(domain: str, *wanted: tuple[str, str, Path | None]) -> Signer | None:
    keys = []
    for algorithm, selector, path in wanted:
        if path is not None:
            private = pem.rsa(path) if algorithm.startswith("rsa") else pem.ed25519(path)
            keys.append(Key(algorithm, selector, private))
            if isinstance(private, RSAPrivateKey) and private.key_size < pem.SMALL:
                log.warning("dkim_key_short", bits=private.key_size)
    return Signer(domain, tuple(keys)) if keys else None
