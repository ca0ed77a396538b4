"""Several connections at once, to relays that are quick, slow, silent, or gone."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from service import urls
from service.delivery.outcomes import Phase
from tests import fakes, processes
from worker import relay
from worker.line import Message
from worker.lines import Lines
from worker.pipeline import Answer

SENDER = "nieuws@vinkje.example"
MEGABYTE = 1024 * 1024
TAKEN = "250 2.0.0 taken"
# The one whose content is out, the one that went with its dot, and one ahead.
BEHIND_A_DOT = 3
CORKED = 16 * 1024  # octets that a relay with its hands full still takes in


class Peer:
    """One connection as the relay sees it. `mails` are the numbers of those it has taken."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")
        self.mails: list[int] = []
        self.contents: list[bytes] = []
        self.polite = False  # it heard QUIT
        self.over = threading.Event()
        self.thread = threading.get_ident()

    def say(self, *lines: str) -> None:
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def encrypt(self) -> None:
        self.say("220 go ahead")
        self.file.close()
        self.sock = fakes.certificate().wrap_socket(self.sock, server_side=True)
        self.file = self.sock.makefile("rb")

    def content(self) -> bytes:
        read: list[bytes] = []
        while (line := self.file.readline()) not in (b".\r\n", b""):
            read.append(line)
        return b"".join(read)

    def hang_up(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)


class Host:
    """A relay that offers PIPELINING. `at` gives its reply to RCPT, DATA and the dot of the mail with this number, None
    for a good one; it may also wait. Without `greet` it doesn't say 220, without `may_read` it reads no content.
    After `allowed` connections it wants no more.
    """

    def __init__(self, *, tls: bool = False, receive: int = 0) -> None:
        self.at: Callable[[Phase, int], str | None] = lambda phase, number: None
        self.greet, self.may_read = threading.Event(), threading.Event()
        self.greet.set()
        self.may_read.set()
        self.peers: list[Peer] = []
        self.allowed = 1000
        self._tls = tls
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._serve)  # type: ignore[arg-type]
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if receive:
            self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Host:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.hang_up()
            assert peer.over.wait(10)

    def taken(self) -> list[int]:
        return sorted(number for peer in self.peers for number in peer.mails)

    def _serve(self, sock: Any, client: object, server: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        self.peers.append(peer)
        with contextlib.suppress(OSError, ValueError):
            self.greet.wait(10)
            if len(self.peers) > self.allowed:
                peer.say("421 4.7.0 too many connections")
            else:
                peer.say("220 host")
                self._talk(peer)
        peer.file.close()
        peer.sock.close()
        peer.over.set()

    def _talk(self, peer: Peer) -> None:
        number, tls = 0, self._tls
        while line := peer.file.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                peer.say("250-host", *["250-STARTTLS"] * tls, "250 PIPELINING")
            elif verb == b"STAR":
                peer.encrypt()
                tls = False
            elif verb == b"RCPT":
                number = int(line.split(b"lezer")[1].split(b"@")[0])
                self._answer(peer, Phase.RCPT, number, "250 2.1.5 OK")
            elif verb == b"DATA":
                self._answer(peer, Phase.DATA, number, "354 go on")
                self.may_read.wait(10)
                peer.contents.append(peer.content())
                peer.mails.append(number)
                self._answer(peer, Phase.DOT, number, TAKEN)
            elif verb == b"QUIT":
                peer.polite = True
                return
            else:
                peer.say("250 2.0.0 OK")

    def _answer(self, peer: Peer, phase: Phase, number: int, good: str) -> None:
        said = self.at(phase, number)
        if said != "":
            peer.say(said or good)


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as made:
        yield made


@contextlib.contextmanager
def lines_to(url: str, most: int = 1, cap: int = 500) -> Iterator[Lines]:
    made = Lines(urls.relay(url), hello="vinkje.example", most=most, cap=cap)
    try:
        yield made
    finally:
        made.close()


def message(number: int, size: int = 0) -> Message:
    content = b"X-Number: %d\r\n\r\n" % number + (b"%063d\r\n" % number) * (size // 65)
    return Message(number, SENDER, f"lezer{number}@gemeente.example", content, len(content))


def messages(count: int, size: int = 0) -> list[Message]:
    return [message(number, size) for number in range(count)]


def feed(lines: Lines, waiting: deque[Message]) -> None:
    """As a pass over a batch does before each turn."""
    if waiting:
        lines.want()
    for line in lines.hungry:
        while waiting and line.hungry:
            lines.put(line, waiting.popleft())
    lines.ready()
    lines.write()


def turns(lines: Lines, waiting: deque[Message], over: Callable[[list[Answer]], object]) -> list[Answer]:
    """Turn after turn, until it's `over`."""
    answers: list[Answer] = []

    def turn() -> bool:
        feed(lines, waiting)
        answers.extend(lines.turn(0.02))
        return bool(over(answers))

    processes.wait_until(turn, 20, f"{len(waiting)} wait", pause=0)
    return answers


def open_all(lines: Lines) -> None:
    """As many as there may be."""

    def opened() -> bool:
        lines.want()
        lines.turn(0.02)
        return lines.count == lines.most

    processes.wait_until(opened, 10, f"{lines.most} connections", pause=0)


def send(lines: Lines, outgoing: Iterable[Message]) -> dict[int, tuple[Phase, int]]:
    """Until each has its answer: phase and code of each number."""
    waiting = deque(outgoing)
    count = len(waiting)
    answers = turns(lines, waiting, lambda answers: len(answers) >= count)
    assert lines.idle
    assert len(answers) == count
    return told(answers)


def told(answers: Iterable[Answer]) -> dict[int, tuple[Phase, int]]:
    return {answer.key: (answer.phase, answer.code) for answer in answers}


def all_taken(count: int) -> dict[int, tuple[Phase, int]]:
    return dict.fromkeys(range(count), (Phase.DOT, 250))


def only_those_behind_it_wait(found: dict[int, tuple[Phase, int]], code: int) -> None:
    """Of which the relay had heard nothing, or no more than the envelope, when the connection ended."""
    behind = [answer for answer in found.values() if answer != (Phase.DOT, 250)]
    assert len(behind) < BEHIND_A_DOT
    assert set(behind) <= {(Phase.MAIL, code)}


# --- The work is shared


def test_connections_work_at_the_same_time(host: Host) -> None:
    """The relay answers a dot once it has one on each of them."""
    together = threading.Barrier(3)

    def wait_for_the_others(phase: Phase, number: int) -> None:
        if phase is Phase.DOT:
            together.wait(10)

    host.at = wait_for_the_others
    with lines_to(host.url, most=3) as lines:
        assert send(lines, messages(9)) == all_taken(9)
    assert [len(peer.mails) for peer in host.peers] == [3, 3, 3]


def test_a_slow_connection_holds_up_none_of_the_others(host: Host) -> None:
    released = threading.Event()

    def slow(phase: Phase, number: int) -> None:
        if (phase, number) == (Phase.DOT, 0):
            released.wait(10)

    host.at = slow
    with lines_to(host.url, most=2) as lines:
        waiting = deque(messages(50))
        first = turns(lines, waiting, lambda answers: len(answers) == 50 - BEHIND_A_DOT)
        assert not waiting
        released.set()
        last = turns(lines, waiting, lambda answers: len(answers) == BEHIND_A_DOT)
    assert 0 in told(last)
    assert told(first + last) == all_taken(50)


@pytest.mark.parametrize(("offered", "groups"), [(True, [1, 3, 4, 4, 4, 4, 4, 1]), (False, [1] * 25)])
def test_a_message_costs_one_round_trip_where_the_relay_offers_it(offered: bool, groups: list[int]) -> None:
    with fakes.Sink(pipelining=offered) as sink, lines_to(sink.url) as lines:
        assert send(lines, messages(6)) == all_taken(6)
        assert sink.groups == groups


@pytest.mark.parametrize("offered", [True, False])
def test_nobody_is_missed_or_twice_over_many_connections(offered: bool) -> None:
    with fakes.Sink(pipelining=offered) as sink, lines_to(sink.url, most=5, cap=7) as lines:
        assert send(lines, messages(300)) == all_taken(300)
        assert sink.taken == {message(number).recipient: 1 for number in range(300)}


# --- How many connections, and how much on each


def test_a_connection_carries_as_many_messages_as_it_may(host: Host) -> None:
    with lines_to(host.url, cap=3) as lines:
        assert send(lines, messages(7)) == all_taken(7)
    assert [peer.mails for peer in host.peers] == [[0, 1, 2], [3, 4, 5], [6]]
    processes.wait_until(lambda: all(peer.polite for peer in host.peers), 5)


def test_none_of_many_carries_more(host: Host) -> None:
    with lines_to(host.url, most=3, cap=4) as lines:
        assert send(lines, messages(50)) == all_taken(50)
    assert host.taken() == list(range(50))
    assert max(len(peer.mails) for peer in host.peers) == 4
    assert lines.lost == 0


def test_more_connections_are_opened_as_soon_as_there_may_be(host: Host) -> None:
    with lines_to(host.url, most=1) as lines:
        send(lines, messages(5))
        assert (lines.count, len(host.peers)) == (1, 1)
        lines.most = 6
        open_all(lines)
        assert send(lines, messages(60)) == all_taken(60)
        assert (lines.count, len(host.peers)) == (6, 6)


def test_when_there_may_be_none_the_idle_ones_are_closed(host: Host) -> None:
    with lines_to(host.url, most=3) as lines:
        open_all(lines)
        lines.most = 0
        lines.want()
        assert (lines.count, lines.hungry, lines.lost) == (0, [], 0)
        processes.wait_until(lambda: all(peer.polite for peer in host.peers), 5)
        lines.most = 1
        assert send(lines, messages(5)) == all_taken(5)
    assert len(host.peers) == 4


def test_when_there_may_be_fewer_the_busy_ones_finish_first(host: Host) -> None:
    held: list[int] = []
    released = threading.Event()

    def hold(phase: Phase, number: int) -> None:
        if phase is Phase.DOT:
            held.append(number)
            released.wait(10)

    host.at = hold
    with lines_to(host.url, most=3) as lines:
        waiting = deque(messages(20))
        turns(lines, waiting, lambda answers: len(held) == 3)
        lines.most = 1
        lines.want()
        assert lines.count == 3  # each waits for an answer
        released.set()
        answers = turns(lines, waiting, lambda answers: lines.idle and not waiting)
        assert told(answers) == all_taken(20)
        lines.want()
        assert (lines.count, lines.lost) == (1, 0)
    assert sorted(len(peer.mails) for peer in host.peers) == [BEHIND_A_DOT, BEHIND_A_DOT, 20 - 2 * BEHIND_A_DOT]


# --- Connections that end


@pytest.mark.parametrize("last_words", ["421 4.4.2 idle for too long", ""])
def test_one_that_the_relay_ends_while_it_is_idle_is_no_trouble(host: Host, last_words: str) -> None:
    with lines_to(host.url) as lines, lines.in_use():
        send(lines, messages(3))
        if last_words:
            host.peers[0].say(last_words)
        host.peers[0].hang_up()
        processes.wait_until(lambda: lines.turn(0.02) == [] and lines.count == 0, 5, pause=0)
        assert (lines.lost, lines.unreachable) == (0, None)
        assert send(lines, messages(3)) == all_taken(3)
        assert (lines.lost, len(host.peers)) == (0, 2)


def test_one_that_was_ended_between_two_batches_is_let_go_of_before_anything_is_put_on_it(host: Host) -> None:
    with lines_to(host.url) as lines:
        with lines.in_use():
            send(lines, messages(3))
        host.peers[0].hang_up()
        assert host.peers[0].over.wait(5)
        with lines.in_use():
            assert lines.count == 0
            assert send(lines, messages(3)) == all_taken(3)
            assert lines.lost == 0


def test_those_that_nobody_uses_for_a_while_are_closed_so_that_others_may_have_them(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lines.REST_SECONDS", 0.2)
    with lines_to(host.url, most=2) as lines:
        with lines.in_use():
            open_all(lines)
            send(lines, messages(8))
        with lines.in_use():
            assert lines.count == 2
            assert not host.peers[0].over.wait(0.5)  # longer than it may rest; but it doesn't
            assert send(lines, messages(8)) == all_taken(8)
        assert all(peer.over.wait(5) and peer.polite for peer in host.peers)
        with lines.in_use():
            assert send(lines, messages(8)) == all_taken(8)
    assert len(host.peers) in (3, 4)


@pytest.mark.parametrize(("last_words", "code"), [("421 4.3.2 closing", 421), ("", 0)])
def test_one_that_ends_with_a_message_on_it_is_trouble_and_the_others_go_on(
    host: Host, last_words: str, code: int
) -> None:
    def end(phase: Phase, number: int) -> str | None:
        if (phase, number) != (Phase.RCPT, 4):
            return None
        peer = next(peer for peer in host.peers if threading.get_ident() == peer.thread)
        if last_words:
            peer.say(last_words)
        peer.hang_up()
        return ""

    host.at = end
    with lines_to(host.url, most=2) as lines:
        found = send(lines, messages(20))
        assert found.pop(4) == (Phase.RCPT, code)
        assert lines.lost == 1
    only_those_behind_it_wait(found, code)


def test_a_relay_that_is_away_says_why_and_is_not_asked_all_the_time(host: Host) -> None:
    url = f"smtp://127.0.0.1:{processes.free_port()}"
    with lines_to(url, most=3) as lines:
        lines.want()
        processes.wait_until(lambda: lines.turn(0.02) == [] and lines.unreachable, 5, pause=0)
        assert lines.unreachable == relay.Reply(Phase.CONNECT, 0, text="Connection refused")
        lines.want()
        assert lines.unreachable is not None  # none is being opened
        with lines.in_use():
            assert lines.fault is None  # the next batch asks at once


def test_one_that_allows_fewer_than_we_may_have_is_asked_less_and_less(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lines.REOPEN_SECONDS", 0.02)
    host.allowed = 1
    with lines_to(host.url, most=3) as lines:
        waiting, until = deque(messages(1)), time.monotonic() + 1.0
        turns(lines, waiting, lambda answers: bool(answers))
        while time.monotonic() < until:
            lines.want()
            lines.turn(0.01)
        assert 3 < len(host.peers) < 15  # at an even pace there would be fifty
        assert send(lines, messages(5)) == all_taken(5)
        assert (lines.count, lines.lost) == (1, 0)


def test_to_close_while_connections_are_being_opened_leaves_none_open(host: Host) -> None:
    host.greet.clear()
    with lines_to(host.url, most=3) as lines:
        lines.want()
        processes.wait_until(lambda: len(host.peers) == 3, 5)
    host.greet.set()
    assert all(peer.over.wait(10) for peer in host.peers)
    assert lines.count == 0


# --- Slow readers


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_slow_reader_cannot_take_now_goes_later_and_whole(tls: bool) -> None:
    """Much more than what the kernel keeps for it, on two connections at once."""
    go_on = threading.Event()

    with Host(tls=tls, receive=CORKED) as host:
        host.may_read = go_on
        with lines_to(f"{host.url}?starttls={'opportunistic' if tls else 'never'}", most=2) as lines:
            outgoing = messages(4, 6 * MEGABYTE)
            waiting = deque(outgoing)
            turns(lines, waiting, lambda answers: sum(line.blocked for line in lines._open) == 2)
            go_on.set()
            answers = turns(lines, waiting, lambda answers: len(answers) == 4)
            assert told(answers) == all_taken(4)
            assert lines.lost == 0
    came = {content for peer in host.peers for content in peer.contents}
    assert came == {one.content for one in outgoing}


# --- Silence


def hurry(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """RFC 5321 gives a relay minutes; the test hasn't got them."""
    monkeypatch.setattr(relay, "COMMAND", seconds)
    monkeypatch.setattr(relay, "BLOCK", seconds)
    monkeypatch.setattr(relay, "PATIENCE", {Phase.DATA: seconds, Phase.DOT: seconds})


@pytest.mark.parametrize("silent_at", [Phase.RCPT, Phase.DOT])
def test_a_connection_that_never_answers_is_dropped_and_the_others_go_on(
    host: Host, monkeypatch: pytest.MonkeyPatch, silent_at: Phase
) -> None:
    hurry(monkeypatch, 1.5)
    over = threading.Event()

    def silent(phase: Phase, number: int) -> None:
        if (phase, number) == (silent_at, 0):
            over.wait(10)

    host.at = silent
    with lines_to(host.url, most=2) as lines:
        found = send(lines, messages(30))
        assert found.pop(0) == (silent_at, 0)
        assert lines.lost == 1
        only_those_behind_it_wait(found, 0)
        over.set()


def test_one_that_never_reads_is_dropped_and_had_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, 0.7)
    with Host(receive=CORKED) as host:
        host.may_read = threading.Event()
        with lines_to(host.url) as lines:
            assert send(lines, [message(0, 6 * MEGABYTE)]) == {0: (Phase.DATA, 0)}
            assert lines.lost == 1
        host.may_read.set()


def test_a_relay_that_answers_within_its_time_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, 5)
    asked = time.monotonic()
    host.at = lambda phase, number: time.sleep(1.2) if phase is Phase.DOT and number == 0 else None
    with lines_to(host.url) as lines:
        assert send(lines, messages(3)) == all_taken(3)
    assert time.monotonic() - asked > 1.2


# --- To give up


def test_who_gives_up_knows_of_each_message_how_far_it_came(host: Host) -> None:
    over = threading.Event()

    def silent(phase: Phase, number: int) -> None:
        if (number, phase) in {(0, Phase.RCPT), (2, Phase.DOT)}:
            reached.append(number)
            over.wait(10)

    reached: list[int] = []
    host.at = silent
    with lines_to(host.url, most=3) as lines:
        open_all(lines)
        waiting = deque(messages(4))  # two on each of the first two
        turns(lines, waiting, lambda answers: len(reached) == 2)
        found = told(lines.abandon())
        assert found == {0: (Phase.RCPT, 0), 1: (Phase.MAIL, 0), 2: (Phase.DOT, 0), 3: (Phase.MAIL, 0)}
        assert (lines.count, lines.idle, lines.abandon()) == (1, True, [])
        over.set()
        assert send(lines, [message(9)]) == {9: (Phase.DOT, 250)}


def test_a_batch_that_breaks_off_leaves_no_answers_to_the_next(host: Host) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(phase: Phase, number: int) -> None:
        if (phase, number) == (Phase.DOT, 0):
            reached.set()
            over.wait(10)

    host.at = hold
    with lines_to(host.url) as lines:
        with pytest.raises(ZeroDivisionError), lines.in_use():
            turns(lines, deque([message(0)]), lambda answers: reached.is_set() and 1 / 0)
        assert lines.idle
        over.set()
        with lines.in_use():
            assert send(lines, [message(1)]) == {1: (Phase.DOT, 250)}


def test_what_is_taken_back_is_not_sent(host: Host) -> None:
    over, reached = threading.Event(), threading.Event()

    def hold(phase: Phase, number: int) -> None:
        if phase is Phase.RCPT:
            reached.set()
            over.wait(10)

    host.at = hold
    with lines_to(host.url) as lines:
        turns(lines, deque(messages(2)), lambda answers: reached.is_set())
        assert (lines.withdraw(), lines.withdraw()) == ([1], [])
        over.set()
        answers = turns(lines, deque(), lambda answers: lines.idle and answers)
        assert told(answers) == {0: (Phase.DOT, 250)}
    assert host.taken() == [0]


def test_of_idle_ones_no_more_are_closed_than_there_are_too_many(host: Host) -> None:
    with lines_to(host.url, most=3) as lines:
        open_all(lines)
        lines.most = 2
        lines.want()
        assert lines.count == 2
        assert send(lines, messages(20)) == all_taken(20)
    assert len(host.peers) == 3


def test_one_that_comes_after_the_batch_is_closed_as_well_when_nobody_uses_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lines.REST_SECONDS", 0.1)
    host.greet.clear()
    with lines_to(host.url) as lines:
        with lines.in_use():
            lines.want()
            processes.wait_until(lambda: len(host.peers) == 1, 5)
        threading.Timer(0.5, host.greet.set).start()
        assert host.peers[0].over.wait(5)
