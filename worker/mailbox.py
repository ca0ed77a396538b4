"""The mailbox of embedded mode: an SMTP server on a free loopback port that keeps each mail as a file.

Files are named by the nanosecond they came in, so that names sort by time. `service/web/mailbox.py` shows them.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from service import folder as data_folder

KEEP = data_folder.MAILS
FOLDER = data_folder.MAILBOX


class _OnAnyPort(Controller):
    """aiosmtpd asks the port that it was given, also when that was 0."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


class _Keeper:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for half in folder.glob(f"*{data_folder.HALF}"):  # of a process that was killed: nobody counts or shows it
            half.unlink(missing_ok=True)
        self._kept = deque(sorted(folder.glob("*.eml")))

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's hook
        content: Any = envelope.content
        # Whoever delivers a mail at last writes down where it comes back to (RFC 5321 §4.4): a bounce can be tried.
        back_to = (envelope.mail_from or "").strip("<>").encode("utf-8", "surrogateescape")
        path = self._folder / f"{time.time_ns():020d}.eml"
        half = path.with_suffix(data_folder.HALF)
        try:
            half.write_bytes(b"Return-Path: <" + back_to + b">\r\n" + content)
            half.rename(path)  # a reader of the folder sees whole mails only
        finally:
            half.unlink(missing_ok=True)
        self._kept.append(path)
        while len(self._kept) > KEEP:
            self._kept.popleft().unlink(missing_ok=True)
        return "250 2.0.0 kept"


@contextlib.contextmanager
def catching(data_dir: Path) -> Iterator[str]:
    """While open, mail sent to the `SMTP_URL` it gives lands in `data_dir`/mailbox; the newest KEEP stay."""
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    server = _OnAnyPort(_Keeper(folder), hostname="127.0.0.1", port=0, enable_SMTPUTF8=False)
    server.start()
    try:
        yield f"smtp://127.0.0.1:{server.port}?starttls=never"
    finally:
        server.stop()
