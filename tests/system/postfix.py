"""Debian's Postfix as the relay: an instance of our own, in a folder and on a port of its own.

The machine's Postfix, its /etc/postfix and its port 25 are left alone, whether it runs or not.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import fakes, processes

COMMAND = Path("/usr/sbin/postfix")
# As strict as the newest Postfix is by itself, and stricter. We are a stranger to it, though we come from its own
# machine: `mynetworks` is empty, else it would let loopback do what it forbids others.
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
myhostname = relay.example
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_transport = error:this relay delivers here or nowhere
alias_maps =
biff = no

virtual_mailbox_domains = {domains}
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}

smtpd_relay_restrictions = reject_unauth_destination
smtpd_helo_required = yes
smtpd_helo_restrictions = reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname
smtpd_sender_restrictions = reject_non_fqdn_sender
smtpd_recipient_restrictions = reject_non_fqdn_recipient
smtpd_data_restrictions = reject_unauth_pipelining, reject_multi_recipient_bounce
smtpd_peername_lookup = no
smtpd_forbid_unauth_pipelining = yes
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
strict_rfc821_envelopes = yes
strict_8bitmime_body = yes
strict_mime_encoding_domain = yes
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/etc/certificate.pem
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

# What virtual(8) and smtpd(8) put above a message, in this order.
ABOVE = re.compile(
    rb"Return-Path: <(?P<sender>[^>\n]*)>\nX-Original-To: (?P<asked>.*)\nDelivered-To: (?P<recipient>.*)\n"
    rb"Received: .*\n(?:[ \t].*\n)*?[ \t]by relay\.example \(Postfix\) with (?P<protocol>\w+) id .*\n(?:[ \t].*\n)*"
)
DAEMON = re.compile(r"postfix/(?:master|smtpd|cleanup|qmgr|trivial-rewrite|virtual|bounce|error)\[\d+\]: (.*)")
TROUBLE = re.compile(
    r"(?:warning|error|fatal|panic|reject|milter-reject|hold|discard): |improper|bare <?[LC]|too many|timeout"
    r"|status=(?!sent)|dsn=[45]|\b[45]\d\d[ -][45]\.\d+\.\d+|\bdisconnect from .* \w+=\d+/\d+"
)


@dataclass(frozen=True)
class Letter:
    """A file of the Maildir. `message` is what lies below Postfix's own headers, with CRLF again as on the wire."""

    sender: str
    asked: str
    recipient: str
    protocol: str
    message: bytes


class Postfix:
    """A running relay that puts all mail for `domains` in one Maildir. Needs root, as Postfix does."""

    def __init__(self, *domains: str) -> None:
        self._domains = domains
        self._port = processes.free_port()
        # Not under pytest's own folder: that is closed to the users that Postfix works as.
        self._folder = Path(tempfile.mkdtemp(prefix="vinkje-postfix-"))

    def __enter__(self) -> Postfix:
        try:
            self._lay_out()
            self._command("check")
            self._command("start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *fault: object) -> None:
        try:
            # After five seconds it takes SIGKILL itself, for the whole group.
            subprocess.run([COMMAND, "-c", self._folder / "etc", "stop"], capture_output=True, timeout=30, check=False)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, starttls: str) -> str:
        return f"smtp://127.0.0.1:{self._port}?starttls={starttls}"

    @property
    def port(self) -> int:
        return self._port

    def count(self) -> int:
        return sum(1 for _ in os.scandir(self._box)) if self._box.exists() else 0

    def letters(self) -> Iterator[Letter]:
        for file in self._box.iterdir():
            content = file.read_bytes()
            above = ABOVE.match(content)
            assert above, content[:1000]
            yield Letter(
                **{name: value.decode() for name, value in above.groupdict().items()},
                message=content[above.end() :].replace(b"\n", b"\r\n"),
            )

    def log(self) -> list[str]:
        """What the daemons said that take, queue and deliver mail."""
        lines = (self._folder / "log/mail.log").read_text().splitlines()
        return [said[1] for line in lines if (said := DAEMON.search(line))]

    def troubles(self) -> list[str]:
        """The lines of the log that a well-behaved client never causes."""
        return [line for line in self.log() if TROUBLE.search(line)]

    @property
    def _box(self) -> Path:
        return self._folder / "box/new"

    def _lay_out(self) -> None:
        self._folder.chmod(0o755)
        mailer, owner = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        for name in ("etc", "queue", "data", "log", "box"):
            (self._folder / name).mkdir(mode=0o755)
        os.chown(self._folder / "data", mailer.pw_uid, mailer.pw_gid)
        os.chown(self._folder / "box", owner.pw_uid, owner.pw_gid)
        known = {"folder": self._folder, "domains": ", ".join(self._domains), "owner": owner}
        (self._folder / "etc/main.cf").write_text(MAIN.format(**known))
        (self._folder / "etc/master.cf").write_text(MASTER.format(port=self._port))
        shutil.copy(fakes.CERTIFICATE, self._folder / "etc/certificate.pem")

    def _command(self, *words: str) -> None:
        command: Sequence[str | Path] = [COMMAND, "-c", self._folder / "etc", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        log = self._folder / "log/mail.log"
        assert done.returncode == 0, f"{command}: {done.stderr}{log.read_text() if log.exists() else ''}"
