"""Every signed link, made and read in one place.

A link holds a purpose and row numbers, never an address. Its signature is 32 bytes of
HMAC-SHA256 under a key of its own purpose, so a link for one door opens no other.
Base address from the settings, never from the request (requirements 4.9).
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from functools import lru_cache

from itsdangerous import Signer

from service import errors, settings

LONGEST = 100  # two row numbers, a dot, 43 characters of signature, and room


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
        if hmac.compare_digest(_signer(purpose, key).sign(payload.encode()), token.encode()):
            return tuple(int(part) for part in payload.split("-"))
    raise errors.LinkRefused("This link isn't valid. Perhaps a part of it got lost.")


def token(purpose: Purpose, *numbers: int) -> str:
    payload = "-".join(str(number) for number in numbers)
    return _signer(purpose, settings.current().secret_key).sign(payload).decode()


def keyed_hash(purpose: str, value: str) -> str:
    """For what we must recognise and may not read: addresses, networks. Key outside the database."""
    return keyed_hashes(purpose, value)[0]


def keyed_hashes(purpose: str, value: str) -> list[str]:
    """The newest first, then under SECRET_KEYS_PREVIOUS: what must be recognised after the key changed."""
    said = f"vinkje.{purpose}:{value}".encode()
    return [hmac.digest(key.encode(), said, hashlib.sha256).hex() for key in _keys()]


def _url(purpose: Purpose, *numbers: int) -> str:
    return f"{settings.current().base_url}/{purpose}/{token(purpose, *numbers)}"


def _keys() -> tuple[str, ...]:
    chosen = settings.current()
    return (chosen.secret_key, *chosen.secret_keys_previous)


@lru_cache(maxsize=32)
def _signer(purpose: Purpose, key: str) -> Signer:
    return Signer(key, salt=f"vinkje.{purpose}", key_derivation="hmac", digest_method=hashlib.sha256)
