from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from itsdangerous import Signer

from service import errors, links, settings
from service.links import Purpose

NEW, OLD = "a new secret of more than thirty-two characters", "an old secret of more than thirty-two characters"
LETTERS = "ABCxyz019-_."


@pytest.fixture(autouse=True, scope="module")
def _secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = list(settings._in_use)
    use(tmp_path_factory.mktemp("links"), NEW)
    yield
    settings._in_use[:] = before


def use(data_dir: Path, key: str, *older: str) -> None:
    settings.use(
        settings.load(data_dir=data_dir, secret_key=key, secret_keys_previous=older, base_url="https://news.example.nl")
    )


def refuses(purpose: Purpose, token: str) -> None:
    with pytest.raises(errors.LinkRefused):
        links.read(purpose, token)


@trying(deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 2**31))
def test_what_a_link_holds_is_read_back(first: int, second: int) -> None:
    assert links.read(Purpose.UNSUBSCRIBE, links.token(Purpose.UNSUBSCRIBE, first, second)) == (first, second)


@trying(deadline=None)
@given(
    st.sampled_from(Purpose),
    st.lists(st.integers(0, 2**63), min_size=1, max_size=2),
    st.text(st.characters(codec="utf-8"), min_size=32, max_size=80),
)
def test_a_link_is_signed_as_itsdangerous_does(purpose: Purpose, numbers: list[int], key: str) -> None:
    """So links in mails of before we signed them ourselves keep working."""
    standard = Signer(key, salt=f"vinkje.{purpose}", key_derivation="hmac", digest_method=hashlib.sha256)
    made = links._signed("-".join(map(str, numbers)), links._derived(purpose, key))
    assert made.encode() == standard.sign("-".join(map(str, numbers)))


def test_a_link_that_itsdangerous_signed_opens_its_door() -> None:
    standard = Signer(NEW, salt="vinkje.unsubscribe", key_derivation="hmac", digest_method=hashlib.sha256)
    signed = standard.sign("1234567-12").decode()
    assert links.read(Purpose.UNSUBSCRIBE, signed) == (1234567, 12)
    assert links.unsubscribe(1234567, 12) == f"https://news.example.nl/unsubscribe/{signed}"


def test_links_start_with_the_base_address_and_stay_short() -> None:
    made = [links.confirm(2**31), links.preferences(2**31), links.unsubscribe(2**31, 2**31), links.invitation(1, 0)]
    assert all(link.startswith("https://news.example.nl/") for link in made)
    assert [link.split("/")[3] for link in made] == ["confirm", "preferences", "unsubscribe", "invitation"]
    assert max(len(link) for link in made) < 120
    assert links.page("/privacy") == "https://news.example.nl/privacy"


def test_a_link_holds_numbers_and_a_signature_only() -> None:
    payload, _, signature = links.token(Purpose.UNSUBSCRIBE, 12, 3).rpartition(".")
    assert payload == "12-3"
    assert len(signature) == 43


@pytest.mark.parametrize("purpose", Purpose)
def test_a_token_changed_at_any_place_is_refused(purpose: Purpose) -> None:
    token = links.token(purpose, 12, 3)
    for place in range(len(token)):
        for letter in LETTERS:
            if token[place] != letter:
                refuses(purpose, token[:place] + letter + token[place + 1 :])


def test_a_token_cut_off_or_grown_is_refused() -> None:
    token = links.token(Purpose.CONFIRM, 12)
    for end in range(len(token)):
        refuses(Purpose.CONFIRM, token[:end])
        refuses(Purpose.CONFIRM, token[end + 1 :])
    for grown in (f"{token}=", f"{token}A", f" {token}", f"{token}\n", f"{token}.", f"0{token}", f"-{token}"):
        refuses(Purpose.CONFIRM, grown)


def test_a_token_opens_only_the_door_it_was_made_for() -> None:
    for made in Purpose:
        for door in Purpose:
            if made is not door:
                refuses(door, links.token(made, 12, 3))


@trying(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    refuses(Purpose.CONFIRM, text)


def test_other_spellings_of_a_token_are_refused() -> None:
    token = links.token(Purpose.CONFIRM, 12)
    for other in (
        token.replace("12", "１２"),  # digits to int(), not to us
        token.replace("12", "0012"),
        token.replace("12", "+12"),
        f"{token}\udcff",
        "9" * 5000 + token,
        "9" * 5000 + "." + token.partition(".")[2],
        "x" * 1_000_000,
    ):
        refuses(Purpose.CONFIRM, other)


def test_links_made_before_the_key_changed_still_work(tmp_path: Path) -> None:
    use(tmp_path, OLD)
    token, hashed = links.token(Purpose.UNSUBSCRIBE, 12, 3), links.keyed_hash("suppression", "x")
    use(tmp_path, NEW, "another key of more than thirty-two characters", OLD)
    assert links.read(Purpose.UNSUBSCRIBE, token) == (12, 3)
    assert links.token(Purpose.UNSUBSCRIBE, 12, 3) != token
    refuses(Purpose.PREFERENCES, token)
    assert hashed in links.keyed_hashes("suppression", "x")
    assert links.keyed_hash("suppression", "x") != hashed
    use(tmp_path, NEW)
    refuses(Purpose.UNSUBSCRIBE, token)


@trying(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_our_hmac_is_the_standard_librarys(key: bytes, said: bytes) -> None:
    assert links._hmac(key, said) == hmac.digest(key, said, "sha256")


@trying(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_a_keyed_hash_is_an_hmac(value: str) -> None:
    expected = hmac.new(NEW.encode(), f"vinkje.suppression:{value}".encode(), hashlib.sha256).hexdigest()
    assert links.keyed_hash("suppression", value) == expected
    assert links.keyed_hashes("suppression", value) == [expected]


def test_a_keyed_hash_depends_on_its_purpose_and_tells_nothing() -> None:
    hashed = links.keyed_hash("suppression", "saskia@gemeente.example")
    assert hashed != links.keyed_hash("signup_mail", "saskia@gemeente.example")
    assert hashed == links.keyed_hash("suppression", "saskia@gemeente.example")
    assert len(hashed) == 64
    assert "saskia" not in hashed
