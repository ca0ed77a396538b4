"""The pages of the mailbox, on files as `worker/mailbox.py` leaves them."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import flask
import pytest
import time_machine

from worker import mailbox


@pytest.fixture
def folder(app: flask.Flask, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / mailbox.FOLDER
    folder.mkdir()
    app.config["MAILBOX_DIR"] = folder
    yield folder
    app.config["MAILBOX_DIR"] = None


def put(folder: Path, number: int, source: bytes) -> str:
    name = f"{1_790_000_000_000_000_000 + number:020d}"
    (folder / f"{name}.eml").write_bytes(source)
    return f"/mailbox/{name}"


def a_mail(subject: str, html: str | None = None) -> bytes:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "nieuws@vinkje.example", "saskia@gemeente.example"
    mail.set_content("Bevestig: https://nieuws.example/confirm/1.abc\n")
    if html is not None:
        mail.add_alternative(html, subtype="html")
    return mail.as_bytes()


def test_without_a_mailbox_there_is_no_page(client: flask.testing.FlaskClient) -> None:
    for path in ("/mailbox", f"/mailbox/{0:020d}", f"/mailbox/{0:020d}/source"):
        assert client.get(path).status_code == 404


def test_the_newest_stand_first_and_older_ones_a_page_on(client: flask.testing.FlaskClient, folder: Path) -> None:
    for number in range(60):
        put(folder, number, a_mail(f"Mail {number}!"))
    first = client.get("/mailbox?lang=en").text
    assert first.index("Mail 59!") < first.index("Mail 10!")
    assert "Mail 9!" not in first
    assert "60 mails" in first
    older = client.get("/mailbox", query_string={"before": f"{1_790_000_000_000_000_010:020d}"}).text
    assert "Mail 9!" in older
    assert "Mail 10!" not in older


def test_a_mail_s_html_is_framed_without_script_or_outside_pictures(
    client: flask.testing.FlaskClient, folder: Path
) -> None:
    page = put(
        folder, 1, a_mail("Hallo", '<html><head lang="nl"><title>x</title></head><body><b>één</b></body></html>')
    )
    shown = client.get(page)
    assert f'src="{page}/document"' in shown.text
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in shown.text
    assert "frame-src 'self'" in shown.headers["Content-Security-Policy"]
    document = client.get(f"{page}/document")
    assert '<head lang="nl"><base target="_blank"><title>' in document.text
    assert "<b>één</b>" in document.text
    policy = document.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "frame-ancestors 'self'", "sandbox allow-popups"):
        assert part in policy
    assert "script-src" not in policy


def test_a_mail_with_text_only_shows_its_links(client: flask.testing.FlaskClient, folder: Path) -> None:
    page = put(folder, 1, a_mail("Alleen tekst"))
    for path in (page, f"{page}/text"):
        assert 'href="https://nieuws.example/confirm/1.abc"' in client.get(path).text
    assert client.get(f"{page}/document").status_code == 404


def test_markup_in_headers_and_text_stays_text(client: flask.testing.FlaskClient, folder: Path) -> None:
    page = put(folder, 1, a_mail("<script>alert(1)</script>"))
    for path in ("/mailbox", page, f"{page}/text", f"{page}/source"):
        assert "<script>alert" not in client.get(path).text


ELSEWHERE: dict[str, dict[str, Any]] = {
    "another machine": {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
    "another machine, over IPv6": {"environ_base": {"REMOTE_ADDR": "2001:db8::7"}},
    "a proxy on this machine": {"headers": {"X-Forwarded-For": "192.0.2.7"}},
    "who says to be a proxy on this machine": {"headers": {"X-Forwarded-For": "127.0.0.1"}},
    "a proxy that says less": {"headers": {"Forwarded": "for=192.0.2.7"}},
    "a proxy that says nothing but the name": {"headers": {"Host": "news.example.nl"}},
    "a name that was made to point here": {"headers": {"Host": "localhost.example.nl:8000"}},
    "no name at all": {"headers": {"Host": ""}},
}


@pytest.mark.parametrize("visit", ELSEWHERE.values(), ids=ELSEWHERE)
def test_who_comes_from_elsewhere_sees_no_mail(
    client: flask.testing.FlaskClient, folder: Path, visit: dict[str, Any]
) -> None:
    """Everybody's links are in it: to confirm, to change, to become an editor."""
    page = put(folder, 1, a_mail("Bevestig uw aanmelding", "<html><p>geheim</p></html>"))
    for path in ("/mailbox", page, f"{page}/text", f"{page}/source", f"{page}/document"):
        shown = client.get(path, **visit)
        assert shown.status_code == 403
        assert "Bevestig uw aanmelding" not in shown.text
        assert "geheim" not in shown.text
    assert "Het postvak gaat alleen open op de computer waarop Vinkje draait" in client.get("/mailbox", **visit).text


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1", "127.0.0.1:8000"), ("::1", "[::1]:8000"), ("::ffff:127.0.0.1", "localhost")]
)
def test_this_machine_has_several_names(
    client: flask.testing.FlaskClient, folder: Path, address: str, host: str
) -> None:
    shown = client.get("/mailbox", environ_base={"REMOTE_ADDR": address}, headers={"Host": host})
    assert shown.status_code == 200


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"no header at all",
        b"Subject: =?utf-8?q?=ff?=\nTo: <<>>\n\n\xff\xfe",
        b"Content-Type: x/y\n\nz",
        b"Content-Type: text/html; charset=klingon\n\nz",
    ],
)
def test_a_broken_mail_is_shown_all_the_same(client: flask.testing.FlaskClient, folder: Path, source: bytes) -> None:
    page = put(folder, 1, source)
    for path in ("/mailbox", page, f"{page}/text", f"{page}/source"):
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("name", ["..%2Fsecret_key", "00000000000000000001", "1", "a" * 20])
def test_only_its_own_files_are_read(client: flask.testing.FlaskClient, folder: Path, name: str) -> None:
    (folder.parent / "secret_key.eml").write_text("no")
    assert client.get(f"/mailbox/{name}/source").status_code == 404


def test_it_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "KEEP", 5)
    for round_ in range(2):  # what stands there from the last time counts too
        with mailbox.catching(tmp_path) as address:
            port = int(address.removeprefix("smtp://127.0.0.1:").partition("?")[0])
            with smtplib.SMTP("127.0.0.1", port) as line:
                for number in range(4):
                    line.sendmail("a@vinkje.example", "b@vinkje.example", f"Subject: {round_}.{number}\r\n\r\n.\r\n")
    kept = [path.read_bytes() for path in sorted((tmp_path / "mailbox").iterdir())]
    assert [mail.splitlines()[1].decode() for mail in kept] == [
        f"Subject: {n}" for n in ("0.3", *["1.0", "1.1", "1.2", "1.3"])
    ]
    assert kept[-1].endswith(b"\r\n\r\n.\r\n")


def test_what_a_kill_left_half_written_is_gone_at_the_next_start(tmp_path: Path) -> None:
    half = tmp_path / "mailbox" / f"{1:020d}.half"
    half.parent.mkdir()
    half.write_bytes(b"To: saskia@gemeente.example\r\n")
    with mailbox.catching(tmp_path):
        assert not half.exists()


def test_a_mail_that_can_not_be_kept_leaves_nothing(tmp_path: Path) -> None:
    with mailbox.catching(tmp_path) as address, time_machine.travel(0, tick=False):
        (tmp_path / "mailbox" / f"{0:020d}.eml" / "in the way").mkdir(parents=True)
        port = int(address.removeprefix("smtp://127.0.0.1:").partition("?")[0])
        with smtplib.SMTP("127.0.0.1", port) as line, pytest.raises(smtplib.SMTPDataError):
            line.sendmail("a@vinkje.example", "saskia@gemeente.example", "Subject: x\r\n\r\n.\r\n")
    assert [path.name for path in (tmp_path / "mailbox").iterdir()] == [f"{0:020d}.eml"]


def test_a_caught_mail_says_where_it_comes_back_to(client: flask.testing.FlaskClient, folder: Path) -> None:
    """So that a bounce of it can be tried. The server that delivers a mail writes that down (RFC 5321 §4.4)."""
    own = "bounces+b12-345-0123456789abcdef0123@vinkje.example"
    with mailbox.catching(folder.parent) as address:
        port = int(address.removeprefix("smtp://127.0.0.1:").partition("?")[0])
        with smtplib.SMTP("127.0.0.1", port) as line:
            for sender in (own, ""):
                line.sendmail(sender, "saskia@gemeente.example", a_mail("Nieuws"))
    first, second = (path.read_bytes() for path in sorted(folder.iterdir()))
    assert first.startswith(f"Return-Path: <{own}>\r\n".encode())
    assert second.startswith(b"Return-Path: <>\r\n")  # what a bounce itself has
    for path in folder.iterdir():
        assert (
            f"<dd>&lt;{own if own.encode() in path.read_bytes() else ''}&gt;</dd>"
            in client.get(f"/mailbox/{path.stem}").text
        )
