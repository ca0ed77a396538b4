"""A round through a real Postfix into a Maildir, with what it takes and says on the way."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

import flask
import pytest
from sqlalchemy import insert, select

from service import db, links, mail, themes, wire
from service.delivery import books
from service.issues import editions
from service.issues.models import Issue, IssueState, find
from service.subscribers import addresses
from service.subscribers.models import State, Subscriber, Subscription
from tests import make, processes
from tests.conftest import SECRET
from tests.system import postfix

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only"),
]

READERS = 2000
CELERY = ("celery", "-A", "worker.app")
FORMS = {"never": 8, "opportunistic": 9}  # each with a Redis database of its own: the rounds have the same numbers
IDN = "coöperatie.example"
SPECIAL = (
    "saskia+nieuws@gemeente.example",
    "Anne.O'Brien@gemeente.example",
    f"{'langenaam' * 7}x@gemeente.example",  # 64 before the @
    f"noor@{IDN}",
    "zoë@gemeente.example",
)
DOTTED = ".nl is het adres, .example niet."
LONG_WORD = f"https://gent.example/{'deelauto' * 150}"
TITLE = "Coöperatie deelt één auto 🚗 met 👩\u200d👧"
BODY = f"Dit is het nieuwe adres:\n\n{DOTTED}\n\nDe hele uitslag: {LONG_WORD}\n\nHet kost **€ 40** per ruïne."


@pytest.fixture
def relay() -> Iterator[postfix.Postfix]:
    if not postfix.COMMAND.exists():
        pytest.fail("Postfix is missing: apt-get install -y postfix")
    with postfix.Postfix("gemeente.example", IDN.encode("idna").decode()) as running:
        yield running


@pytest.fixture(params=list(FORMS))
def starttls(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def env(
    postgres: Callable[[str], str], valkey: str, relay: postfix.Postfix, starttls: str, tmp_path: Path
) -> dict[str, str]:
    return {
        "DATABASE_URL": postgres("postfix"),
        "REDIS_URL": f"{valkey.rpartition('/')[0]}/{FORMS[starttls]}",
        "SMTP_URL": relay.url(starttls),
        "SMTPUTF8": "true",
        "BASE_URL": "http://localhost:8000",
        "SECRET_KEY": SECRET,
        "MAIL_FROM": "Coöperatie Vinkje <nieuws@vinkje.example>",
        "ORGANISATION": "Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
        "DATA_DIR": str(tmp_path),
        "TICK_SECONDS": "1",
        "BATCH_SIZE": "250",
    }


@contextlib.contextmanager
def workers(env: dict[str, str], folder: Path) -> Iterator[None]:
    """Two for the round, one for the clock, and beat. Asked to stop, they take leave of the relay."""
    started = [
        processes.Process((*CELERY, *words), env, folder / f"{name}.log")
        for name, words in {
            "beat": ("beat",),
            "clock": ("worker", "-Q", "confirmation,clock", "-c", "1", "-n", "clock@%h"),
            "first": ("worker", "-Q", "newsletter", "-c", "1", "-n", "first@%h"),
            "second": ("worker", "-Q", "newsletter", "-c", "1", "-n", "second@%h"),
        }.items()
    ]
    try:
        yield
        for process in started:
            process.stop()
    finally:
        for process in started:
            process.kill()


def round_of(readers: int) -> int:
    """An approved issue with all that is hard to mail, whose hour has come: the tick will find it."""
    now = datetime.now(UTC)
    before = now - timedelta(days=1)
    typed = [*SPECIAL, *(f"lezer{number}@gemeente.example" for number in range(readers - len(SPECIAL)))]
    people = [
        {"email": one.email, "email_key": one.key, "language": ("nl", "en")[number % 2]}
        for number, one in enumerate(addresses.parse(text, smtputf8=True) for text in typed)
    ]
    with db.transaction() as session:
        theme = themes.add(session=session, slug="energie", name_nl="Coöperatie & “energie”", name_en="Energy, shared")
        session.execute(insert(Subscriber).values(created_at=before), people)
        columns = {"theme_id": theme.id, "state": State.ACTIVE, "requested_at": before, "confirmed_at": before}
        session.execute(
            insert(Subscription), [{"subscriber_id": one, **columns} for one in session.scalars(select(Subscriber.id))]
        )
        make.item(session, theme.slug, TITLE, body=BODY)
        return make.approved(session, theme.slug, now=now).id


@dataclass(frozen=True)
class Sent:
    """What one reader should have got."""

    links: dict[str, str]
    edition: mail.Rendered
    message: bytes


def expected(issue_id: int) -> dict[str, Sent]:
    """By address."""
    with db.transaction() as session:
        theme_id = find(session=session, issue_id=issue_id).theme_id
        frozen = editions.frozen(session=session, issue_id=issue_id)
        pieces = editions.pieces(session=session, issue_id=issue_id)
        sent = {}
        for reader in session.scalars(select(Subscriber)):
            own = {
                "unsubscribe": links.unsubscribe(reader.id, theme_id),
                "preferences": links.preferences(reader.id),
            }
            message_id = editions.message_id(issue_id=issue_id, subscriber_id=reader.id)
            message = pieces[reader.language].fill(to=reader.email, message_id=message_id, **own)
            sent[reader.email] = Sent(own, frozen[reader.language], message)
        return sent


def over(issue_id: int) -> bool:
    with db.transaction() as session:
        return find(session=session, issue_id=issue_id).state is IssueState.SENT


def hung_up(log: list[str]) -> bool:
    """Every connection has ended, and the log has its sum."""
    came, went = (sum(line.startswith(f"{word} from ") for line in log) for word in ("connect", "disconnect"))
    return 0 < came == went


def test_postfix_takes_a_whole_round_and_delivers_each_letter_as_it_was_made(
    house: flask.Flask, env: dict[str, str], relay: postfix.Postfix, starttls: str, tmp_path: Path
) -> None:
    issue_id = round_of(READERS)
    with workers(env, tmp_path):
        processes.wait_until(lambda: relay.count() >= READERS or relay.troubles(), 120, "not all is delivered", 0.5)
        assert relay.troubles() == []
        processes.wait_until(lambda: over(issue_id), 20, "the round isn't over")
    processes.wait_until(lambda: hung_up(relay.log()), 10, "a line to the relay is still open")

    with db.transaction() as session:
        found = books.of(session=session, issue_id=issue_id)
    assert (found.audience, found.accepted, found.balance) == (READERS, READERS, True)
    assert relay.troubles() == []
    taken = re.findall(r"^disconnect from .* data=(\d+) ", "\n".join(relay.log()), re.MULTILINE)
    assert sum(map(int, taken)) == READERS

    sent = expected(issue_id)
    letters = list(relay.letters())
    assert Counter(letter.recipient for letter in letters) == dict.fromkeys(sent, 1)
    assert [letter.recipient for letter in letters if letter.message != sent[letter.recipient].message] == []
    tls = "S" if starttls == "opportunistic" else ""
    assert {(letter.recipient.isascii(), letter.protocol) for letter in letters} == {
        (True, f"ESMTP{tls}"),
        (False, f"UTF8SMTP{tls}"),  # asked for only when it is needed (requirements 1.5)
    }
    assert all(letter.asked == letter.recipient and letter.sender for letter in letters)
    with db.transaction() as session:
        issue = find(session=session, issue_id=issue_id)
        for letter in letters:
            if letter.recipient in (SPECIAL[1], SPECIAL[2]):  # one English, one Dutch
                well_formed(letter.message)
                headers_are_right(letter, sent[letter.recipient], issue)
                bodies_are_right(letter.message, sent[letter.recipient])


def well_formed(message: bytes) -> None:
    """requirements 1.4: lines, seven bits, no bare CR. A bare LF is what Postfix refuses."""
    head, _, body = message.partition(b"\r\n\r\n")
    assert message.isascii()
    assert not re.search(rb"\r(?!\n)|\0", message)
    assert max(map(len, head.split(b"\r\n"))) <= 998
    assert max(map(len, body.split(b"\r\n"))) <= 76
    assert b"\r\n." in body  # else dot-stuffing wasn't tried


def read(message: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def headers_are_right(letter: postfix.Letter, sent: Sent, issue: Issue) -> None:
    """Each once, nothing else (requirements 1.1 to 1.5)."""
    message = read(letter.message)
    assert not [header.name for header in message.values() if header.defects]
    shown = {name: str(value) for name, value in message.items()}
    assert len(shown) == len(message.keys())
    subject = shown.pop("Subject")
    assert subject == sent.edition.subject
    assert TITLE in subject
    date = parsedate_to_datetime(shown.pop("Date"))
    assert timedelta() <= datetime.now(UTC) - date < timedelta(minutes=5)
    message_id = shown.pop("Message-ID")
    assert re.fullmatch(r"<[\w.]+@vinkje\.example>", message_id)
    list_id = shown.pop("List-Id")
    assert list_id.endswith(" <energie.list-id.vinkje.example>")
    content_type = shown.pop("Content-Type")
    assert re.fullmatch(r'multipart/alternative; boundary="[^"]{1,70}"', content_type)
    assert shown == {
        "From": "Coöperatie Vinkje <nieuws@vinkje.example>",
        "To": letter.recipient,
        # One address to leave: https in production; on localhost BASE_URL may be http, as here.
        "List-Unsubscribe": f"<{sent.links['unsubscribe']}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Post": "NO",
        "Feedback-ID": f"{issue.id}:energie:newsletter:vinkje",
        "MIME-Version": "1.0",
    }


def bodies_are_right(message: bytes, sent: Sent) -> None:
    """Text first, HTML last; both decode to the issue's own words with this reader's links."""
    parts = list(read(message).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    for part, source in zip(parts, (sent.edition.text, sent.edition.html), strict=True):
        assert isinstance(part, EmailMessage)
        assert part.get_content_charset() == "utf-8"
        assert part["Content-Transfer-Encoding"] in ("quoted-printable", "base64")
        content = str(part.get_content())
        assert content.splitlines() == wire.fill(source, **sent.links).splitlines()
        for words in (TITLE, DOTTED, LONG_WORD, "€ 40", "ruïne", sent.links["unsubscribe"], sent.links["preferences"]):
            assert words in content, words
    assert DOTTED in str(parts[0].get_content()).splitlines()


HELLO, SENDER, RECIPIENT = b"EHLO [127.0.0.1]\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@gemeente.example>\r\n"


@pytest.mark.parametrize(
    ("said", "sloppy"),
    [
        ("554 5.5.0 ", [HELLO + SENDER]),
        ("503 5.5.1 ", [SENDER]),
        ("501 5.1.7 ", [HELLO, b"MAIL FROM:a@b.example\r\n"]),
        ("bare <LF>", [HELLO, SENDER, RECIPIENT, b"DATA\r\n", b"Subject: x\n\r\n.\r\n"]),
        ("550 5.6.0 ", [HELLO, SENDER, RECIPIENT, b"DATA\r\n", "Subject: x\r\n\r\né\r\n.\r\n".encode()]),
    ],
)
def test_this_postfix_is_strict(relay: postfix.Postfix, said: str, sloppy: list[bytes]) -> None:
    """And its log says so: without this, an empty list of troubles would mean nothing."""
    assert relay.troubles() == []
    with socket.create_connection(("127.0.0.1", relay.port), 10) as line, line.makefile("r") as answers:
        heard = answers.readline()
        for step in sloppy:
            line.sendall(step)
            while (heard := answers.readline())[3:4] == "-":
                pass
    assert said in heard
    processes.wait_until(lambda: hung_up(relay.log()), 10, "it doesn't hang up")
    assert relay.troubles()
