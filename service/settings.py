"""Every setting, typed. The environment is read here and nowhere else (tests/test_house.py)."""

from __future__ import annotations

import contextlib
import os
import sys
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import errors, folder, pem, urls

RelayAddress = urls.RelayAddress
WRONG, WRONG_FOR_GUNICORN = 2, 4  # gunicorn stops at 4 (its APP_LOAD_ERROR); after a 2 it tries again without end
NEEDED = {
    "redis_url": "the web, workers and beat are processes that ring each other by way of it; `vinkje up` needs none",
    "smtp_url": "a process without the mailbox of `vinkje up` needs a relay",
}


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: urls.Database = ""
    redis_url: urls.Redis = ""
    smtp_url: urls.Smtp = ""
    base_url: urls.Base = ""
    secret_key: str = Field(default="", repr=False)
    # Older keys, newest first: links in old mails keep working after SECRET_KEY changes.
    secret_keys_previous: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    # Keys that others may know: nothing that they sign counts, but we still know whom we may not mail.
    secret_keys_leaked: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    mail_from: urls.Sender = ""
    organisation: urls.Organisation = ""
    data_dir: Path = Path("data")
    port: int = Field(default=8000, ge=1, le=65535)
    host: str = "127.0.0.1"

    default_language: Literal["nl", "en"] = "nl"
    # Proxies in front of us whose X-Forwarded-For counts; 0 means: believe none.
    trusted_proxies: int = Field(default=0, ge=0, le=5)
    smtputf8: bool = False
    # PEM files. None: we don't sign (service/dkim.py).
    dkim_rsa_key_file: pem.RsaFile | None = None
    dkim_rsa_selector: urls.Selector = ""
    dkim_ed25519_key_file: pem.Ed25519File | None = None
    dkim_ed25519_selector: urls.Selector = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    tick_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    lease_seconds: float = Field(default=60.0, ge=1, allow_inf_nan=False)
    batch_size: int = Field(default=2000, ge=1, le=5000)
    # To the relay, for all workers together; `vinkje relay limit` overrides them while a round runs.
    relay_connections: int = Field(default=20, ge=1, le=1000)
    relay_rate: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # messages a second; 0 means: no limit
    relay_messages: int = Field(default=1000, ge=1)  # on one connection
    uncertain: Literal["hold", "resend"] = "hold"
    # Where bounces and complaints go, and the three ways in. Without it bounces go to MAIL_FROM, unread by us.
    return_address: urls.ReturnAddress = ""
    inbox_url: urls.Inbox = Field(default="", repr=False)
    report_secret: str = Field(default="", repr=False)

    form_min_seconds: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    signups_per_network_hour: int = Field(default=30, ge=1)
    signups_per_hour: int = Field(default=2000, ge=1)
    proof_of_work: bool = False
    # Counts of people below it are shown as "fewer than".
    smallest_count: int = Field(default=5, ge=1, le=100)
    # For the privacy page (GDPR art. 13(1)): who handles readers' data for us, what of it leaves the European Economic
    # Area ("none": nothing), and our data protection officer.
    processors: str = ""
    transfers: str = ""
    privacy_officer: urls.Sender = ""

    vinkje_password: str = Field(default="", repr=False, validation_alias=AliasChoices("VINKJE_PASSWORD"))

    @field_validator("secret_keys_previous", "secret_keys_leaked", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _signed(self) -> Settings:
        selectors = []
        for kind in ("dkim_rsa", "dkim_ed25519"):
            file, selector = getattr(self, f"{kind}_key_file"), getattr(self, f"{kind}_selector")
            if bool(file) != bool(selector):
                raise ValueError(f"set both {kind.upper()}_KEY_FILE and {kind.upper()}_SELECTOR, or neither")
            selectors.append(selector)
        if selectors[0] and selectors[0].lower() == selectors[1].lower():
            raise ValueError("DKIM_RSA_SELECTOR and DKIM_ED25519_SELECTOR: one key has one selector (RFC 8463 §4)")
        return self

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        missing = []
        if self.redis_url and not self.secret_key:
            missing.append("SECRET_KEY (several processes share it: `openssl rand -hex 32` makes one)")
        if self.smtp_url:
            missing += [name.upper() for name in ("base_url", "mail_from", "organisation") if not getattr(self, name)]
        if missing:
            raise ValueError("set " + ", ".join(missing))
        if self.inbox_url and not self.return_address:
            raise ValueError("INBOX_URL is the mailbox of RETURN_ADDRESS: set that too")
        trusted, leaked = {self.secret_key, *self.secret_keys_previous}, self.secret_keys_leaked
        secrets = {"SECRET_KEY and SECRET_KEYS_PREVIOUS": trusted, "SECRET_KEYS_LEAKED": leaked}
        for name, keys in {**secrets, "REPORT_SECRET": {self.report_secret}}.items():
            if any(0 < len(key) < folder.SHORTEST_SECRET for key in keys):
                raise ValueError(f"{name}: at least {folder.SHORTEST_SECRET} characters each")
        if not trusted.isdisjoint(leaked):
            raise ValueError("SECRET_KEYS_LEAKED: one of these is SECRET_KEY still, or in SECRET_KEYS_PREVIOUS")
        return self

    @property
    def embedded(self) -> bool:
        """No Redis: web, worker and beat share one process, and the doorbell is in memory."""
        return not self.redis_url

    @property
    def relay(self) -> RelayAddress:
        if not self.smtp_url:
            raise errors.SettingsRefused(f"SMTP_URL: {NEEDED['smtp_url']}")
        return urls.relay(self.smtp_url)

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https://")

    @property
    def mail_domain(self) -> str:
        """Stays the same for the life of the lists: List-Id is made from it (RFC 2919 §4)."""
        return _domain(self.mail_from)


def load(**overrides: object) -> Settings:
    """Read the environment and `.env`. Raises SettingsRefused with one line per setting at fault."""
    try:
        found = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as refused:
        raise errors.SettingsRefused("\n".join(_line(fault) for fault in refused.errors())) from None
    except (OSError, UnicodeDecodeError):
        raise errors.SettingsRefused(".env: can't read it, or it isn't UTF-8") from None
    filled: dict[str, object] = {}
    if not found.database_url:
        folder.make(found.data_dir)
        filled["database_url"] = urls.sqlite(found.data_dir / "vinkje.db")
    if not found.secret_key:
        folder.make(found.data_dir)
        filled["secret_key"] = folder.kept_secret(found.data_dir / "secret_key")
        if filled["secret_key"] in found.secret_keys_leaked:
            raise errors.SettingsRefused("SECRET_KEYS_LEAKED: one of these is in DATA_DIR/secret_key: remove that file")
    if not found.base_url:
        filled["base_url"] = _address(found)
    if not found.mail_from:
        filled["mail_from"] = "Vinkje <nieuws@vinkje.example>"
    if not found.organisation:
        filled["organisation"] = "Voorbeeldbureau Vinkje, Vinkenstraat 1, 1013 JL Amsterdam"
    if found.embedded and "tick_seconds" not in found.model_fields_set:
        filled["tick_seconds"] = 5.0  # commands in other processes can't ring a bell that is in memory
    return found.model_copy(update=filled)


def _line(fault: object) -> str:
    assert isinstance(fault, dict)
    name = ".".join(str(part) for part in fault["loc"]).upper()
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def keep_address(chosen: Settings) -> Settings:
    """For `vinkje up`: keep in DATA_DIR where it serves, for commands that are started without its PORT."""
    path = chosen.data_dir / folder.ADDRESS
    try:
        path.unlink(missing_ok=True)  # an older one isn't ours
        chosen = load()
        path.write_text(chosen.base_url)
    except OSError as fault:
        raise folder.unwritable(path, fault) from None
    return use(chosen)


def _address(found: Settings) -> str:
    if "port" not in found.model_fields_set:
        with contextlib.suppress(OSError, ValueError):
            return urls.base((found.data_dir / folder.ADDRESS).read_text())
    return f"http://localhost:{found.port}"


_in_use: list[Settings] = []


def use(chosen: Settings) -> Settings:
    """Make `chosen` what `current()` gives in this process."""
    _in_use[:] = [chosen]
    return chosen


def current() -> Settings:
    """The settings of this process, read at the first call."""
    return _in_use[0] if _in_use else use(load())


def current_or_exit(*needed: str) -> Settings:
    """For processes' front doors: a bad setting, or a `needed` one that isn't set, ends the process with clear lines.

    Status 2; under gunicorn the one at which it stops.
    """
    try:
        chosen = current()
        if missing := [f"{name.upper()}: {NEEDED[name]}" for name in needed if not getattr(chosen, name)]:
            raise errors.SettingsRefused("\n".join(missing))
    except errors.SettingsRefused as refused:
        sys.stderr.write(f"vinkje can't start:\n  {str(refused).replace(chr(10), chr(10) + '  ')}\n")
        raise SystemExit(WRONG_FOR_GUNICORN if in_gunicorn() else WRONG) from None
    return chosen


def in_gunicorn() -> bool:
    """Gunicorn says so itself, in the environment."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/")


@lru_cache(maxsize=8)
def _domain(mailbox: str) -> str:
    return parseaddr(mailbox)[1].rpartition("@")[2]


@lru_cache(maxsize=1)
def source_root() -> Path:
    """The checkout or the installed package's parent: templates lie beside `service`."""
    return Path(__file__).resolve().parent.parent
