"""What a worker would mail of letters and confirmations, without a relay: read it, and follow its links."""

from __future__ import annotations

import email
import email.policy
import html
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from service import db, mail, outbox, settings
from service.subscribers import letters
from service.subscribers.models import Confirmation, Letter


@dataclass(frozen=True)
class Mail:
    to: str
    text: str

    def path(self, door: str) -> str:
        """Of the one link to this door."""
        found: set[str] = set(re.findall(rf"{settings.current().base_url}(/{door}/\S+)", self.text))
        assert len(found) == 1, (door, self.text)
        return found.pop()


def emptied() -> list[Mail]:
    """All that is due by now, in the order in which it was asked for; and nothing of it is due any more."""
    found, now = [], datetime.now(UTC)
    with db.transaction() as session:
        for model in (Confirmation, Letter):
            for row_id in sorted(outbox.due(session=session, model=model, now=now)):
                made = _compose(session, model, row_id, now)
                found += [_read(made)] if made else []
                outbox.sent(session=session, model=model, row_id=row_id, now=now)
    return found


def press(visitor: FlaskClient, path: str) -> TestResponse:
    """The one button of the page behind `path`, as a browser does it."""
    return visitor.post(path, data=carried(visitor, path))


def carried(visitor: FlaskClient, path: str) -> dict[str, list[str]]:
    """What the form of that page sends along unseen: for who presses later than they looked."""
    page = visitor.get(path).text
    (form,) = re.findall(rf'<form method="post" action="{re.escape(path)}">.*?</form>', page, re.DOTALL)
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form):
        found.setdefault(name, []).append(html.unescape(value))
    return found


def words(response: TestResponse) -> str:
    """What stands on a page, without the frame around it."""
    main = response.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", "<" + main)).split())


def _compose(session: Session, model: type[outbox.Outgoing], row_id: int, now: datetime) -> mail.Outbound | None:
    if model is Letter:
        return letters.compose_letter(session=session, now=now, letter_id=row_id)
    return letters.compose(session=session, now=now, confirmation_id=row_id)


def _read(made: mail.Outbound) -> Mail:
    message = email.message_from_bytes(made.message, policy=email.policy.default)
    part = message.get_body(("plain",))
    assert part is not None
    assert made.recipient in str(message["To"])
    return Mail(to=made.recipient, text=str(part.get_content()))
