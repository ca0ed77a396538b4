from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service import cli, dkim, pem, settings


def vinkje(*words: str) -> Result:
    """As in a process of its own, which reads its settings anew."""
    settings._in_use.clear()
    return CliRunner().invoke(cli.cli, words, prog_name="vinkje")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setattr(settings, "_in_use", [])
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    monkeypatch.setenv("MAIL_FROM", "Bureau Voorbeeld <nieuws@voorbeeld.example>")


def test_keys_are_made_set_and_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = vinkje("dkim", "create", str(tmp_path / "keys"))
    assert made.exit_code == 0, made.output
    lines = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert list(lines) == [
        "DKIM_RSA_KEY_FILE",
        "DKIM_RSA_SELECTOR",
        "DKIM_ED25519_KEY_FILE",
        "DKIM_ED25519_SELECTOR",
    ]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    files = list((tmp_path / "keys").iterdir())
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    assert pem.rsa(Path(lines["DKIM_RSA_KEY_FILE"])).key_size == 2048

    for name, value in lines.items():
        monkeypatch.setenv(name, value)
    shown = vinkje("dkim", "show")
    assert shown.exit_code == 0, shown.output
    settings.use(settings.load())
    signer = dkim.signer()
    assert signer is not None
    published = {}
    for line in shown.stdout.splitlines():
        found = re.fullmatch(r'(\S+)\. IN TXT \( ("[^"]+"(?: "[^"]+")*) \)', line)
        assert found
        parts = re.findall(r'"([^"]+)"', found[2])
        assert max(map(len, parts)) <= 255
        published[found[1]] = "".join(parts)
    assert published == dict(signer.records())
    assert list(published) == [
        f"{lines['DKIM_RSA_SELECTOR']}._domainkey.voorbeeld.example",
        f"{lines['DKIM_ED25519_SELECTOR']}._domainkey.voorbeeld.example",
    ]
    assert [text.partition(" p=")[0] for text in published.values()] == ["v=DKIM1; k=rsa;", "v=DKIM1; k=ed25519;"]


def test_keys_that_are_there_stay(tmp_path: Path) -> None:
    vinkje("dkim", "create", str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.glob("*.pem")}
    assert len(before) == 2
    again = vinkje("dkim", "create", str(tmp_path))
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert {path: path.read_bytes() for path in tmp_path.glob("*.pem")} == before


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = vinkje("dkim", "create", str(tmp_path / "file" / "keys"))
    assert refused.exit_code == 1
    assert refused.stderr.startswith("vinkje: can't write in ")


def test_without_keys_there_is_nothing_to_publish() -> None:
    refused = vinkje("dkim", "show")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "no key is set" in refused.stderr


def test_a_wrong_key_stops_every_process_with_a_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DKIM_RSA_KEY_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("DKIM_RSA_SELECTOR", "x")
    refused = vinkje("dkim", "show")
    assert refused.exit_code == 2
    assert f"DKIM_RSA_KEY_FILE: can't read {tmp_path}/gone.pem: No such file" in refused.output
