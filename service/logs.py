"""Structured logs to standard error, without addresses, tokens or line breaks (requirements 3.2, 6.2)."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping

import structlog
from structlog.typing import EventDict, WrappedLogger

# Also percent-encoded, and with a quoted local part. An apostrophe is a letter in one. It looks only where a word
# begins, so that a long line without any takes no longer than a short one.
ADDRESS = re.compile(
    r"(?:\"[^\"\n]*\"|(?<![^\s\"<>(),;:=@])[^\s\"<>(),;:=@]+)?(?:@|%40)[^\s\"'<>(),;:=]+", re.IGNORECASE
)
# A signed link: row numbers, a dot, a signature. Then whatever has the length of 32 random bytes in base64.
TOKEN = re.compile(
    r"\d[\d-]{0,40}(?:\.|%2E)[A-Za-z0-9_-]{20,}|(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])", re.IGNORECASE
)
# Whoever writes a line break into a log writes its next line; escape sequences fool the reader's terminal.
CONTROLS = {
    code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029) if code != ord("\t")
}


def redact(text: str) -> str:
    return TOKEN.sub("[token]", ADDRESS.sub("[address]", text)).translate(CONTROLS)


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
