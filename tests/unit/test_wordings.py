"""Evidence says which text somebody saw. So a text that was published never changes: a new one gets a new number."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.subscribers import consent

PUBLISHED = {
    "address-1.en": "1eb67f5eb1e4a3a649ee2e76aa5a15f937c1a304121d837f289cc3634a2a04b8",
    "address-1.nl": "5014a73f6ecb5e8e1250bf496f859be61fa59e0c237b1f2f28f73e574ba49020",
    "address-2.en": "de34369ea386538c355ede1e377494d6911ca9e4d25e9c8362c815153482a5f6",
    "address-2.nl": "3ef6abfded1c1e6f7728414ad7be65dfe2f08b0a4413553c1841cbad308ae5c8",
    "confirm-1.en": "4d0034aa3062f3f9ccfd20e5f8e52be254f201a993c152b0ad4b3bbbc6891852",
    "confirm-1.nl": "00e1f10d32bb09a433577b2c1998b0a60b5bb9a47d87c5c83d3d298e16d942e1",
    "confirm-2.en": "0d9d4774433e087c15a56c2121117e65f03fcd7daefd60d2f75f69f1963fb1ff",
    "confirm-2.nl": "1c0e6a8e935caa8d297c812bc0f0fd631316487766ab5dbc1e4acf1dbfbc53da",
    "elsewhere-1.en": "5b4c1528ac653ddea40036c9e4de63a7286a29ba33027ac7540aacdf1ac2288a",
    "elsewhere-1.nl": "4fe6b3320afba726eb7ac3c451bafc61b643daf073301b2e205e5afe20b008db",
    "form-1.en": "c179c76d9b61a75f1da091c31c1339603b0e4e3eb3938129ae95c1aaf1eb4030",
    "form-1.nl": "c63c94dae44c66d9ecd433c3d0d330835fec6b4bed4e0b2fc708dedf1fc91947",
    "import-1.en": "2dab19fb18cf2f97fc1307472f8d488d9d3c5ffc69a7431fd6aaf17bb26fdb70",
    "import-1.nl": "3b45b712504ec55394844df7a1cb49f0c49a823263231c407a8d952cfd91c7c9",
    "import-2.en": "2544aa85f6decbe40baec2eb1cf268cb6f3bc7a0dd53725a7ec38a2662a0b5a7",
    "import-2.nl": "8aa8daedff2180b2c4fdcaedbfdd26a778a82949a40ab87b24f46bab889b9e8a",
    "preferences-1.en": "5fdb3fb1e2b762b7ff07b956389f53194cef0d05dcfdfd01f3dca81f193085e4",
    "preferences-1.nl": "26ce8b2ace3aaa17f34138a28916dc3a4f5bc21d9c0466c66964fcb82a041e44",
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_published_text_is_what_it_was(name: str) -> None:
    text, _, language = name.rpartition(".")
    assert consent.wording(text, language).hash == PUBLISHED[name], f"{name} was shown: give the new text a new number"


def test_each_text_is_published_in_both_languages() -> None:
    files = Path(consent.__file__).parent / "wordings"
    assert {path.stem for path in files.iterdir()} == PUBLISHED.keys(), "add the hash of a new text here"
    in_use = {value for name, value in vars(consent).items() if name.isupper() and isinstance(value, str)}
    assert in_use.isdisjoint(consent.EARLIER)
    known = {f"{name}.{language}" for name in (*in_use, *consent.EARLIER) for language in ("nl", "en")}
    assert known == PUBLISHED.keys(), "the privacy page shows each: say in consent.py which door shows it, or did"
