"""What comes back to RETURN_ADDRESS. tests/reports/ holds a mail of each kind we know, written after the formats'
specifications: `<sort>-<name>.eml`.

In them stand @@RETURN@@ (where a bounce of the mail comes back to), @@LOCAL@@ (that, before its @), @@LEAVE@@ (the
address in List-Unsubscribe), and @@ORIGINAL@@ and @@HEADERS@@ (the newsletter they are about: original.txt).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from service import links, settings
from service.delivery import outcomes, reports
from service.delivery.outcomes import Phase, Verdict
from service.delivery.reports import Found, Sort

FOLDER = Path(__file__).parent.parent / "reports"
RETURNS = "post@lists.example"
BOUNCE, LEAVE = ("b", 12, 345), ("u", 345, 2)  # issue and subscriber; subscriber and theme

# The status that must be found in those that tell one.
STATUS = {
    "hard-postfix-unknown-user": "5.1.1",
    "hard-postfix-local-user": "5.1.1",
    "hard-postfix-null-mx": "5.1.0",
    "hard-556-no-mail-here": "5.4.4",
    "hard-postfix-550-to-rcpt-without-words": "5.0.0",
    "hard-exim-dsn": "5.1.1",
    "hard-sendmail": "5.1.1",
    "hard-sendmail-unknown-host": "5.1.2",
    "hard-user-has-moved": "5.1.6",
    "hard-bad-syntax": "5.1.3",
    "hard-exchange-server": "5.1.1",
    "hard-office365": "5.1.10",
    "hard-gmail": "5.1.1",
    "hard-qmail": "5.1.1",
    "hard-outlook-com": "5.5.0",
    "hard-icloud": "5.1.1",
    "hard-courier": "5.0.0",
    "hard-opensmtpd-plain-text": "5.1.1",
    "hard-domino": "5.1.1",
    "hard-report-in-its-prose": "5.1.1",
    "hard-boundary-lost": "5.1.1",
    "hard-utf8-rfc6533": "5.1.1",
    "hard-report-in-base64": "5.1.1",
    "hard-several-recipients": "5.1.1",
    "hard-through-a-forwarder": "5.1.1",
    "soft-postfix-mailbox-full": "5.2.2",
    "soft-postfix-expired": "4.4.1",
    "soft-greylisted-then-expired": "4.2.0",
    "soft-failed-though-unknown-for-now": "4.1.1",
    "soft-exim-retry-timeout": "5.0.0",
    "soft-gmail-over-quota": "5.2.2",
    "soft-gmail-disabled": "5.2.1",
    "soft-office365-queue-expired": "4.4.7",
    "soft-office365-mailbox-full": "5.2.2",
    "soft-office365-access-denied": "5.4.1",
    "soft-qmail-queue-too-long": "4.4.1",
    "soft-courier-over-quota": "5.0.0",
    "soft-no-such-host": "5.4.4",
    "soft-address-outside-ascii": "5.6.7",
    "soft-mail-loop": "5.4.6",
    "soft-system-trouble": "5.3.0",
    "fault-gmail-unauthenticated": "5.7.26",
    "fault-microsoft-515": "5.7.515",
    "fault-office365-spam": "5.7.1",
    "fault-message-too-large": "5.3.4",
    "fault-larger-than-the-mailbox-takes": "5.2.3",
    "fault-550-after-data-without-words": "5.0.0",
    "fault-qmail-policy": "5.7.1",
    "fault-sender-address": "5.1.8",
    "fault-sendmail-calls-it-unknown": "5.7.1",
    "fault-yahoo-dmarc": "5.7.9",
    "fault-protocol": "5.5.2",
}
MAILS = sorted(path.stem for path in FOLDER.glob("*.eml"))


@pytest.fixture(autouse=True, scope="module")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = list(settings._in_use)
    settings.use(
        settings.load(
            data_dir=tmp_path_factory.mktemp("reports"),
            secret_key="a secret for reports, of more than 32 characters",
            base_url="https://nieuws.lists.example",
            return_address=RETURNS,
        )
    )
    yield
    settings._in_use[:] = before


def template(name: str) -> str:
    original = (FOLDER / "original.txt").read_text()
    written = (FOLDER / f"{name}.eml").read_text()
    return written.replace("@@ORIGINAL@@", original).replace("@@HEADERS@@", original.partition("\n\n")[0] + "\n")


def mail(name: str) -> bytes:
    back, leave = links.return_path(12, 345), links.unsubscribe_address(345, 2)
    filled = template(name).replace("@@RETURN@@", back).replace("@@LEAVE@@", leave)
    return filled.replace("@@LOCAL@@", back.partition("@")[0]).encode()


def look(raw: bytes) -> Found:
    """As `parse`, but a crash isn't hidden."""
    return reports._read(raw, RETURNS)


@pytest.mark.parametrize("name", MAILS)
def test_each_kind_of_mail_is_known(name: str) -> None:
    placeholders = set(re.findall("@@[A-Z]+@@", template(name)))
    meant = [BOUNCE] if placeholders & {"@@RETURN@@", "@@LOCAL@@"} else []
    meant += [LEAVE] if "@@LEAVE@@" in placeholders else []

    for raw in (mail(name), mail(name).replace(b"\n", b"\r\n")):
        found = look(raw)
        assert found.sort == name.partition("-")[0]
        assert found.status == STATUS.get(name, "")
        assert [links.read_return(address) for address in found.addresses] == meant
        assert found == reports.parse(raw, returns=RETURNS)


def test_the_corpus_is_large_and_has_all_sorts() -> None:
    assert {name.partition("-")[0] for name in MAILS} == set(Sort)
    assert set(STATUS) <= set(MAILS)
    assert len(MAILS) >= 70


def test_no_real_address_stands_in_the_corpus() -> None:
    domains = {domain for name in MAILS for domain in re.findall(r"[a-z0-9]@([a-z0-9.-]+\w)", template(name).lower())}
    assert {domain for domain in domains if not domain.endswith(".example")} == set()


def notification(status: str, said: str = "", action: str = "failed") -> bytes:
    return (
        "From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\n\n"
        "--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        f"Final-Recipient: rfc822; a@b.example\nAction: {action}\nStatus: {status}\nDiagnostic-Code: {said}\n\n--x--\n"
    ).encode()


@pytest.mark.parametrize(
    ("sort", "codes"),
    [
        (Sort.HARD, ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"]),
        (Sort.SOFT, ["4.0.0", "4.1.1", "4.7.28", "5.2.1", "5.2.2", "5.4.4", "5.4.6", "5.3.0", "5.3.2", "5.6.7"]),
        (Sort.FAULT, ["5.7.0", "5.7.1", "5.7.515", "5.1.7", "5.1.8", "5.5.2", "5.6.0", "5.6.1", "5.2.3", "5.3.4"]),
    ],
)
def test_codes_mean_what_they_mean_in_a_relays_answer(sort: Sort, codes: list[str]) -> None:
    """Requirements 1.10. One table: outcomes.classify."""
    verdicts = {Verdict.DEAD: Sort.HARD, Verdict.OURS: Sort.FAULT}
    for code in codes:
        assert look(notification(code)) == Found(sort, code)
        verdict = outcomes.classify(int(code[0]) * 100 + 50, code, Phase.RCPT)
        assert verdicts.get(verdict, Sort.SOFT) is sort


@pytest.mark.parametrize(
    ("said", "sort", "status"),
    [
        ("smtp; 550 5.1.1 and not what the writer says", Sort.HARD, "5.1.1"),
        ("smtp; 550 user unknown", Sort.HARD, "5.0.0"),
        ("smtp; 550 De mailbox is vol", Sort.SOFT, "5.0.0"),
        ("smtp; 550 Gebruiker onbekend", Sort.HARD, "5.0.0"),
        ("smtp; 550 Das Postfach ist voll", Sort.SOFT, "5.0.0"),
        ("smtp; 550 Utilisateur inconnu", Sort.HARD, "5.0.0"),
        ("smtp; 451 user unknown", Sort.SOFT, "5.0.0"),
        ("smtp; 550 user unknown or over quota", Sort.SOFT, "5.0.0"),
        ("smtp; 550 user unknown, or you are on a blocklist", Sort.FAULT, "5.0.0"),
        ("smtp; 550 You are blocked", Sort.FAULT, "5.0.0"),
        ("smtp; 550 Mailbox is locked", Sort.SOFT, "5.0.0"),
        ("smtp; 554 domain has a null MX", Sort.HARD, "5.0.0"),
        ("smtp; 550 see https://spam.example/user-unknown", Sort.SOFT, "5.0.0"),
        ("smtp; 550 to user.unknown@b.example: no", Sort.SOFT, "5.0.0"),
        ("smtp; 550 5.1.351 Remote server returned unknown recipient -> 550 5.1.1 nobody", Sort.HARD, "5.1.1"),
        ("smtp; 550 no", Sort.SOFT, "5.0.0"),
        ("x-unix; Exim 4.98.2 on 4.4.4.4 says no", Sort.SOFT, "5.0.0"),
        ("", Sort.SOFT, "5.0.0"),
    ],
)
def test_words_count_where_the_status_says_nothing(said: str, sort: Sort, status: str) -> None:
    """What isn't known is never a dead address."""
    assert look(notification("5.0.0", said)) == Found(sort, status)


def test_only_what_failed_is_a_bounce() -> None:
    assert look(notification("5.1.1", action="delayed")).sort is Sort.DELAYED
    for action in ("delivered", "relayed", "expanded", "deliverable", ""):
        assert look(notification("5.1.1", action=action)).sort is Sort.UNKNOWN


def test_the_servers_on_the_way_are_trusted_before_the_sender_and_what_is_quoted() -> None:
    names = ("quoted", "to", "original", "delivered")
    address = {name: f"post+b{n}-1-{'0' * 20}@lists.example" for n, name in enumerate(names)}
    raw = (
        f"To: A <{address['to']}>, post+news@other.example\nX-Original-To: {address['original']}\n"
        f"Delivered-To: {address['delivered']}\nCc: reader+shop@elders.example\n\n"
        f"Return-Path: <{address['quoted']}>\nList-Unsubscribe: <mailto:{address['to']}>\n"
    )

    assert look(raw.encode()).addresses == tuple(address[name] for name in ("delivered", "original", "to", "quoted"))


def test_who_quotes_an_unsubscribe_address_doesnt_leave() -> None:
    leave = links.unsubscribe_address(345, 2)
    quoted = f"To: post@lists.example\n\nList-Unsubscribe: <mailto:{leave}?subject=unsubscribe>\n"

    assert look(quoted.encode()) == Found(Sort.UNKNOWN, "", (leave,))
    assert look(f"To: {leave.upper()}\n\n".encode()).sort is Sort.UNSUBSCRIBE


@pytest.mark.parametrize("sender", ["Beheer <postmaster@school.example>", "Mail Delivery Team <info@bedrijf.example>"])
@pytest.mark.parametrize("rest", ["Subject: unsubscribe\n\n", "Subject: Unsubscribe\n\nunsubscribe\n", "\n\n"])
def test_who_is_called_like_a_mail_server_can_leave_too(sender: str, rest: str) -> None:
    leave = links.unsubscribe_address(345, 2)
    written = f"From: {sender}\nTo: {leave}\n{rest}"

    assert look(written.encode()) == Found(Sort.UNSUBSCRIBE, "", (leave,))


@pytest.mark.parametrize("machine", ["Auto-Submitted: auto-replied\n", "Return-Path: <>\n", "X-Autoreply: yes\n"])
def test_a_mail_server_that_keeps_our_subject_doesnt_leave(machine: str) -> None:
    raw = f"{machine}From: postmaster@school.example\nTo: {links.unsubscribe_address(345, 2)}\nSubject: unsubscribe\n\n"

    assert look(raw.encode()).sort in (Sort.UNKNOWN, Sort.AUTO_REPLY)
    bounce = notification("5.1.1").replace(
        b"\n", f"\nTo: {links.unsubscribe_address(345, 2)}\nSubject: unsubscribe\n".encode(), 1
    )
    assert look(bounce).sort is Sort.HARD


@pytest.mark.parametrize(
    ("extra", "said", "sort"),
    [
        ("", "Your account does not exist in our ticket system, so we made one.", Sort.SOFT),
        ("", "550 Your account does not exist.", Sort.HARD),
        ("Return-Path: <>\nAuto-Submitted: auto-replied\n", "Your account does not exist.", Sort.SOFT),
        ("X-Failed-Recipients: saskia@gemeente.example\n", "Your account does not exist.", Sort.HARD),
    ],
)
def test_words_alone_make_no_dead_address(extra: str, said: str, sort: Sort) -> None:
    raw = f"From: Helpdesk <postmaster@gemeente.example>\n{extra}To: {RETURNS}\nSubject: [Ticket] received\n\n{said}\n"

    assert look(raw.encode()).sort is sort


def damaged(raw: bytes, every: int, start: int) -> Iterator[bytes]:
    """One octet gone, another or twice, or all after it gone."""
    for n, at in enumerate(range(start, len(raw), every)):
        flipped = bytes([raw[at] ^ (1 << n % 8)])
        yield raw[:at] + (b"", flipped, raw[at : at + 1] * 2)[n % 3] + raw[at + 1 :]
        if n % 5 == 0:
            yield raw[:at]


def holds(raw: bytes) -> None:
    found = look(raw)
    assert found.sort in Sort
    assert re.fullmatch(r"([45]\.[0-7]\.\d{1,3})?", found.status)
    for address in found.addresses:
        assert address.encode() in raw
        assert "+" in address.partition("@")[0]


def test_a_damaged_mail_neither_crashes_nor_names_an_address_that_isnt_in_it() -> None:
    tried = 0
    for n, name in enumerate(MAILS):
        raw = mail(name)
        for worse in damaged(raw, every=max(len(raw) // 40, 1), start=n % 37):
            holds(worse)
            tried += 1
    assert tried > 4_000


PIECES = st.sampled_from([b"\0", b"\xff\xfe", b"\r", b"\n\n", b"=?utf-8?b?", b"--", b"@", b"+", b"Content-Type: "])


@trying(deadline=None, max_examples=60)
@given(st.data())
def test_what_is_put_together_at_random_does_no_harm(data: st.DataObject) -> None:
    mails = [mail(data.draw(st.sampled_from(MAILS))) for _ in range(2)]
    at = data.draw(st.integers(0, 3000))
    holds(mails[0][:at] + data.draw(PIECES | st.binary(max_size=60)) + mails[1][at:])


MONSTERS = {
    "lines": b"\n" * 1_000_000,
    "one line": b"From: mailer-daemon\n\n<" + b"a" * 1_000_000,
    "no at": b"To: " + b"a" * 1_000_000 + b"@",
    "ats": b"Delivered-To: " + b"a+b@" * 250_000,
    "brackets": b"X-Failed-Recipients: " + b"(" * 1_000_000,
    "tags": b"From: postmaster\nContent-Type: text/html\n\n" + b"<" * 1_000_000,
    "headers": b"x: y\n" * 200_000,
    "encoded words": b"Subject: " + b"=?" * 500_000,
    "parts": b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\n" * 200_000,
    "digest": b"Content-Type: multipart/digest; boundary=a\n\n" + b"--a\n\n" * 200_000,
    "mails in mails": b"Content-Type: message/rfc822\n\n" * 33_000,
    "parts in parts": b"".join(
        b"Content-Type: multipart/mixed; boundary=a%d\n\n--a%d\n" % (n, n) for n in range(18_000)
    ),
    "numbers": notification("5.0.0", "4." * 400_000),
    "recipients": notification("5.0.0", "x\n\nAction: failed\nStatus: 5.1.1" * 30_000),
    "silent recipients": b"Content-Type: multipart/report; boundary=x\n\n--x\n\n"
    + b"user " * 12_800
    + b"\n--x\nContent-Type: message/delivery-status\n\n"
    + b"Action: failed\n\n" * 4_000
    + b"--x--\n",
    "parameters": b'From: postmaster\nContent-Type: multipart/report; x="' + b";" * 1_000_000 + b"\n\n",
    "folded parameters": b'From: postmaster\nContent-Type: multipart/report; x="\n'
    + (b" " + b";" * 48 + b"\n") * 19_000,
    "parameters of parts": b"Content-Type: multipart/mixed; boundary=a\n\n"
    + (b'--a\nContent-Type: multipart/report; x="' + b";" * 40_000 + b"\n\n") * 25,
    "warnings": b"Subject: a\n\nYour message to:\n" + b"not yet been delivered " * 40_000,
    "forms": b"From: postmaster\n\nYour message to:\nA message that you sent could not be delivered\n" + b" " * 900_000,
    "lines of forms": b"From: postmaster\n\nYour message to:\nA message that you sent could not be delivered\n"
    + (b" " * 300 + b"\n") * 3_000,
    "returned": b"From: mailer-daemon\n\n" + b"Return-Path:\n " * 70_000,
    "receipts": b"Content-Type: text/plain; charset=punycode\nContent-Transfer-Encoding: x-uuencode\n\nbegin 6 a\n"
    * 9_000,
}


def test_a_monster_is_read_in_no_time() -> None:
    """What grows with the square of a megabyte would take hours."""
    started = time.process_time()
    sorts = {name: look(raw).sort for name, raw in MONSTERS.items()}

    assert time.process_time() - started < 10
    assert sorts["recipients"] is Sort.HARD
    assert sorts["lines"] is Sort.UNKNOWN


def test_what_lies_behind_a_megabyte_isnt_read() -> None:
    body = itertools.repeat(b"\n" + b"a" * 997, 1_100)
    raw = notification("5.1.1").replace(b"\n\n", b"\n\n" + b"".join(body) + b"\n", 1)

    assert look(notification("5.1.1")).sort is Sort.HARD
    assert look(raw).sort is not Sort.HARD
