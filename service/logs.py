"""Structured logs to standard error, without addresses, tokens or line breaks (requirements 3.2, 6.2)."""

from __future__ import annotations

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

ADDRESS = re.compile(r"[^\s\"'<>(),;:=]+@[^\s\"'<>(),;:=]+")
# A signed token: row numbers, a dot, 43 characters of base64.
TOKEN = re.compile(r"\d[\d-]*\.[A-Za-z0-9_-]{20,}")


def redact(text: str) -> str:
    return TOKEN.sub("[token]", ADDRESS.sub("[address]", text)).replace("\r", "\\r").replace("\n", "\\n")


def _redact_all(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


class _RedactingFormatter(logging.Formatter):
    """For libraries' own loggers (Celery, waitress, gunicorn), whose messages we don't write."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record)).replace("\\n", "\n")


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("amqp", "kombu", "mail.log", "asyncio", "waitress.queue", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_all,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
