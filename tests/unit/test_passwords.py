from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters

from service import errors
from service.newsroom import passwords

KNOWN = ("Anneke.deVries@gemeente.example", "Anneke de Vries")


def test_the_hash_is_argon2id_with_the_numbers_of_requirement_6_2() -> None:
    found = passwords.hash_of("de kat drinkt koude thee", known=KNOWN)
    assert found.startswith("$argon2id$")
    numbers = extract_parameters(found)
    assert (numbers.memory_cost, numbers.time_cost, numbers.parallelism) == (19 * 1024, 2, 1)


def test_a_password_fits_its_own_hash_only() -> None:
    found = passwords.hash_of("de kat drinkt koude thee", known=KNOWN)
    assert passwords.fits("de kat drinkt koude thee", found)
    assert not passwords.fits("de kat drinkt warme thee", found)


@pytest.mark.parametrize("nothing", ["", "not a hash"])
def test_without_a_hash_nothing_fits(nothing: str) -> None:
    assert not passwords.fits("nobody has this password", nothing)


def test_two_spellings_of_one_character_are_one_password() -> None:
    found = passwords.hash_of("caf\u00e9 op de hoek", known=KNOWN)
    assert passwords.fits("cafe\u0301 op de hoek", found)


@pytest.mark.parametrize(
    "password",
    [
        "elf letters",
        "wachtwoord123",
        "Welkom2026!!",
        "123456789012",
        "aaaaaaaaaaaaaaaa",
        "qwertyqwerty1",
        "Vinkje-Vinkje-1",
        "annekedevries",
        "gemeente.example",
        "x" * 201,
    ],
)
def test_a_password_that_anybody_tries_first_is_refused(password: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        passwords.hash_of(password, known=KNOWN)
    assert refused.value.field == "password"


@pytest.mark.parametrize(
    "password", ["zeven gele fietsen", "x7#Kq9-vLp2m", "correct paard batterij", "пять жёлтых велосипедов"]
)
def test_no_rule_about_kinds_of_characters(password: str) -> None:
    assert passwords.hash_of(password, known=KNOWN)


def test_an_older_hash_is_made_anew() -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash("de kat drinkt koude thee")
    new = passwords.renewed("de kat drinkt koude thee", old)
    assert new != old
    assert passwords.fits("de kat drinkt koude thee", new)
    assert passwords.renewed("de kat drinkt koude thee", new) == new
