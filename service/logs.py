"""Structured logs to standard error, without addresses, tokens or line breaks (requirements 3.2, 6.2)."""

from __future__ import annotations

import ipaddress
import logging
import re
import sys
from collections.abc import Mapping

import structlog
from structlog.typing import EventDict, WrappedLogger

# Also percent-encoded, once or more, and with a quoted local part. An apostrophe is a letter in one, and so is "=".
# It looks only where a word begins, so that a long line without any takes no longer than a short one.
ADDRESS = re.compile(
    r"(?:\"[^\"\n]*\"|(?<![^\s\"<>(),;:@])[^\s\"<>(),;:@]+)?(?:@|%(?:25)*40)[^\s\"'<>(),;:=]+", re.IGNORECASE
)
# A visitor's, as gunicorn names who sent what it can't read; also percent-encoded. Whether it is one, `ipaddress` says.
COLON = re.compile(r"%(?:25)*3A", re.IGNORECASE)
# After "%5B", which is "[", a word begins; "5B" isn't part of it.
BEGIN = r"(?:(?<![^\W_])|(?<=%[0-9a-f]{2})(?<!%25)|(?<=%25[0-9a-f]{2}))"
END = r"(?![^\W_]|\.\d)"
IP4 = re.compile(rf"{BEGIN}(?<!\.)(?:\d{{1,3}}\.){{3}}\d{{1,3}}{END}", re.IGNORECASE)
IP6 = re.compile(
    rf"{BEGIN}(?!(?<=%)[0-9a-f]{{2}})(?:[0-9a-f]{{0,4}}(?::|{COLON.pattern})){{2,8}}"
    rf"(?:[0-9a-f]{{1,4}}|(?<=::)|(?<=3A%3A)|(?<=3A%253A)){END}"
    rf"(?!(?::|{COLON.pattern})(?:[0-9a-f:]|{COLON.pattern}))(?:%(?![2-7][0-9a-f])\w+)?",
    re.IGNORECASE,
)
# They end in an IPv4 address: "IPv4-compatible" ones, and those that a network without IPv4 makes (NAT64).
HOLD_IP4 = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))
# A signed link: row numbers, a dot, a signature. Then whatever has the length of 32 random bytes in base64.
TOKEN = re.compile(
    r"\d[\d-]{0,40}(?:\.|%2E)[A-Za-z0-9_-]{20,}|(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])", re.IGNORECASE
)
# Whoever writes a line break into a log writes its next line; escape sequences fool the reader's terminal.
CONTROLS = {
    code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029) if code != ord("\t")
}


def redact(text: str) -> str:
    # To count is quick: most lines hold neither.
    if text.count(".") > 2:
        text = IP4.sub(_network, text)
    if text.count(":") > 1 or "%" in text:
        text = IP6.sub(_network, text)
    if "@" in text or "%" in text:
        text = ADDRESS.sub("[address]", text)
    return TOKEN.sub("[token]", text).translate(CONTROLS)


def _network(found: re.Match[str]) -> str:
    """The range it lies in: an organisation or a neighbourhood, and no person. This machine's own name nobody."""
    try:
        address = ipaddress.ip_address(COLON.sub(":", found[0]).partition("%")[0])
    except ValueError:
        return found[0]
    if isinstance(address, ipaddress.IPv6Address):
        if int(address) < 2**16:  # "::" and "::1"; and a slice in a line of code, such as [::2]
            return found[0]
        address = _held(address) or address
    elif address.is_unspecified or str(address) == "127.0.0.1":
        return found[0]
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _held(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if any(address in network for network in HOLD_IP4):
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


def _redact_value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): _redact_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(inner) for inner in value]
    return redact(value.decode(errors="replace") if isinstance(value, bytes) else str(value))


def _redact_event(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: _redact_value(value) for key, value in event.items()}


class _Record(logging.LogRecord):
    """Redacted at birth, whichever handler it meets: gunicorn and Celery bring their own."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]  # logging's own arguments, passed on
        try:
            said = self.getMessage()
        except (TypeError, ValueError):  # arguments that don't fit; to log it is better than to raise from here
            said = f"{self.msg} {self.args}"
        self.msg, self.args = redact(said), None
        if self.exc_info and self.exc_info[0] is not None:
            # A traceback keeps its lines; none of them can pass for a record of its own.
            lines = logging.Formatter().formatException(self.exc_info).splitlines()
            self.exc_text = "\n".join(f"  | {redact(line)}" for line in lines)


def configure(level: str) -> None:
    logging.setLogRecordFactory(_Record)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("amqp", "kombu", "mail.log", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a visitor who waits a moment is no news
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_event,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
