"""The mailbox of embedded mode: each caught mail as HTML, as text and as source. Without one, nothing is here.

`worker/mailbox.py` writes the files; their names are the nanoseconds at which they came.
"""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import flask

from service.web import headers

PAGE = 50
NAME = re.compile(r"\d{20}")
HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)
# Links in a framed mail must open beside it: their pages refuse to be framed.
BESIDE = '<base target="_blank">'

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
