"""What keeps machines out of the sign-up form without cookie or script (requirements 4.10)."""

from __future__ import annotations

import hmac
import threading
from datetime import datetime, timedelta

import flask
import structlog

from service import links, settings, throttle

TRAP = "website"
PROOF = "altcha"  # as ALTCHA calls it
FRESH = timedelta(hours=24)  # a mark that is older proves nothing: it may have been kept for many forms

log = structlog.get_logger()
_told = threading.Event()


def started(now: datetime) -> str:
    """When the form was shown, signed, for a hidden field."""
    return _sign(str(int(now.timestamp() * 1000)))


def age(mark: str, now: datetime) -> timedelta | None:
    """How long ago the form was shown. None when it doesn't say, or not in our hand:
    a form on another site can't know.
    """
    milliseconds = mark.partition(".")[0]
    if not hmac.compare_digest(_sign(milliseconds).encode(), mark.encode()):
        return None
    return timedelta(milliseconds=1000 * now.timestamp() - int(milliseconds))


def network() -> str:
    """The range of addresses that the visitor comes from. Behind a proxy that isn't believed it's the proxy's:
    then all visitors share one cap.
    """
    request = flask.request
    if "X-Forwarded-For" in request.headers and not settings.current().trusted_proxies and not _told.is_set():
        _told.set()
        log.error(
            "proxy_not_believed", why="X-Forwarded-For came, and TRUSTED_PROXIES is 0: all visitors share one cap"
        )
    return throttle.network(request.remote_addr or "")


def _sign(milliseconds: str) -> str:
    return f"{milliseconds}.{links.keyed_hash('form', milliseconds)}"
