"""What we ask a relay to send back, when it offers to (RFC 3461, requirements 1.6)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import settings, urls
from worker.single import Relay

TAKES = {b"MAIL": "250 2.1.0 OK", b"RCPT": "250 2.1.5 OK", b"QUIT": "221 bye"}


class Server:
    """For one connection; `heard` are its command lines."""

    def __init__(self, *offers: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._offers = offers
        self.heard: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        self._thread.join(10)
        self._listening.close()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection, contextlib.suppress(ConnectionError), connection.makefile("rwb", buffering=0) as lines:
            lines.write(b"220 server\r\n")
            while line := lines.readline():
                self.heard.append(line.decode().rstrip())
                verb = line[:4].upper()
                if verb == b"DATA":
                    lines.write(b"354 go on\r\n")
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                    lines.write(b"250 2.0.0 taken\r\n")
                elif verb == b"EHLO":
                    lines.write(
                        "".join(f"250-{offer}\r\n" for offer in ("server", *self._offers)).encode() + b"250 HELP\r\n"
                    )
                else:
                    lines.write(TAKES[verb].encode() + b"\r\n")
                if verb == b"QUIT":
                    return


def deliver(chosen: settings.Settings, *offers: str, to: str = "saskia@gemeente.example") -> list[str]:
    settings.use(chosen)
    server = Server(*offers)
    with contextlib.closing(server):
        line = Relay(urls.relay(server.url), hello="vinkje.example")
        with line:
            assert line.deliver(sender="bounces@vinkje.example", recipient=to, message=b"a\r\n").code == 250
    return [said for said in server.heard if said.startswith(("MAIL", "RCPT"))]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[settings.Settings]:
    before = list(settings._in_use)
    yield settings.load(data_dir=tmp_path)
    settings._in_use[:] = before


@pytest.fixture
def returning(plain: settings.Settings) -> settings.Settings:
    return plain.model_copy(update={"return_address": "bounces@vinkje.example"})


def test_a_relay_is_asked_for_failures_only_and_for_no_more_than_the_headers(returning: settings.Settings) -> None:
    assert deliver(returning, "SIZE 1000000", "DSN") == [
        "MAIL FROM:<bounces@vinkje.example> SIZE=3 RET=HDRS",
        "RCPT TO:<saskia@gemeente.example> NOTIFY=FAILURE",
    ]


def test_beside_the_options_of_an_address_outside_ascii(returning: settings.Settings) -> None:
    assert deliver(returning, "DSN", "8BITMIME", "SMTPUTF8", to="zoë@gemeente.example") == [
        "MAIL FROM:<bounces@vinkje.example> RET=HDRS BODY=8BITMIME SMTPUTF8",
        "RCPT TO:<zoë@gemeente.example> NOTIFY=FAILURE",
    ]


def test_a_relay_that_does_not_offer_it_is_asked_nothing(returning: settings.Settings) -> None:
    assert deliver(returning) == ["MAIL FROM:<bounces@vinkje.example>", "RCPT TO:<saskia@gemeente.example>"]


def test_without_a_return_address_nobody_reads_what_comes_back(plain: settings.Settings) -> None:
    assert deliver(plain, "DSN") == ["MAIL FROM:<bounces@vinkje.example>", "RCPT TO:<saskia@gemeente.example>"]
