"""The mailbox of embedded mode: each caught mail as HTML, as text and as source. Without one, nothing is here.

Everybody's links stand in those mails, so it opens on this machine only, however far HOST lets the other pages reach.
`worker/mailbox.py` writes the files; their names are the nanoseconds at which they came.
"""

from __future__ import annotations

import email
import email.policy
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import flask

from service import errors, urls
from service.web import headers

PAGE = 50
NAME = re.compile(r"\d{20}")
HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)
# Links in a framed mail must open beside it: their pages refuse to be framed.
BESIDE = '<base target="_blank">'
# What a proxy adds: a visitor who comes by way of one isn't here.
BY_WAY_OF = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")

blueprint = flask.Blueprint("mailbox", __name__, url_prefix="/mailbox")


@dataclass(frozen=True)
class Mail:
    name: str
    source: bytes

    @property
    def came_at(self) -> datetime:
        return datetime.fromtimestamp(int(self.name) / 1e9, UTC)

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.source, policy=email.policy.default)

    def header(self, name: str) -> str:
        return str(self.message.get(name, ""))

    def part(self, kind: str) -> str | None:
        """The decoded part "html" or "plain"; None when the mail has none."""
        part = self.message.get_body((kind,))
        if part is None:
            return None
        try:
            return str(part.get_content())
        except LookupError:  # a character set that nobody knows
            return bytes(part.get_payload(decode=True)).decode("utf-8", "replace")


@blueprint.before_request
def guard() -> None:
    _folder()  # where there is no mailbox, nobody is told where it would open
    if not _is_here(flask.request):
        raise errors.NotAllowed("The mailbox opens only on the machine that Vinkje runs on, at localhost.")


@blueprint.get("")
def overview() -> str:
    """The newest PAGE mails, or those that came before the mail `before`."""
    before = flask.request.args.get("before", "")
    names = sorted((path.stem for path in _folder().glob("*.eml") if NAME.fullmatch(path.stem)), reverse=True)
    older = [name for name in names if not before or name < before]
    shown = [mail for name in older[:PAGE] if (mail := _read(name)) is not None]
    more = shown[-1].name if len(older) > PAGE and shown else None
    return flask.render_template("mailbox/overview.html", mails=shown, count=len(names), before=before, more=more)


@blueprint.get("/<name>")
def mail(name: str) -> flask.Response:
    found = _mail(name)
    part = "mailbox/html.html" if found.part("html") is not None else "mailbox/text.html"
    response = flask.make_response(flask.render_template(part, mail=found))
    response.headers["Content-Security-Policy"] = headers.POLICY_HOLDS_MAIL
    return response


@blueprint.get("/<name>/text")
def text(name: str) -> str:
    return flask.render_template("mailbox/text.html", mail=_mail(name))


@blueprint.get("/<name>/source")
def source(name: str) -> str:
    found = _mail(name)
    return flask.render_template("mailbox/source.html", mail=found, source=found.source.decode("utf-8", "replace"))


@blueprint.get("/<name>/document")
def document(name: str) -> flask.Response:
    """The mail's own HTML, for the frame: its policy takes script, forms and outside pictures away."""
    html = _mail(name).part("html")
    if html is None:
        flask.abort(404)
    head = HEAD.search(html)
    at = head.end() if head else 0
    response = flask.make_response(html[:at] + BESIDE + html[at:])
    response.headers["Content-Security-Policy"] = headers.POLICY_IS_MAIL
    return response


def _is_here(request: flask.Request) -> bool:
    """The name counts too: a page elsewhere can make its own name point to 127.0.0.1 and read what it finds there."""
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
        name = urlsplit(f"//{request.host}").hostname
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback and name in urls.LOOPBACK and not any(header in request.headers for header in BY_WAY_OF)


def _folder() -> Path:
    folder = flask.current_app.config.get("MAILBOX_DIR")
    if folder is None:
        flask.abort(404)
    return Path(folder)


def _mail(name: str) -> Mail:
    found = _read(name) if NAME.fullmatch(name) else None
    if found is None:
        flask.abort(404)
    return found


def _read(name: str) -> Mail | None:
    """None when the mail has just made room for a newer one."""
    try:
        return Mail(name, (_folder() / f"{name}.eml").read_bytes())
    except FileNotFoundError:
        return None
