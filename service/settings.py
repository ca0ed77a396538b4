"""Every setting, typed. The environment is read here and nowhere else (tests/test_house.py)."""

from __future__ import annotations

import secrets
import sys
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import errors

StartTls = Literal["required", "opportunistic", "never"]
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class RelayAddress(BaseModel):
    """Where our mail goes, read from `SMTP_URL`."""

    host: str
    port: int
    user: str = ""
    password: str = Field(default="", repr=False)
    implicit_tls: bool = False
    starttls: StartTls = "opportunistic"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: str = ""
    redis_url: str = ""
    smtp_url: str = ""
    base_url: str = ""
    secret_key: str = Field(default="", repr=False)
    # Older keys, newest first: links in old mails keep working after SECRET_KEY changes.
    secret_keys_previous: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    mail_from: str = ""
    organisation: str = ""
    data_dir: Path = Path("data")
    port: int = Field(default=8000, ge=1, le=65535)
    host: str = "127.0.0.1"

    default_language: Literal["nl", "en"] = "nl"
    # Proxies in front of us whose X-Forwarded-For counts; 0 means: believe none.
    trusted_proxies: int = Field(default=0, ge=0, le=5)
    smtputf8: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    tick_seconds: float = Field(default=60.0, gt=0)
    lease_seconds: float = Field(default=60.0, ge=1)
    batch_size: int = Field(default=200, ge=1, le=5000)
    form_min_seconds: float = Field(default=2.0, ge=0)
    signups_per_network_hour: int = Field(default=30, ge=1)
    signups_per_hour: int = Field(default=2000, ge=1)

    vinkje_password: str = Field(default="", repr=False, validation_alias=AliasChoices("VINKJE_PASSWORD"))

    @field_validator("secret_keys_previous", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        scheme, colon, rest = value.partition("://")
        if not value or scheme in ("sqlite", "postgresql+psycopg"):
            return value
        if colon and scheme in ("postgres", "postgresql"):
            return f"postgresql+psycopg://{rest}"
        raise ValueError("use postgresql://user:password@host/name, or leave it empty for SQLite")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and value.partition("://")[0] not in ("redis", "rediss", "unix", "redis+socket"):
            raise ValueError("use redis://host:6379/0, or leave it empty for one process")
        return value.replace("unix://", "redis+socket://", 1)

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, value: str) -> str:
        if value:
            _relay(value)
        return value

    @field_validator("base_url")
    @classmethod
    def _base(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query):
            raise ValueError("use the public address, as in https://news.example.nl")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("must be https: readers leave by one click over HTTPS (RFC 8058 §3.1)")
        return value.rstrip("/")

    @field_validator("mail_from")
    @classmethod
    def _from(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if value and ("@" not in address or not address.isascii() or "\n" in value or "\r" in value):
            raise ValueError('use an address, as in "Vinkje <news@example.nl>"')
        return value

    @field_validator("organisation")
    @classmethod
    def _organisation(cls, value: str) -> str:
        if value and "," not in value:
            raise ValueError("give legal name and postal address, with commas between (Tw 11.7)")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        missing = []
        if self.redis_url and not self.secret_key:
            missing.append("SECRET_KEY (several processes share it: `openssl rand -hex 32` makes one)")
        if self.smtp_url:
            missing += [name.upper() for name in ("base_url", "mail_from", "organisation") if not getattr(self, name)]
        if missing:
            raise ValueError("set " + ", ".join(missing))
        if self.secret_key and len(self.secret_key) < 32:
            raise ValueError("SECRET_KEY: at least 32 characters")
        return self

    @property
    def embedded(self) -> bool:
        """No Redis: web, worker and beat share one process, and the doorbell is in memory."""
        return not self.redis_url

    @property
    def relay(self) -> RelayAddress:
        return _relay(self.smtp_url)

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https://")

    @property
    def mail_domain(self) -> str:
        """Stays the same for the life of the lists: List-Id is made from it (RFC 2919 §4)."""
        return parseaddr(self.mail_from)[1].rpartition("@")[2]


def _relay(url: str) -> RelayAddress:
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("use smtp://user:password@host:587?starttls=required or smtps://…")
    implicit = parts.scheme == "smtps"
    query = parse_qs(parts.query)
    default = "opportunistic" if parts.hostname in LOOPBACK else "required"
    starttls = query.pop("starttls", [default])[0]
    if query or starttls not in ("required", "opportunistic", "never"):
        raise ValueError("the only option is starttls=required, opportunistic or never")
    port = parts.port or (465 if implicit else 587)
    return RelayAddress(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        implicit_tls=implicit,
        starttls=starttls,  # type: ignore[arg-type]  # narrowed by the check above
    )


def load(**overrides: object) -> Settings:
    """Read the environment and `.env`. Raises SettingsRefused with one line per setting at fault."""
    try:
        found = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as refused:
        raise errors.SettingsRefused("\n".join(_line(fault) for fault in refused.errors())) from None
    port = found.port
    filled: dict[str, object] = {}
    if not found.database_url:
        filled["database_url"] = f"sqlite:///{(found.data_dir / 'vinkje.db').resolve()}"
    if not found.secret_key:
        filled["secret_key"] = _kept_secret(found.data_dir)
    if not found.base_url:
        filled["base_url"] = f"http://localhost:{port}"
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


def _kept_secret(data_dir: Path) -> str:
    """Embedded mode makes its own secret once, so that links survive a restart."""
    path = data_dir / "secret_key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return path.read_text().strip()
    except OSError as fault:
        raise errors.SettingsRefused("DATA_DIR: can't write %(path)s: %(why)s", path=path, why=fault.strerror) from None


_in_use: list[Settings] = []


def use(chosen: Settings) -> Settings:
    """Make `chosen` what `current()` gives in this process."""
    _in_use[:] = [chosen]
    return chosen


def current() -> Settings:
    """The settings of this process, read at the first call."""
    return _in_use[0] if _in_use else use(load())


def current_or_exit() -> Settings:
    """For processes' front doors: a bad setting ends the process with a clear line, status 2."""
    try:
        return current()
    except errors.SettingsRefused as refused:
        sys.stderr.write(f"vinkje can't start:\n  {str(refused).replace(chr(10), chr(10) + '  ')}\n")
        raise SystemExit(2) from None


@lru_cache(maxsize=1)
def source_root() -> Path:
    """The checkout or the installed package's parent: templates lie beside `service`."""
    return Path(__file__).resolve().parent.parent
