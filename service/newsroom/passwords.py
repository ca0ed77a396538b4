"""Editors' passwords: argon2id, and which ones are too easy (requirements 6.2).

Length counts, composition doesn't. Twelve characters at least; a sentence is the better choice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service import errors

SHORTEST, LONGEST = 12, 200
# What must be left, in different characters, once the words that anybody tries first are taken out.
ENOUGH = 6

# OWASP Password Storage: 19 MiB, two passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Verified when there is no such editor, so that the answer takes as long.
NOBODY = HASHER.hash("nobody has this password")

EASY = (
    "1234567890", "123456789", "12345678", "1234567", "123456", "12345", "0987654321", "987654321", "654321",
    "qwertyuiop", "qwerty", "azerty", "asdfghjkl", "zxcvbnm", "abcdefgh", "abcdef", "abc123", "1q2w3e4r", "1q2w3e",
    "wachtwoord", "password", "passw0rd", "p@ssw0rd", "passwort", "welkom", "welcome", "geheim", "secret", "letmein",
    "iloveyou", "ikhouvanjou", "admin", "administrator", "beheerder", "redactie", "nieuwsbrief", "newsletter",
    "vinkje", "login", "inloggen", "toegang", "default", "changeme", "test", "amsterdam", "rotterdam", "utrecht",
    "nederland", "gemeente", "feyenoord", "ajax", "voorjaar", "lente", "zomer", "herfst", "winter", "summer", "spring",
    "januari", "februari", "maart", "april", "juni", "juli", "augustus", "september", "oktober", "november", "december",
    "maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag", "monkey", "dragon", "football",
    "voetbal", "sunshine", "princess", "prinses", "superman", "batman", "master", "trustno1",
)  # fmt: skip


def hash_of(password: str, *, known: Iterable[str]) -> str:
    """`known`: what others know about the editor (address, name). Raises Refused("password", …)."""
    password = _normal(password)
    if len(password) < SHORTEST:
        raise errors.Refused("password", "Use at least %(least)s characters. A short sentence is fine.", least=SHORTEST)
    if len(password) > LONGEST:
        raise errors.Refused("password", "Use at most %(most)s characters.", most=LONGEST)
    if _is_easy(password, known):
        raise errors.Refused(
            "password", "This password is easy to guess. Take a sentence that only you would think of."
        )
    return HASHER.hash(password)


def fits(password: str, password_hash: str) -> bool:
    """Takes the same time for an editor who isn't there or has no password yet: pass ""."""
    try:
        return HASHER.verify(password_hash or NOBODY, _normal(password)[: LONGEST + 1]) and bool(password_hash)
    except (VerificationError, InvalidHashError):
        return False


def renewed(password: str, password_hash: str) -> str:
    """The hash under today's parameters; the same one when they haven't changed."""
    return HASHER.hash(_normal(password)) if HASHER.check_needs_rehash(password_hash) else password_hash


def _normal(password: str) -> str:
    """Two keyboards' spellings of one é are one password (NIST SP 800-63B §3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def _is_easy(password: str, known: Iterable[str]) -> bool:
    words = {word for text in known for word in re.split(r"[^a-z0-9]+", text.lower()) if len(word) >= 3}
    left = password.lower()
    for word in sorted(words | set(EASY), key=len, reverse=True):
        left = left.replace(word, "")
    return len(set(left)) < ENOUGH
