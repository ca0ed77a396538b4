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
import re
from enum import StrEnum
from functools import lru_cache

from service import errors, settings

LONGEST = 100  # two row numbers, a dot, 43 characters of signature, and room
BLOCK = 64  # octets that SHA-256 takes at a time
URLSAFE = bytes.maketrans(b"+/", b"-_")


RETURN = re.compile(r"(?P<payload>[bu](?P<first>[0-9]{1,18})-(?P<second>[0-9]{1,18}))-(?P<signature>[0-9a-f]{20})")


class Purpose(StrEnum):
    CONFIRM = "confirm"
    PREFERENCES = "preferences"
    UNSUBSCRIBE = "unsubscribe"
    INVITATION = "invitation"
    DATA = "data"
    ADDRESS = "address"
    BLOCK = "block"


def confirm(confirmation_id: int) -> str:
    return _url(Purpose.CONFIRM, confirmation_id)


def preferences(subscriber_id: int, moved: int = 0) -> str:
    """`moved`: how often the reader changed their address. A link from before opens no more than leaving.

    Nearly nobody moves: then it isn't in the link.
    """
    return _url(Purpose.PREFERENCES, subscriber_id, moved) if moved else _url(Purpose.PREFERENCES, subscriber_id)


def unsubscribe(subscriber_id: int, theme_id: int, moved: int = 0) -> str:
    """Never expires: mail is read late (requirements 4.7). `moved` as above; leaving works whatever it is."""
    if moved:
        return _url(Purpose.UNSUBSCRIBE, subscriber_id, theme_id, moved)
    return _url(Purpose.UNSUBSCRIBE, subscriber_id, theme_id)


def data(letter_id: int) -> str:
    """To everything we hold about a reader. Only in a letter mailed to their own address."""
    return _url(Purpose.DATA, letter_id)


def address(letter_id: int) -> str:
    """To the button that makes the address this letter went to the reader's own."""
    return _url(Purpose.ADDRESS, letter_id)


def block(confirmation_id: int) -> str:
    """To "this wasn't me, never mail me again", in the mail that a sign-up caused."""
    return _url(Purpose.BLOCK, confirmation_id)


def block_letter(letter_id: int) -> str:
    """The same, in the mail to an address that a reader filled in as their new one."""
    return _url(Purpose.BLOCK, 0, letter_id)


def return_path(issue_id: int, subscriber_id: int) -> str:
    """Where a bounce of this one mail goes (VERP, requirements 1.6). Needs RETURN_ADDRESS."""
    return _returning("b", issue_id, subscriber_id)


def unsubscribe_address(subscriber_id: int, theme_id: int) -> str:
    """Mail to it ends the theme (RFC 2369 §3.2). Needs RETURN_ADDRESS."""
    return _returning("u", subscriber_id, theme_id)


def read_return(address: str) -> tuple[str, int, int]:
    """The kind ("b" or "u") and the two row numbers of one of our return addresses. Raises LinkRefused.

    Mail servers on the way may have changed the case of its letters (RFC 5321 §2.4 lets them not, some do).
    """
    found = RETURN.fullmatch(address.rpartition("@")[0].rpartition("+")[2].lower())
    if found is not None:
        payload, signature = found["payload"], found["signature"]
        if any(hmac.compare_digest(_short(payload, key), signature) for key in _keys()):
            return payload[0], int(found["first"]), int(found["second"])
    raise errors.LinkRefused("This is no return address of ours.")


def invitation(editor_id: int, version: int) -> str:
    """`version` is the editor's password count: a used invitation opens nothing."""
    return _url(Purpose.INVITATION, editor_id, version)


def page(path: str) -> str:
    return f"{settings.current().base_url}/{path.lstrip('/')}"


def read(purpose: Purpose, token: str) -> tuple[int, ...]:
    """The row numbers a token holds. Raises LinkRefused when it was not made by us for this purpose; LinkLeaked when it
    may have been made by whoever has a key of ours.
    """
    # Ours are short and ASCII; Unicode's other digits would pass int().
    ours = token.isascii() and len(token) <= LONGEST
    if ours and _made_with(_keys(), purpose, token):
        return tuple(int(part) for part in token.rpartition(".")[0].split("-"))
    if ours and _made_with(settings.current().secret_keys_leaked, purpose, token):
        raise errors.LinkLeaked(
            "We’ve changed our keys, so that links in our older mails don’t work any more. "
            "That was needed: somebody else could have made such links."
        )
    raise errors.LinkRefused("This link isn’t valid. Perhaps a part of it got lost.")


def read_block(token: str) -> tuple[int, int]:
    """Confirmation and letter; one of them is 0. Raises LinkRefused."""
    confirmation_id, *letter_id = read(Purpose.BLOCK, token)
    return confirmation_id, letter_id[0] if letter_id else 0


def read_preferences(token: str) -> tuple[int, int]:
    """Subscriber and `moved`. Raises LinkRefused."""
    subscriber_id, *since = read(Purpose.PREFERENCES, token)
    return subscriber_id, since[0] if since else 0


def read_unsubscribe(token: str) -> tuple[int, int, int]:
    """Subscriber, theme and `moved`. Raises LinkRefused."""
    subscriber_id, theme_id, *since = read(Purpose.UNSUBSCRIBE, token)
    return subscriber_id, theme_id, since[0] if since else 0


def token(purpose: Purpose, *numbers: int) -> str:
    payload = "-".join(map(str, numbers))
    return _signed(payload, _derived(purpose, settings.current().secret_key))


def keyed_hash(purpose: str, value: str) -> str:
    """For what we must recognise and may not read: addresses, networks. Key outside the database."""
    return _keyed_hash(purpose, value, settings.current().secret_key)


def keyed_hashes(purpose: str, value: str) -> list[str]:
    """The newest first, then under older and leaked keys: what must be recognised after the key changed."""
    return [_keyed_hash(purpose, value, key) for key in (*_keys(), *settings.current().secret_keys_leaked)]


def _keyed_hash(purpose: str, value: str, key: str) -> str:
    return _hmac(key.encode(), f"vinkje.{purpose}:{value}".encode()).hex()


def _url(purpose: Purpose, *numbers: int) -> str:
    return f"{settings.current().base_url}/{purpose}/{token(purpose, *numbers)}"


def _returning(kind: str, first: int, second: int) -> str:
    chosen = settings.current()
    mailbox, _, domain = chosen.return_address.partition("@")
    payload = f"{kind}{first}-{second}"
    return f"{mailbox}+{payload}-{_short(payload, chosen.secret_key)}@{domain}"


def _short(payload: str, key: str) -> str:
    """80 bits, in digits that keep their meaning in capitals."""
    return _hmac(_derived("return", key), payload.encode()).hex()[:20]


def _keys() -> tuple[str, ...]:
    """Whose signatures we believe."""
    chosen = settings.current()
    return (chosen.secret_key, *chosen.secret_keys_previous)


def _made_with(keys: tuple[str, ...], purpose: Purpose, token: str) -> bool:
    """Signing anew and comparing whole strings: base64 has several spellings of one signature."""
    payload = token.rpartition(".")[0]
    return any(hmac.compare_digest(_signed(payload, _derived(purpose, key)), token) for key in keys)


def _signed(payload: str, derived: bytes) -> str:
    signature = binascii.b2a_base64(_hmac(derived, payload.encode()), newline=False)
    return f"{payload}.{signature[:-1].translate(URLSAFE).decode()}"  # 32 bytes: one "=" at the end


@lru_cache(maxsize=32)
def _derived(purpose: str, key: str) -> bytes:
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
