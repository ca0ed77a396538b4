"""Our signatures, read by dkimpy: another hand's reading of RFC 6376 and RFC 8463."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service import dkim, mail, pem, settings, wire
from service.issues import editions
from tests import approved_mails

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
OWN = {
    "message_id": "<i12.0123456789abcdef0123456789abcdef@voorbeeld.example>",
    "unsubscribe": "https://nieuws.voorbeeld.example/unsubscribe/1234567-12.Q7Fq0gxk_P_7RXyW4ZCPLPYbORePIvN4RhzLlx8Q6Jc",
    "preferences": "https://nieuws.voorbeeld.example/preferences/1234567.zEVR4ncyhMP_DM44f01Mv-IXZIDEZeZyEs_eR9BKMGE",
}
READERS = ["saskia@gemeente.example", "zoë@gemeente.example", f"{'l' * 64}@{'.'.join(['d' * 60] * 3)}.example"]
ODD = ["x", " ", "  ", "\t", " \t ", "\r\n", "\r\n\r\n", " \r\n", ".", "=", "=20", "\u00a0", "ë"]
LETTERS = [f"{name}.{language}" for name in ("confirmation", "already_subscribed", "invitation", "ready")
           for language in ("nl", "en")]  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    pem.write(folder / "rsa.pem", pem.new_rsa())
    pem.write(folder / "ed25519.pem", Ed25519PrivateKey.generate())
    return folder


@pytest.fixture(autouse=True, scope="module")
def signer(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dkim.Signer]:
    before = list(settings._in_use)
    approved_mails.use_settings()
    settings.use(
        settings.load(
            **{
                **settings.current().model_dump(exclude={"data_dir"}),
                "data_dir": tmp_path_factory.mktemp("data"),
                "dkim_rsa_key_file": keys / "rsa.pem",
                "dkim_rsa_selector": "rsa2026",
                "dkim_ed25519_key_file": keys / "ed25519.pem",
                "dkim_ed25519_selector": "ed2026.vinkje",
            }
        )
    )
    made = dkim.signer()
    assert made is not None
    yield made
    settings._in_use[:] = before


def verdicts(message: bytes) -> list[bool]:
    """One for each signature, by what stands in DNS."""
    chosen = dkim.signer()
    assert chosen is not None
    zone = {name.encode(): record.encode() for name, record in chosen.records()}
    count = len(re.findall(rb"(?m)^DKIM-Signature:", message.partition(b"\r\n\r\n")[0]))

    def verdict(index: int) -> bool:
        def ask(name: bytes, timeout: int = 5) -> bytes | None:
            return zone.get(name.removesuffix(b"."))

        try:
            return bool(dkimpy.DKIM(message).verify(index, dnsfunc=ask))
        except dkimpy.ValidationError:
            return False

    return [verdict(index) for index in range(count)]


def issue(signer: dkim.Signer | None, language: str = "nl") -> wire.Pieces:
    number, items = approved_mails.issue()
    rendered = editions.render(issue=number, items=items, language=language)
    pieces = editions.cut(issue=number, rendered=rendered, language=language, date=NOW)
    assert (pieces.seal is None) is (signer is None)
    return pieces


def letter(name: str, **given: str) -> bytes:
    return mail.compose(
        approved_mails.every()[name],
        to=given.get("to", READERS[0]),
        to_name=given.get("to_name", ""),
        stream=mail.Stream.CONFIRMATION,
        now=NOW,
        message_id=OWN["message_id"],
    )


def unsigned(message: bytes) -> bytes:
    return re.sub(rb"(?m)^DKIM-Signature:.*\r\n([ \t].*\r\n)*", b"", message)


def tags(message: bytes) -> list[dict[str, str]]:
    """Of each signature, without the white space."""
    found = re.findall(rb"(?m)^DKIM-Signature:(.*\r\n(?:[ \t].*\r\n)*)", message)
    return [dict(part.split("=", 1) for part in re.sub(r"\s", "", one.decode()).split(";")) for one in found]


@pytest.mark.parametrize("to", READERS)
@pytest.mark.parametrize("language", ["nl", "en"])
def test_a_newsletter_is_signed_twice(signer: dkim.Signer, language: str, to: str) -> None:
    message = issue(signer, language).fill(to=to, **OWN)
    assert verdicts(message) == [True, True]
    assert [(one["a"], one["s"], one["d"]) for one in tags(message)] == [
        ("rsa-sha256", "rsa2026", "voorbeeld.example"),
        ("ed25519-sha256", "ed2026.vinkje", "voorbeeld.example"),
    ]
    content, size = issue(signer, language).wire(to=to, **OWN)
    assert re.sub(rb"(?m)^\.\.", b".", content) == message
    assert size == len(message)


@pytest.mark.parametrize("to", READERS)
def test_a_newsletter_that_can_be_left_by_mail_is_signed_as_well(signer: dkim.Signer, to: str) -> None:
    own = {**OWN, "leave_to": "bounces+u1234567-12-0123456789abcdef0123@voorbeeld.example"}
    message = issue(signer, "nl").fill(to=to, **own)
    assert b">,\r\n <mailto:bounces+u1234567-12-" in message
    assert verdicts(message) == [True, True]
    assert verdicts(message.replace(b"mailto:bounces+u1", b"mailto:bounces+u2")) == [False, False]


@pytest.mark.parametrize("name", LETTERS)
@pytest.mark.parametrize("given", [{}, {"to_name": "Zoë, “de chef” van " + "ver " * 30}, {"to": READERS[1]}])
def test_every_other_mail_is_signed_too(name: str, given: dict[str, str]) -> None:
    message = letter(name, **given)
    assert (b"\r\n =?utf-8?" in message) is ("to_name" in given), "the long name is folded"
    assert verdicts(message) == [True, True]


def test_what_is_signed_is_what_receivers_ask_for(signer: dkim.Signer) -> None:
    for one in tags(issue(signer).fill(to=READERS[0], **OWN)):
        named = one["h"].split(":")
        for name in ("from", "subject", "to", "date", "list-unsubscribe", "list-unsubscribe-post"):
            assert named.count(name) == 2, "and one more that isn't there"
        assert {"message-id", "list-id", "mime-version", "content-type", "feedback-id"} <= set(named)
        assert one["c"] == "relaxed/relaxed"
        assert not {"l", "t", "x"} & one.keys()
    for one in tags(letter("confirmation.nl")):
        assert {"reply-to", "message-id"} <= set(one["h"].split(":"))


def test_a_mail_is_the_same_at_each_try(signer: dkim.Signer) -> None:
    assert issue(signer).fill(to=READERS[0], **OWN) == issue(signer).fill(to=READERS[0], **OWN)


def test_signatures_come_first_and_keep_to_short_lines_of_seven_bits() -> None:
    head = letter("confirmation.nl").partition(b"\r\nFrom:")[0]
    assert head.startswith(b"DKIM-Signature: ")
    assert head.isascii()
    assert max(map(len, head.split(b"\r\n"))) <= 78


def test_any_changed_octet_breaks_both(signer: dkim.Signer) -> None:
    """Of the body, and of every header that is signed; not of white space, which relays may change."""
    message = issue(signer).fill(to=READERS[0], **OWN)
    head, _, body = message.partition(b"\r\n\r\n")
    signed = set(tags(message)[0]["h"].split(":"))
    places = [
        found.start() + len(found[0]) - 1
        for found in re.finditer(rb"(?m)^([A-Za-z-]+): .*$", head)
        if found[1].decode().lower() in signed
    ]
    assert len(places) >= 10
    places += [len(head) + 4 + place for place in range(0, len(body), 397) if body[place : place + 1].strip()]
    for place in places:
        while not message[place : place + 1].strip():
            place -= 1
        changed = message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
        assert verdicts(changed) == [False, False], message[place - 20 : place + 20]


@pytest.mark.parametrize(
    "header", ["From: a@b.example", "Subject: x", "To: a@b.example", "Date: x", "List-Unsubscribe: <https://b.example>"]
)
def test_a_header_that_is_put_in_on_the_way_breaks_both(signer: dkim.Signer, header: str) -> None:
    message = issue(signer).fill(to=READERS[0], **OWN)
    assert verdicts(header.encode() + b"\r\n" + message) == [False, False]
    assert verdicts(message.replace(b"\r\nMIME-Version:", f"\r\n{header}\r\nMIME-Version:".encode())) == [False, False]
    assert verdicts(b"Received: from a by b\r\n" + message) == [True, True]


def test_a_relay_may_fold_headers_anew_and_touch_white_space(signer: dkim.Signer) -> None:
    message = issue(signer).fill(to=READERS[0], **OWN)
    head, _, body = message.partition(b"\r\n\r\n")
    refolded = head.replace(b"\r\nFrom: ", b"\r\nFROM:\r\n\t  ").replace(
        b" <mobiliteit.list-id", b"\r\n <mobiliteit.list-id"
    )
    assert refolded.count(b"\r\n") == head.count(b"\r\n") + 2
    spaced = re.sub(rb"(?<=[a-z]) (?=[a-z])", b" \t ", body).replace(b"\r\n", b" \r\n") + b"\r\n \r\n\r\n"
    assert spaced != body
    assert verdicts(refolded + b"\r\n\r\n" + spaced) == [True, True]


@trying(deadline=None)
@given(st.lists(st.sampled_from(ODD), max_size=30).map("".join))
def test_a_body_is_relaxed_as_the_standard_says(body: str) -> None:
    """Empty lines at its end, trailing spaces, nothing at all."""
    octets = f"{body}\r\n".encode() if body else b""
    assert dkim.relaxed_body(octets.decode("latin-1")).encode("latin-1") == Relaxed.canonicalize_body(octets)


@trying(deadline=None, max_examples=50)
@given(
    body=st.lists(st.sampled_from(ODD), max_size=30).map("".join),
    subject=st.lists(st.sampled_from(["x", " ", "  ", "\t", "\r\n ", "\r\n\t", ":", "ë"]), max_size=12).map("".join),
)
def test_any_message_is_signed_well(signer: dkim.Signer, body: str, subject: str) -> None:
    only = dkim.Signer(signer.domain, signer.keys[1:])
    subject = re.sub(r"(\r\n[ \t]+)+(?=\r\n|$)", "", f"a{subject}")  # a line of white space ends the headers for some
    body = f"{body}\r\n" if body else ""
    head = f"Subject:{subject}\r\nFrom: a@voorbeeld.example\r\nX-Other: x\r\nTo: zoë@gemeente.example"
    assert verdicts(only.sign(f"{head}\r\n\r\n{body}".encode())) == [True]


# Marks, dots and white space in all places; links that are like ours and links that aren't.
pieces_of_text = st.sampled_from(
    [wire.UNSUBSCRIBE, wire.PREFERENCES, " ", "\n", "\n.", "x" * 70, " " * 75, "ë", "\t\n"]
)
bodies = st.lists(pieces_of_text, max_size=15).map("".join)


@trying(deadline=None)
@given(html=bodies, text=bodies, link=st.text("ab.", max_size=90), other=st.sampled_from(["", "=", "@", " "]))
def test_an_edition_signs_as_a_whole_message_is_signed(
    signer: dkim.Signer, html: str, text: str, link: str, other: str
) -> None:
    """What is prepared once for all readers gives the signature of the message itself, read from its first octet."""
    only = dkim.Signer(signer.domain, signer.keys[1:])
    headers = {"From": "a@voorbeeld.example", "Date": "Tue, 24 Nov 2026 09:00:00 +0000", "List-Post": "NO"}
    own = {"to": "zoë@gemeente.example", "message_id": "<a@b>", "preferences": f"https://a.example/{link}"}
    own["unsubscribe"] = f"https://b.example/{link}{other}"
    plain = wire.cut("Nieuws", html, text, headers=headers).fill(**own)
    signed = wire.cut("Nieuws", html, text, headers=headers, signer=only)
    assert signed.fill(**own) == only.sign(plain)
    assert len(signed.wire(**own).content) - signed.wire(**own).size == len(re.findall(rb"(?m)^\.", plain))


def test_without_keys_nothing_is_signed(tmp_path: Path, signer: dkim.Signer) -> None:
    signed = letter("confirmation.nl")
    newsletter = issue(signer).fill(to=READERS[0], **OWN)
    before = settings.current()
    given = {name: value for name, value in before.model_dump().items() if not name.startswith("dkim")}
    try:
        settings.use(settings.load(**given))
        assert dkim.signer() is None
        assert letter("confirmation.nl") == unsigned(signed)
        assert issue(None).fill(to=READERS[0], **OWN) == unsigned(newsletter)
    finally:
        settings.use(before)


def test_a_short_key_signs_with_a_warning(tmp_path: Path, keys: Path, signer: dkim.Signer) -> None:
    pem.write(tmp_path / "short.pem", generate_private_key(65537, 1024))
    before = settings.current()
    try:
        settings.use(before.model_copy(update={"dkim_rsa_key_file": tmp_path / "short.pem"}))
        with capture_logs() as logs:
            assert verdicts(letter("confirmation.nl")) == [True, True]
            letter("confirmation.en")
        assert [(line["event"], line["log_level"], line["bits"]) for line in logs] == [
            ("dkim_key_short", "warning", 1024)
        ]
    finally:
        settings.use(before)
