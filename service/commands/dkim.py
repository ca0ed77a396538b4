"""`vinkje dkim …`"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask.cli import AppGroup

from service import dkim, errors, pem, settings

LONGEST = 255  # octets of one string in a TXT record; readers put them together (RFC 6376 §3.6.2.2)

group = AppGroup("dkim", help="Keys to sign our mails with, when the relay doesn't.")


@group.command(with_appcontext=False)
def show() -> None:
    """The records to put in DNS for the keys in the settings, as they stand in a zone file."""
    settings.current_or_exit()
    signer = dkim.signer()
    if signer is None:
        raise errors.SettingsRefused("no key is set: `vinkje dkim create DIR` makes them and says what to set")
    for name, text in signer.records():
        parts = [f'"{text[start : start + LONGEST]}"' for start in range(0, len(text), LONGEST)]
        click.echo(f"{name}. IN TXT ( {' '.join(parts)} )")


@group.command(with_appcontext=False)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def create(folder: Path) -> None:
    """Make an RSA and an Ed25519 key in DIR, and print the settings that use them.

    Their names hold the month, so that newer keys can lie beside those in use.
    """
    month = f"{datetime.now(UTC):%Y%m}"
    wanted: dict[str, tuple[str, pem.Key]] = {
        "RSA": (f"rsa{month}", pem.new_rsa()),
        "ED25519": (f"ed{month}", Ed25519PrivateKey.generate()),
    }
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for selector, _ in wanted.values():
            if (folder / f"{selector}.pem").exists():
                raise errors.SettingsRefused("%(file)s is there already, and may be in use", file=f"{selector}.pem")
        for selector, key in wanted.values():
            pem.write(folder / f"{selector}.pem", key)
    except OSError as fault:
        raise errors.SettingsRefused("can't write in %(folder)s: %(why)s", folder=folder, why=fault.strerror) from None
    for kind, (selector, _) in wanted.items():
        click.echo(f"DKIM_{kind}_KEY_FILE={(folder / selector).absolute()}.pem")
        click.echo(f"DKIM_{kind}_SELECTOR={selector}")
