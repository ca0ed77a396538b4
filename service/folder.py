"""DATA_DIR, and what the settings keep there. Closed to other users of the machine."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from service import errors

SHORTEST_SECRET = 32
ADDRESS = "base_url"  # the file that says where `vinkje up` serves
MAILBOX = "mailbox"  # the folder of the mails that it catches
MAILS = 1000  # the newest of those are kept
HALF = ".half"  # how the name of one ends while it is written


def make(folder: Path) -> None:
    """Closed to other users when we make it: readers' addresses and links are in its files."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise unwritable(folder, fault) from None


def kept_secret(path: Path) -> str:
    """Embedded mode makes its own secret once, so that links survive a restart.

    Two processes may start at once: the file appears whole, and the first one's stays.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        if not path.exists():
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        kept = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as fault:
        raise unwritable(path, fault) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    if len(kept) < SHORTEST_SECRET:
        raise errors.SettingsRefused("DATA_DIR: %(path)s is damaged; put it back, or set SECRET_KEY", path=path)
    return kept


def write_whole(path: Path, content: str) -> None:
    """All of it or nothing, also when the machine fails meanwhile."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            draft.chmod(0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as fault:
        raise unwritable(path, fault) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def unwritable(path: Path, fault: OSError) -> errors.SettingsRefused:
    return errors.SettingsRefused("DATA_DIR: can't write %(path)s: %(why)s", path=path, why=fault.strerror)
