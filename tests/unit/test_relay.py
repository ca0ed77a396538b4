"""The line to the relay, against a real SMTP server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service import urls
from service.delivery.outcomes import Phase, Verdict
from tests import fakes
from worker import relay, single

MAIL = b"Subject: Deelauto's\r\n\r\nDe proef begint.\r\n.een punt vooraan\r\n"
SENDER, SASKIA, JOHAN = "nieuws@vinkje.example", "saskia@gemeente.example", "johan@gemeente.example"


def line_to(server: fakes.Relay, url: str = "", cap: int = 500) -> single.Relay:
    return single.Relay(urls.relay(url or server.url), hello="vinkje.example", cap=cap)


def deliver(line: single.Relay, to: str = SASKIA, message: bytes = MAIL) -> relay.Reply:
    return line.deliver(sender=SENDER, recipient=to, message=message)


def test_a_mail_arrives_as_it_was_made(relay: fakes.Relay) -> None:
    with line_to(relay) as line:
        reply = deliver(line)

    assert (reply.verdict, reply.phase, reply.status) == (Verdict.ACCEPTED, Phase.DOT, "250 2.0.0")
    (caught,) = relay.caught
    assert (caught.sender, caught.recipient, caught.content) == (SENDER, SASKIA, MAIL)


def test_mails_share_a_connection_up_to_a_cap(relay: fakes.Relay) -> None:
    with line_to(relay, cap=3) as line:
        replies = [deliver(line) for _ in range(7)]

    assert {reply.verdict for reply in replies} == {Verdict.ACCEPTED}
    assert relay.connections == 3


def test_a_line_that_was_idle_for_long_is_not_trusted(relay: fakes.Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    with line_to(relay) as line:
        deliver(line)
        monkeypatch.setattr("worker.lines.IDLE_SECONDS", -1.0)
        deliver(line)

    assert relay.connections == 2


def test_a_refused_recipient_does_not_spoil_the_next(relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda address: "550 5.1.1 <johan@gemeente.example> unknown" if address == JOHAN else None
    with line_to(relay) as line:
        refused, taken = deliver(line, JOHAN), deliver(line, SASKIA)

    assert (refused.verdict, refused.phase, refused.status) == (Verdict.DEAD, Phase.RCPT, "550 5.1.1")
    assert JOHAN not in refused.text
    assert taken.verdict is Verdict.ACCEPTED
    assert relay.connections == 1


def test_421_is_charged_to_nobody_and_the_line_is_made_anew(relay: fakes.Relay) -> None:
    relay.answer_rcpt = lambda address: "421 4.7.28 too fast" if address == JOHAN else None
    with line_to(relay) as line:
        sent_away, taken = deliver(line, JOHAN), deliver(line, SASKIA)

    assert sent_away.verdict is Verdict.NOBODY
    assert taken.verdict is Verdict.ACCEPTED


def test_a_relay_that_had_enough_of_a_line_gets_the_mail_on_a_new_one(relay: fakes.Relay) -> None:
    turns = iter([None, "421 4.3.2 enough for one session", None])
    relay.answer_mail = lambda address: next(turns)
    with line_to(relay) as line:
        replies = [deliver(line, SASKIA), deliver(line, JOHAN)]

    assert [reply.verdict for reply in replies] == [Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert [mail.recipient for mail in relay.caught] == [SASKIA, JOHAN]
    assert relay.connections == 2


@pytest.mark.parametrize(
    ("hang_up", "phase", "verdict"),
    [
        ("answer_mail", Phase.MAIL, Verdict.NOBODY),
        ("answer_rcpt", Phase.RCPT, Verdict.NOBODY),
        ("answer_data", Phase.DOT, Verdict.UNCERTAIN),
    ],
)
def test_only_a_line_that_breaks_after_the_dot_leaves_doubt(
    relay: fakes.Relay, hang_up: str, phase: Phase, verdict: Verdict
) -> None:
    say: Callable[[str], str | None] = lambda address: ""  # noqa: E731
    setattr(relay, hang_up, say)
    with line_to(relay) as line:
        reply = deliver(line)

    assert (reply.code, reply.phase, reply.verdict) == (0, phase, verdict)


def test_a_relay_that_is_down_is_nobodys_fault() -> None:
    with fakes.Relay() as server:
        pass
    with line_to(server) as line:
        assert deliver(line).verdict is Verdict.NOBODY


def test_an_address_outside_ascii_needs_smtputf8() -> None:
    name = "josé@gemeente.example"
    with fakes.Relay(smtputf8=False) as server, line_to(server) as line:
        refused, next_one = deliver(line, name), deliver(line, SASKIA)
    assert (refused.status, refused.verdict) == ("553 5.6.7", Verdict.REFUSED)
    assert next_one.verdict is Verdict.ACCEPTED

    with fakes.Relay(smtputf8=True) as server, line_to(server) as line:
        assert deliver(line, name).verdict is Verdict.ACCEPTED
    assert [mail.recipient for mail in server.caught] == [name]


def test_an_address_that_holds_a_command_never_reaches_the_wire(relay: fakes.Relay) -> None:
    with line_to(relay) as line:
        reply = deliver(line, "saskia@gemeente.example>\r\nRCPT TO:<johan@gemeente.example")

    assert reply.verdict is Verdict.DEAD
    assert relay.connections == 0


def test_a_mail_that_is_too_large_for_the_relay_is_our_fault(relay: fakes.Relay) -> None:
    with line_to(relay) as line:
        reply = deliver(line, message=b"x" * 998 + b"\r\n" + b"y" * 34_000_000)

    assert (reply.status, reply.verdict) == ("552 5.3.4", Verdict.OURS)
    assert not relay.caught


def test_required_tls_with_a_good_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(fakes.CERTIFICATE))
    with fakes.Relay(tls=True) as server, line_to(server, f"{server.url}?starttls=required") as line:
        assert deliver(line).verdict is Verdict.ACCEPTED


def test_required_tls_sends_nothing_without_it(relay: fakes.Relay) -> None:
    with line_to(relay, f"{relay.url}?starttls=required") as line:
        plain = deliver(line)
    with fakes.Relay(tls=True) as server, line_to(server, f"{server.url}?starttls=required") as line:
        unknown = deliver(line)  # a certificate that nobody vouches for

    assert (plain.verdict, unknown.verdict) == (Verdict.NOBODY, Verdict.NOBODY)
    assert not relay.caught
    assert not server.caught


def test_opportunistic_tls_takes_what_it_can_get(relay: fakes.Relay) -> None:
    with fakes.Relay(tls=True) as server, line_to(server, f"{server.url}?starttls=opportunistic") as line:
        assert deliver(line).verdict is Verdict.ACCEPTED
    with line_to(relay, f"{relay.url}?starttls=opportunistic") as line:
        assert deliver(line).verdict is Verdict.ACCEPTED


def test_a_log_in_that_is_refused_stops_the_run() -> None:
    with fakes.Relay(login=("vinkje", "geheim")) as server:
        host = server.url.removeprefix("smtp://")
        with line_to(server, f"smtp://vinkje:geheim@{host}") as line:
            assert deliver(line).verdict is Verdict.ACCEPTED
        with line_to(server, f"smtp://vinkje:fout@{host}") as line:
            reply = deliver(line)

    assert (reply.phase, reply.verdict) == (Phase.LOGIN, Verdict.STOP)
    assert len(server.caught) == 1


@pytest.mark.parametrize(("offered", "groups"), [(True, [1, 3, 1, 3, 1]), (False, [1, 1, 1, 1, 1, 1, 1, 1, 1])])
def test_an_envelope_travels_in_one_group_where_the_relay_offers_it(offered: bool, groups: list[int]) -> None:
    with fakes.Sink(pipelining=offered) as sink:
        with single.Relay(urls.relay(sink.url)) as line:
            assert {deliver(line).verdict for _ in range(2)} == {Verdict.ACCEPTED}
        assert sink.groups[: len(groups)] == groups
        assert sink.taken == {SASKIA: 2}
