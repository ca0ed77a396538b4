"""Security headers on every response (requirements 6.2), and what may be kept in caches.

A view that needs another policy sets the header itself; what is set stays.
"""

from __future__ import annotations

import flask

from service import settings

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
# For a page that asks us for more: its own news (static/follow.js), a challenge (static/proof.js).
POLICY_FOLLOWS = POLICY + "; connect-src 'self'"
# For a page that shows a mail in a frame, and for the mail in it: it can style itself and open links, no more.
POLICY_HOLDS_MAIL = POLICY_FOLLOWS + "; frame-src 'self'"
POLICY_IS_MAIL = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)

EVERYWHERE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS = "max-age=63072000; includeSubDomains"
OPEN_PAGES = ("public.signup", "privacy.show", "public.robots")
FOREVER = "public, max-age=31536000, immutable"


def add(app: flask.Flask) -> None:
    app.after_request(_set)


def _set(response: flask.Response) -> flask.Response:
    for name, value in EVERYWHERE.items():
        response.headers.setdefault(name, value)
    if settings.current().secure:
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    if flask.request.endpoint == "static":
        # A file's URL holds its hash, so it never changes under one URL.
        response.headers["Cache-Control"] = FOREVER if "v" in flask.request.args else "no-cache"
    elif flask.request.endpoint in OPEN_PAGES:
        response.headers.setdefault("Cache-Control", "no-cache")
        response.vary.add("Accept-Language")
    else:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Robots-Tag", "noindex")
    return response
