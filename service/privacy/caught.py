"""Mails that `vinkje up` caught: files in DATA_DIR with a reader's address and links in them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from service import folder, settings
from service.privacy.spellings import Spelled


def forget(*, emails: Collection[str]) -> None:
    """Throw away each caught mail to or about one of these. Where no mail is caught there is nothing to do.

    In the transaction and not after it: the address is known nowhere once that is over. A rollback costs no more
    than mails which only this machine shows.
    """
    spelled = [Spelled(email) for email in emails]
    for path in mails():
        with contextlib.suppress(FileNotFoundError):  # it made room for a newer one
            data = path.read_bytes()
            if any(one.inside(data) for one in spelled):
                path.unlink()


def mails() -> Iterator[Path]:
    yield from sorted((settings.current().data_dir / folder.MAILBOX).glob("*.*"))
