"""One address, however it is spelled, and nobody else's."""

from __future__ import annotations

import base64
import email.message
import email.policy
import html
import json
import quopri
import urllib.parse
from email.header import Header

import pytest
from hypothesis import given
from hypothesis import strategies as some

from service.privacy.spellings import Spelled

SASKIA = "Saskia.O'Brien+nieuws@xn--bcher-kva.example"
READ = "Saskia.O'Brien+nieuws@bücher.example"


def _in_a_mail(encoding: str) -> bytes:
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail.set_content(f"Beste lezer, wij schrijven u op {SASKIA}, omdat u zich inschreef. " * 9, cte=encoding)
    return mail.as_bytes()


SPELLINGS = {
    "plain": f"to {SASKIA}, from us".encode(),
    "lower": SASKIA.lower().encode(),
    "upper": SASKIA.upper().encode(),
    "as a person reads its domain": READ.encode(),
    "in a link": f"/?email={urllib.parse.quote(SASKIA)}&x=1".encode(),
    "in a link, small letters": f"/?email={urllib.parse.quote_plus(READ).lower()}".encode(),
    "in HTML": html.escape(f"<a href='mailto:{SASKIA}'>{SASKIA}</a>").encode(),
    "in JSON": json.dumps({"to": f"\n{READ}"}).encode(),
    "quoted-printable": quopri.encodestring(SASKIA.encode(), quotetabs=True),
    "in a mail, quoted-printable": _in_a_mail("quoted-printable"),
    "in a mail, base64": _in_a_mail("base64"),
    "in a header": Header(f"Zoë <{SASKIA}>", "utf-8", maxlinelen=60).encode().encode(),
    "in a header, base64": Header(f"ŽŠČĆĐ ŽŠČĆĐ ŽŠČĆĐ <{SASKIA}>", "utf-8", maxlinelen=40).encode().encode(),
    "a log line": f'event=x text="{SASKIA}"\n'.encode(),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_it_is_seen(how: str) -> None:
    assert Spelled(SASKIA).inside(SPELLINGS[how])


@pytest.mark.parametrize("form", [SASKIA, SASKIA.lower(), SASKIA.upper()])
@pytest.mark.parametrize("shift", range(3))
def test_base64_is_seen_at_each_alignment(form: str, shift: int) -> None:
    inner = b"x" * shift + form.encode() + b"y" * 7
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes):
        assert Spelled(SASKIA).inside(b"body=" + encode(inner))


@given(before=some.binary(max_size=60), after=some.binary(max_size=60))
def test_it_is_seen_among_any_bytes(before: bytes, after: bytes) -> None:
    assert Spelled(SASKIA).inside(before + b" <" + SASKIA.encode() + b"> " + after)


@given(before=some.binary(max_size=60), after=some.binary(max_size=60))
def test_it_is_seen_in_base64_among_any_bytes(before: bytes, after: bytes) -> None:
    assert Spelled(SASKIA).inside(base64.encodebytes(before + SASKIA.encode() + after))


@pytest.mark.parametrize(
    "other",
    [
        b"an@x.example",
        b"j.an@x.example",
        b"j-jan@x.example",
        b"jan@x.example.org",
        b"jan@x.examples",
        b"jan at x.example",
    ],
)
def test_a_longer_address_is_another(other: bytes) -> None:
    assert not Spelled("jan@x.example").inside(b"to <" + other + b">, please")
