"""Every signed link, made and read in one place.

A link holds a purpose and row numbers, never an address. Its signature is 32 bytes of
HMAC-SHA256 under a key of its own purpose, so a link for one door opens no other. It is
that of itsdangerous' Signer (tests/unit/test_links.py), which takes up the key anew for
each link: too slow for a million readers with two links and a Message-ID each.
Base address from the settings, never from the request (requirements 4.9).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from enum import StrEnum
from functools import lru_cache

from service import errors, settings

LONGEST = 100  # two row numbers, a dot, 43 characters of signature, and room
BLOCK = 64  # octets that SHA-256 takes at a time
URLSAFE = bytes.maketrans(b"+/", b"-_")


class Purpose(StrEnum):
    CONFIRM = "confirm"
    PREFERENCES = "preferences"
    UNSUBSCRIBE = "unsubscribe"
    INVITATION = "invitation"


def confirm(confirmation_id: int) -> str:
    return _url(Purpose.CONFIRM, confirmation_id)


def preferences(subscriber_id: int) -> str:
    return _url(Purpose.PREFERENCES, subscriber_id)


def unsubscribe(subscriber_id: int, theme_id: int) -> str:
    """Never expires: mail is read late (requirements 4.7)."""
    return _url(Purpose.UNSUBSCRIBE, subscriber_id, theme_id)


def invitation(editor_id: int, version: int) -> str:
    """`version` is the editor's password count: a used invitation opens nothing."""
    return _url(Purpose.INVITATION, editor_id, version)


def page(path: str) -> str:
    return f"{settings.current().base_url}/{path.lstrip('/')}"


def read(purpose: Purpose, token: str) -> tuple[int, ...]:
    """The row numbers a token holds. Raises LinkRefused when it was not made by us for this purpose."""
    payload = token.rpartition(".")[0]
    # Ours are short and ASCII; Unicode's other digits would pass int().
    for key in _keys() if token.isascii() and len(token) <= LONGEST else ():
        # Signing anew and comparing whole strings: base64 has several spellings of one signature.
        if hmac.compare_digest(_signed(payload, _derived(purpose, key)), token):
            return tuple(int(part) for part in payload.split("-"))
    raise errors.LinkRefused("This link isn't valid. Perhaps a part of it got lost.")


def token(purpose: Purpose, *numbers: int) -> str:
    payload = "-".join(map(str, numbers))
    return _signed(payload, _derived(purpose, settings.current().secret_key))


def keyed_hash(purpose: str, value: str) -> str:
    """For what we must recognise and may not read: addresses, networks. Key outside the database."""
    return _keyed_hash(purpose, value, settings.current().secret_key)


def keyed_hashes(purpose: str, value: str) -> list[str]:
    """The newest first, then under SECRET_KEYS_PREVIOUS: what must be recognised after the key changed."""
    return [_keyed_hash(purpose, value, key) for key in _keys()]


def _keyed_hash(purpose: str, value: str, key: str) -> str:
    return _hmac(key.encode(), f"vinkje.{purpose}:{value}".encode()).hex()


def _url(purpose: Purpose, *numbers: int) -> str:
    return f"{settings.current().base_url}/{purpose}/{token(purpose, *numbers)}"


def _keys() -> tuple[str, ...]:
    chosen = settings.current()
    return (chosen.secret_key, *chosen.secret_keys_previous)


def _signed(payload: str, derived: bytes) -> str:
    signature = binascii.b2a_base64(_hmac(derived, payload.encode()), newline=False)
    return f"{payload}.{signature[:-1].translate(URLSAFE).decode()}"  # 32 bytes: one "=" at the end


@lru_cache(maxsize=32)
def _derived(purpose: Purpose, key: str) -> bytes:
    return _hmac(key.encode(), f"vinkje.{purpose}".encode())


def _hmac(key: bytes, said: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104 §2). hmac.digest takes twice as long: it takes up the key at each call."""
    started, closing = _halves(key)
    inner, outer = started.copy(), closing.copy()
    inner.update(said)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=32)
def _halves(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    inner, outer = (bytes(octet ^ pad for octet in block) for pad in (0x36, 0x5C))
    return hashlib.sha256(inner), hashlib.sha256(outer)
