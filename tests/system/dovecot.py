"""Debian's Dovecot as the mailbox of RETURN_ADDRESS: a server of our own, in a folder and on ports of its own.

The machine's Dovecot and its /etc/dovecot are left alone, whether it runs or not.
"""

from __future__ import annotations

import contextlib
import imaplib
import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests import fakes, processes

COMMAND = Path("/usr/sbin/dovecot")
USER, PASSWORD = "bounces@vinkje.example", "a pässword, with/signs"
CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/certificate.pem
ssl_key = <{folder}/certificate.pem
auth_mechanisms = plain
auth_failure_delay = 0
mail_location = maildir:{folder}/mail
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={owner.pw_uid} gid={owner.pw_gid} home={folder}/mail
}}
service imap-login {{
  inet_listener imap {{
    port = {plain}
  }}
  inet_listener imaps {{
    port = {tls}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


class Dovecot:
    """A running server with one mailbox. Needs root, as Dovecot does."""

    def __init__(self) -> None:
        self.plain, self.tls = processes.free_port(), processes.free_port()
        # Not under pytest's own folder: that is closed to the users that Dovecot works as.
        self._folder = Path(tempfile.mkdtemp(prefix="vinkje-dovecot-"))

    def __enter__(self) -> Dovecot:
        self._folder.chmod(0o755)
        owner = pwd.getpwnam("nobody")
        for name in ("run", "state", "mail"):
            (self._folder / name).mkdir(mode=0o755)
        os.chown(self._folder / "mail", owner.pw_uid, owner.pw_gid)
        shutil.copy(fakes.CERTIFICATE, self._folder / "certificate.pem")
        (self._folder / "users").write_text(f"{USER}:{PASSWORD}\n")
        known = {"folder": self._folder, "owner": owner, "plain": self.plain, "tls": self.tls}
        (self._folder / "dovecot.conf").write_text(CONFIG.format(**known))
        self._process = subprocess.Popen(
            [COMMAND, "-F", "-c", self._folder / "dovecot.conf"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            processes.wait_until(self._answers, 20, "Dovecot answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *fault: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def opened(self) -> Iterator[imaplib.IMAP4]:
        """As a mail program does."""
        with imaplib.IMAP4_SSL("127.0.0.1", self.tls, ssl_context=trusting(), timeout=20) as mailbox:
            mailbox.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
            mailbox.select("INBOX")
            yield mailbox

    def put(self, mails: Iterable[bytes]) -> None:
        with self.opened() as mailbox:
            for raw in mails:
                answer, said = mailbox.append("INBOX", "", "", raw)
                assert answer == "OK", said

    def held(self, wanted: str = "ALL") -> int:
        """How many mails are in it that a search finds."""
        with self.opened() as mailbox:
            return len(mailbox.search(None, wanted)[1][0].split())

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log()
        with contextlib.suppress(OSError, imaplib.IMAP4.error), self.opened():
            return True
        return False

    def _log(self) -> str:
        log = self._folder / "log"
        return f"{self._process.communicate()[1]!r} {log.read_text() if log.exists() else ''}"


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(fakes.CERTIFICATE))
