"""Private keys in PEM files, read and made. What reads raises ValueError with the reason, and never repeats the key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import AfterValidator

SMALLEST, SMALL = 1024, 2048  # bits of an RSA key that DKIM may have and should have (RFC 8301 §3.2)
PUBLIC_EXPONENT = 65537

Key = RSAPrivateKey | Ed25519PrivateKey


def rsa(path: Path) -> RSAPrivateKey:
    key = _read(path, "openssl genrsa 2048")
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(f"{path} holds a key of another kind than RSA")
    if key.key_size < SMALLEST:
        raise ValueError(f"{path} holds a key of {key.key_size} bits; receivers want 2048, and no less than 1024")
    return key


def ed25519(path: Path) -> Ed25519PrivateKey:
    key = _read(path, "openssl genpkey -algorithm ed25519")
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds a key of another kind than Ed25519")
    return key


def new_rsa() -> RSAPrivateKey:
    return generate_private_key(PUBLIC_EXPONENT, SMALL)


def write(path: Path, key: Key) -> None:
    """For this user's eyes only. Raises FileExistsError rather than lose a key that may be in use."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:  # noqa: PTH123  # by its handle
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _read(path: Path, maker: str) -> object:
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except OSError as fault:
        raise ValueError(f"can't read {path}: {fault.strerror}") from None
    except TypeError:
        raise ValueError(f"{path} is locked with a password; give one without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no private key in PEM; `vinkje dkim create` or `{maker}` makes one") from None


def _holds(read: Callable[[Path], object]) -> Callable[[Path], Path]:
    def checked(path: Path) -> Path:
        read(path)
        return path

    return checked


RsaFile = Annotated[Path, AfterValidator(_holds(rsa))]
Ed25519File = Annotated[Path, AfterValidator(_holds(ed25519))]
