from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.subscribers import addresses


@pytest.mark.parametrize(
    ("typed", "email", "key"),
    [
        ("Jan.Jansen+nieuws@Gemeente.NL", "Jan.Jansen+nieuws@gemeente.nl", "jan.jansen+nieuws@gemeente.nl"),
        (" jan@gemeente.nl\u00a0", "jan@gemeente.nl", "jan@gemeente.nl"),
        ("jan@bücher.example", "jan@xn--bcher-kva.example", "jan@xn--bcher-kva.example"),
        ("jan@BÜCHER.example", "jan@xn--bcher-kva.example", "jan@xn--bcher-kva.example"),
    ],
)
def test_an_address_is_kept_as_typed_and_compared_in_one_form(typed: str, email: str, key: str) -> None:
    assert addresses.parse(typed) == addresses.Address(email=email, key=key)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "   ",
        "jan",
        "jan@",
        "@gemeente.nl",
        "jan@gemeente",
        "jan@gemeente.nl\r\nBcc: piet@x.nl",
        "jan\n@gemeente.nl",
        "jan@gemeente.nl\n",
        "jan\x00@gemeente.nl",
        "jan@10.0.0.1",
        "jan@[10.0.0.1]",
        "jan jansen@gemeente.nl",
        '"jan"@gemeente.nl',
        "jan@gemeente.nl, piet@gemeente.nl",
        "a" * 65 + "@gemeente.nl",
        "a" * 290 + "@gemeente.nl",
        "jan@" + "a" * 250 + ".nl",
    ],
)
def test_what_is_no_address_is_refused_on_its_field(typed: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        addresses.parse(typed)
    assert refused.value.field == "email"


def test_a_local_part_outside_ascii_waits_for_a_relay_that_can() -> None:
    with pytest.raises(errors.Refused, match="special letters"):
        addresses.parse("jürgen@gemeente.nl")
    assert addresses.parse("jürgen@gemeente.nl", smtputf8=True).email == "jürgen@gemeente.nl"


@given(st.text(max_size=400))
def test_any_text_is_an_address_or_refused(typed: str) -> None:
    try:
        address = addresses.parse(typed)
    except errors.Refused:
        return
    assert address.email.isascii()
    assert len(address.email) <= 254
    assert address.email.isprintable()
    assert addresses.parse(address.email).key == address.key
