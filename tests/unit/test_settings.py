from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat

from service import errors, folder, pem, settings

SPKI = PublicFormat.SubjectPublicKeyInfo
# Of 768 bits, and for nothing else than being refused.
WEAK = """\
-----BEGIN RSA PRIVATE KEY-----
MIIBywIBAAJhANdW8uwYWfodNOGr6KTzRUd+qbPaNs/2VNUmfm3L+NEDg+AGL2g1
FtPQ/Dr6qht9M06Ir4nn9KrZkAWcINfYNvc84xoVupiPXIIF6k7IkRBSPITsroVQ
q2ijxhSji4wiEwIDAQABAmBlAFhSWp2hTZ+nFa256IyfGw7X18sLwdtKWpLERv5+
cqqhIeWMeBIr6YLU2wt8dz0DtzTLGEZJibcZ6OflizCjeQedUzCVLkDRCZuFrvPM
WM3trmrRfEtBu7pukRtqzFECMQD5oWXNQdUIhJ7V48EoZwMy90k1QU7AuF8O7xwu
lgR0NQWCI3GCItOi90l1q8tV28sCMQDc1Y+5dWrMKgvyrtKtV7/w7ivRPDU1CJWa
YL8XSmnv5iFHUvt4bj0PLa42fHoqGdkCMARnOGh6dMuFq1eSgOG5j3Dis8Pgtwbn
OaYFybV4p/N0y/gTr/jfrGP/gKg2s4t8KQIxANTpimKSlF83gsF+UF0UJ1jRKKnY
1KvHFQX8lQCNnEnRpPAxT4azMmd58WdS6C3DMQIxAOqTsEK2sBShJsBPAcrJfbx7
m+e+31cJF+7CxIMHis/5JJyySbwvPOtYo5umssLoAw==
-----END RSA PRIVATE KEY-----
"""

SECRET = "0123456789abcdef0123456789abcdef"


def refusal(data_dir: Path, **values: object) -> str:
    with pytest.raises(errors.SettingsRefused) as refused:
        settings.load(**{"data_dir": data_dir, **values})
    return str(refused.value)


def test_nothing_set_is_embedded_mode(data_dir: Path) -> None:
    found = settings.load(data_dir=data_dir)
    assert found.embedded
    assert found.database_url == f"sqlite:///{data_dir}/vinkje.db"
    assert found.base_url == "http://localhost:8000"
    assert found.tick_seconds == 5
    assert found.mail_domain == "vinkje.example"
    assert not found.secure


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    monkeypatch.setenv("TICK_SECONDS", "7")
    monkeypatch.setenv("SECRET_KEYS_PREVIOUS", f" {SECRET}1 , {SECRET}2,")
    found = settings.load()
    assert (found.port, found.embedded, found.log_level, found.tick_seconds) == (8123, True, "warning", 7)
    assert found.base_url == "http://localhost:8123"
    assert found.secret_keys_previous == (f"{SECRET}1", f"{SECRET}2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "mysql://u:geheim@h/db"),
        ("database_url", "postgresql://u:geheim@h:port/db"),
        ("database_url", "postgresql://u:geheim@h"),
        ("database_url", "nonsense"),
        ("database_url", "sqlite://"),
        ("database_url", "sqlite:///:memory:"),
        ("redis_url", "http://localhost"),
        ("redis_url", "redis://"),
        ("redis_url", "redis://:geheim@localhost:x/0"),
        ("redis_url", "unix://"),
        ("smtp_url", "relay.example"),
        ("smtp_url", "smtp://"),
        ("smtp_url", "http://relay.example"),
        ("smtp_url", "smtp://u:ge/heim@relay.example"),
        ("smtp_url", "smtp://relay.example:99999"),
        ("smtp_url", "smtp://relay.example?starttls=maybe"),
        ("smtp_url", "smtp://relay.example?tls=1"),
        ("base_url", "news.example.nl"),
        ("base_url", "ftp://news.example.nl"),
        ("base_url", "http://news.example.nl"),
        ("base_url", "http://localhost.example.nl"),
        ("base_url", "https://"),
        ("base_url", "https://news.example.nl?x=1"),
        ("base_url", "https://news.example.nl#x"),
        ("base_url", "https://u:p@news.example.nl"),
        ("base_url", "https://news.example.nl:port"),
        ("base_url", "https://news.example.nl\r\nBcc: x"),
        ("base_url", "https://news.example.nl/a b"),
        ("base_url", "https://news.example.nl>"),
        ("base_url", "https://nieuws.bücher.example"),
        ("base_url", "https://[::1"),
        ("base_url", "https://[1::2::3]"),
        ("base_url", "https://example.nl/nieuws"),
        ("base_url", "https://example.nl/nieuws/"),
        ("base_url", "https://news.example.nl//"),
        ("base_url", "https://news.example.nl/%0a"),
        ("base_url", "https://news%0a.example.nl"),
        ("base_url", "https://a..nl"),
        ("base_url", "https://.example.nl"),
        ("base_url", "https://-news.example.nl"),
        ("base_url", "https://@news.example.nl"),
        ("base_url", "https://news.example.nl:"),
        ("base_url", f"https://{'n' * 64}.example.nl"),
        ("mail_from", "Vinkje"),
        ("mail_from", "Vinkje <news>"),
        ("mail_from", "@example.nl"),
        ("mail_from", "news@"),
        ("mail_from", "news@example.nl, other@example.nl"),
        ("mail_from", "nieuws@bücher.example"),
        ("mail_from", "Vinkje\r\nBcc: x <news@example.nl>"),
        ("mail_from", "Vinkje news@example.nl"),
        ("organisation", "Bureau Vinkje"),
        ("organisation", "Bureau Vinkje,\nVinkenstraat 1"),
        ("secret_key", "short"),
        ("secret_keys_previous", f"{SECRET},short"),
        ("secret_keys_leaked", f"{SECRET}1,short"),
        ("port", "0"),
        ("port", "65536"),
        ("port", "eight"),
        ("default_language", "de"),
        ("trusted_proxies", "-1"),
        ("log_level", "loud"),
        ("tick_seconds", "0"),
        ("tick_seconds", "inf"),
        ("lease_seconds", "nan"),
        ("batch_size", "0"),
        ("smtputf8", "perhaps"),
        ("dkim_rsa_key_file", "/nowhere/rsa.pem"),
        ("dkim_rsa_selector", "vinkje 2026"),
        ("dkim_ed25519_selector", "-vinkje"),
    ],
)
def test_a_bad_value_is_refused_on_one_clear_line(data_dir: Path, name: str, value: str) -> None:
    said = refusal(data_dir, **{name: value})
    assert said.startswith(name.upper().partition("S_PREVIOUS")[0])
    assert len(said.splitlines()) == 1
    assert "heim" not in said


def test_a_key_that_leaked_is_not_trusted_any_more(data_dir: Path) -> None:
    assert refusal(data_dir, secret_key=SECRET, secret_keys_leaked=SECRET).startswith("SECRET_KEYS_LEAKED")
    older = {"secret_keys_previous": f"{SECRET}1", "secret_keys_leaked": f"{SECRET}2,{SECRET}1"}
    assert refusal(data_dir, secret_key=SECRET, **older).startswith("SECRET_KEYS_LEAKED")
    kept = settings.load(data_dir=data_dir).secret_key
    assert "remove that file" in refusal(data_dir, secret_keys_leaked=kept)
    (data_dir / "secret_key").unlink()
    found = settings.load(data_dir=data_dir, secret_keys_leaked=kept)
    assert found.secret_key != kept
    assert kept not in repr(found)


def test_two_bad_values_are_named_both(data_dir: Path) -> None:
    said = refusal(data_dir, port="0", default_language="de")
    assert [line.partition(":")[0] for line in said.splitlines()] == ["PORT", "DEFAULT_LANGUAGE"]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/news", "postgresql+psycopg://u:p@h/news"),
        ("postgresql:///news?host=/run/pg", "postgresql+psycopg:///news?host=/run/pg"),
        ("postgresql+psycopg://u:p@h/news", "postgresql+psycopg://u:p@h/news"),
        ("sqlite:////srv/x.db", "sqlite:////srv/x.db"),
    ],
)
def test_database_addresses(data_dir: Path, given: str, used: str) -> None:
    assert settings.load(data_dir=data_dir, database_url=given).database_url == used


def test_a_database_file_is_found_from_where_we_start(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.load(data_dir=data_dir, database_url="sqlite:///x.db").database_url == f"sqlite:///{tmp_path}/x.db"
    assert settings.load(data_dir="d").database_url == f"sqlite:///{tmp_path}/d/vinkje.db"


def test_a_redis_socket(data_dir: Path) -> None:
    found = settings.load(data_dir=data_dir, redis_url="unix:///run/redis.sock", secret_key=SECRET)
    assert found.redis_url == "redis+socket:///run/redis.sock"
    assert not found.embedded
    assert found.tick_seconds == 60


def relay(url: str, data_dir: Path) -> settings.RelayAddress:
    return settings.load(
        data_dir=data_dir,
        smtp_url=url,
        base_url="https://news.example.nl",
        mail_from="Vinkje <news@example.nl>",
        organisation="Bureau, Vinkenstraat 1, Amsterdam",
    ).relay


def test_relay_addresses(data_dir: Path) -> None:
    plain = relay("smtp://relay.example", data_dir)
    assert (plain.host, plain.port, plain.starttls, plain.implicit_tls) == ("relay.example", 587, "required", False)
    assert relay("smtp://localhost:2525", data_dir).starttls == "opportunistic"
    assert relay("smtp://[::1]:2525", data_dir).host == "::1"
    assert relay("smtp://relay.example?starttls=never", data_dir).starttls == "never"
    full = relay("smtps://news%40example.nl:p%2Fw%3A%40@relay.example", data_dir)
    assert (full.user, full.password, full.port, full.implicit_tls) == ("news@example.nl", "p/w:@", 465, True)


def test_passwords_and_keys_stay_out_of_what_is_printed(data_dir: Path) -> None:
    assert "geheim" not in repr(relay("smtp://u:geheim@relay.example", data_dir))
    found = settings.load(data_dir=data_dir, secret_key=SECRET, secret_keys_previous=SECRET, vinkje_password="geheim")
    assert SECRET not in repr(found)
    assert "geheim" not in repr(found)


def test_without_relay_a_process_says_so(data_dir: Path) -> None:
    with pytest.raises(errors.SettingsRefused, match="SMTP_URL"):
        _ = settings.load(data_dir=data_dir).relay


def test_in_production_there_is_no_default_secret(data_dir: Path) -> None:
    said = refusal(data_dir, redis_url="redis://localhost/0")
    assert "SECRET_KEY" in said
    assert not (data_dir / "secret_key").exists()


def test_with_a_relay_we_say_who_we_are(data_dir: Path) -> None:
    said = refusal(data_dir, smtp_url="smtp://relay.example")
    assert said == "set BASE_URL, MAIL_FROM, ORGANISATION"


def test_http_is_for_this_machine_only(data_dir: Path) -> None:
    assert not settings.load(data_dir=data_dir, base_url="http://127.0.0.1:8000/").secure
    found = settings.load(data_dir=data_dir, base_url="https://news.example.nl/")
    assert found.secure
    assert found.base_url == "https://news.example.nl"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("HTTPS://News.Example.NL/", "https://news.example.nl"),
        ("https://news.example.nl:8443", "https://news.example.nl:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://192.0.2.7", "https://192.0.2.7"),
    ],
)
def test_public_addresses(data_dir: Path, given: str, used: str) -> None:
    found = settings.load(data_dir=data_dir, base_url=given)
    assert found.base_url == used
    assert found.secure is used.startswith("https://")


def test_a_path_in_the_public_address_is_refused_with_its_reason(data_dir: Path) -> None:
    assert refusal(data_dir, base_url="https://example.nl/nieuws") == (
        "BASE_URL: give Vinkje a host name of its own, as in https://news.example.nl: below a path it can't work"
    )


def test_the_secret_of_embedded_mode_survives_a_restart(data_dir: Path) -> None:
    first = settings.load(data_dir=data_dir).secret_key
    assert len(first) == 64
    assert settings.load(data_dir=data_dir).secret_key == first
    assert (data_dir / "secret_key").stat().st_mode & 0o077 == 0
    assert [path.name for path in data_dir.iterdir()] == ["secret_key"]


def test_nobody_else_on_the_machine_reads_what_is_kept(data_dir: Path) -> None:
    settings.load(data_dir=data_dir / "deep")
    assert (data_dir / "deep").stat().st_mode & 0o077 == 0


def test_a_command_without_port_uses_the_address_that_is_served(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The privacy link of an edition is frozen by `vinkje issue approve`, beside a `vinkje up` on another port."""
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    monkeypatch.setattr(settings, "_in_use", [])
    monkeypatch.setenv("PORT", "8123")
    settings.keep_address(settings.load())
    monkeypatch.delenv("PORT")
    assert settings.load().base_url == "http://localhost:8123"
    assert settings.load(port=8200).base_url == "http://localhost:8200"
    assert settings.load(base_url="https://news.example.nl").base_url == "https://news.example.nl"
    assert settings.keep_address(settings.load()).base_url == "http://localhost:8000", "served anew, without PORT"
    assert settings.load().base_url == "http://localhost:8000"
    (data_dir / folder.ADDRESS).write_text("nonsense")
    assert settings.load().base_url == "http://localhost:8000"


def test_two_processes_that_start_at_once_share_one_secret(data_dir: Path) -> None:
    program = "from service import settings; print(settings.load().secret_key)"

    def start(_: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={"DATA_DIR": str(data_dir)},
            cwd=settings.source_root(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1


def test_a_damaged_secret_is_not_taken_for_one(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "secret_key").write_text("")
    assert "damaged" in refusal(data_dir)


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(tmp_path / "file", secret_key=SECRET)
    assert said.startswith("DATA_DIR: can't write")


def test_an_unreadable_env_file_is_refused(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=8000\nORGANISATION=caf\xe9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(settings.Settings.model_config, "env_file", ".env")
    assert refusal(data_dir).startswith(".env: ")


def test_a_process_ends_with_a_clear_line_and_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from service.app import create_app; create_app()"],
        env={"PORT": "eight", "DEFAULT_LANGUAGE": "de", "DATA_DIR": str(tmp_path)},
        cwd=settings.source_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("vinkje can't start:\n  PORT: ")
    assert "\n  DEFAULT_LANGUAGE: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    pem.write(folder / "rsa", pem.new_rsa())
    pem.write(folder / "ed25519", Ed25519PrivateKey.generate())
    (folder / "empty").write_text("")
    (folder / "weak").write_text(WEAK)
    (folder / "public").write_bytes(pem.rsa(folder / "rsa").public_key().public_bytes(Encoding.PEM, SPKI))
    locked = pem.rsa(folder / "rsa").private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim")
    )
    (folder / "locked").write_bytes(locked)
    return folder


def test_keys_to_sign_with(keys: Path, data_dir: Path) -> None:
    rsa = {"dkim_rsa_key_file": keys / "rsa", "dkim_rsa_selector": "vinkje-2026"}
    ed25519 = {"dkim_ed25519_key_file": keys / "ed25519", "dkim_ed25519_selector": "ed.2026"}
    assert settings.load(data_dir=data_dir, **rsa).dkim_rsa_key_file == keys / "rsa"
    assert settings.load(data_dir=data_dir, **ed25519, **rsa).dkim_ed25519_selector == "ed.2026"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dkim_rsa_key_file": "rsa"}, "set both DKIM_RSA_KEY_FILE and DKIM_RSA_SELECTOR, or neither"),
        ({"dkim_ed25519_selector": "x"}, "set both DKIM_ED25519_KEY_FILE and DKIM_ED25519_SELECTOR, or neither"),
        ({"dkim_rsa_key_file": "ed25519", "dkim_rsa_selector": "x"}, "of another kind than RSA"),
        ({"dkim_ed25519_key_file": "rsa", "dkim_ed25519_selector": "x"}, "of another kind than Ed25519"),
        ({"dkim_rsa_key_file": "empty", "dkim_rsa_selector": "x"}, "holds no private key in PEM"),
        ({"dkim_rsa_key_file": "public", "dkim_rsa_selector": "x"}, "holds no private key in PEM"),
        ({"dkim_rsa_key_file": "locked", "dkim_rsa_selector": "x"}, "is locked with a password"),
        ({"dkim_rsa_key_file": "weak", "dkim_rsa_selector": "x"}, "holds a key of 768 bits"),
        ({"dkim_rsa_key_file": ".", "dkim_rsa_selector": "x"}, "can't read"),
        (
            {
                "dkim_rsa_key_file": "rsa",
                "dkim_rsa_selector": "Vinkje",
                "dkim_ed25519_key_file": "ed25519",
                "dkim_ed25519_selector": "vinkje",
            },
            "one key has one selector",
        ),
    ],
)
def test_a_key_that_cannot_sign_is_refused(keys: Path, data_dir: Path, given: dict[str, str], said: str) -> None:
    values = {name: keys / value if name.endswith("file") else value for name, value in given.items()}
    refused = refusal(data_dir, **values)
    assert said in refused
    assert len(refused.splitlines()) == 1
    assert "DKIM_" in refused
