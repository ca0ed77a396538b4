"""The pipeline against a relay that answers in any legal way, splits replies anywhere, and hangs up anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.delivery.outcomes import Phase
from worker.pipeline import Answer, Envelope, Pipeline

BODY = b"Subject: x\r\n\r\nregel\r\n..stip\r\n"


def envelope(key: int) -> Envelope:
    return Envelope(
        key=key,
        mail=b"MAIL FROM:<nieuws@vinkje.example>\r\n",
        rcpt=b"RCPT TO:<lezer%d@gemeente.example>\r\n" % key,
        content=b"X-Key: %d\r\n" % key + BODY,
    )


@dataclass
class Server:
    """A relay's side of RFC 5321 §4.1.4, strict about what may be pipelined. `answers` are taken in turn."""

    answers: list[bytes]
    accepted: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    heard: bytes = b""
    said: bytes = b""
    mail: bool = False
    rcpt: bytes = b""
    content: bool = False
    hung_up: bool = False

    def feed(self, data: bytes) -> None:
        self.heard += data
        while not self.hung_up and self._step():
            pass

    def _step(self) -> bool:
        if self.content:
            return self._content()
        line, end, rest = self.heard.partition(b"\r\n")
        if not end:
            return False
        self.heard = rest
        verb = line.split(b":")[0].split(b" ")[0].upper()
        if verb == b"MAIL":
            self._command(self.mail, b"250")
            self.mail = self._last == b"2" or self.mail
        elif verb == b"RCPT":
            self._command(not self.mail, b"250")
            if self._last == b"2":
                self.rcpt = line
        elif verb == b"DATA":
            if rest:
                self.faults.append(f"sent before the reply to DATA: {rest[:30]!r}")
            self._command(not self.rcpt, b"354")
            self.content = self._last == b"3"
        elif verb == b"RSET":
            self.mail, self.rcpt = False, b""
            self._say(b"250 2.0.0 ok")
        else:
            self.faults.append(f"no command: {line[:30]!r}")
            self._say(b"500 5.5.1 what")
        return True

    def _content(self) -> bool:
        whole = b"\r\n" + self.heard
        end = whole.find(b"\r\n.\r\n")
        if end < 0:
            return False
        body, self.heard = whole[2 : end + 2], whole[end + 5 :]
        self.content, had, self.rcpt, self.mail = False, self.rcpt, b"", False
        if not had:
            self._say(b"554 5.5.1 no valid recipients")
            return True
        self._command(False, b"250")
        if self._last == b"2":
            key = int(body.split(b"\r\n")[0].removeprefix(b"X-Key: "))
            if body != b"X-Key: %d\r\n" % key + BODY or b"lezer%d@" % key not in had:
                self.faults.append(f"garbled: {body[:40]!r} for {had!r}")
            self.accepted.append(key)
        return True

    def _command(self, out_of_order: bool, good: bytes) -> None:
        """The next of the prepared answers; "ok" is this command's own success."""
        if out_of_order:
            self._say(b"503 5.5.1 out of order")
            return
        answer = self.answers.pop(0) if self.answers else b"ok"
        if answer == b"drop":
            self.hung_up, self._last = True, b""
        else:
            self._say(answer.replace(b"ok", good + b" fine", 1) if answer.startswith(b"ok") else answer)

    def _say(self, text: bytes) -> None:
        self._last = text[:1]
        lines = text.split(b"|")
        code = lines[0][:3]
        parts = [lines[0][4:], *lines[1:]]
        for number, part in enumerate(parts):
            self.said += code + (b" " if number == len(parts) - 1 else b"-") + part + b"\r\n"
        if code == b"421":
            self.hung_up = True


def talk(server: Server, count: int, *, grouping: bool, cuts: list[int]) -> tuple[list[Answer], list[int]]:
    """Run a dialogue of `count` messages; replies reach the client in pieces of the sizes in `cuts`.

    Gives the answers, and which messages' dots had gone out whole."""
    pipeline, answers, left = Pipeline(grouping=grouping), [], list(range(count))
    sizes = iter(cuts)
    for _ in range(count * 40 + 40):
        while pipeline.hungry and left:
            pipeline.put(envelope(left.pop(0)))
        sent = b"".join(pipeline.output())
        if sent:
            pipeline.wrote(len(sent))
            server.feed(sent)
        if server.said:
            size = next(sizes, len(server.said))
            data, server.said = server.said[:size], server.said[size:]
            answers += pipeline.receive(data)
        elif server.hung_up:
            answers += pipeline.lost()
        if pipeline.closed:
            break
        if not left and pipeline.idle:
            break
    else:
        raise AssertionError("no end to the dialogue")
    return answers, left


REPLY = st.sampled_from(
    [b"ok", b"ok", b"ok", b"ok", b"ok|more|lines", b"450 4.2.1 later", b"550 5.1.1 nobody|at all", b"554 5.7.1 no",
     b"452 4.3.1 full", b"421 4.3.2 closing", b"drop"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    answers=st.lists(REPLY, max_size=40),
    count=st.integers(1, 8),
    grouping=st.booleans(),
    cuts=st.lists(st.integers(1, 40), max_size=200),
)
def test_whatever_the_relay_says_each_message_has_one_true_answer(
    answers: list[bytes], count: int, grouping: bool, cuts: list[int]
) -> None:
    server = Server(answers)
    given_answers, left = talk(server, count, grouping=grouping, cuts=cuts)
    assert server.faults == []
    assert sorted([answer.key for answer in given_answers] + left) == list(range(count))
    said_yes = {a.key for a in given_answers if a.phase is Phase.DOT and 200 <= a.code < 300}
    doubtful = {a.key for a in given_answers if a.phase is Phase.DOT and a.code == 0}
    assert said_yes <= set(server.accepted)
    assert set(server.accepted) <= said_yes | doubtful
    assert len(server.accepted) == len(set(server.accepted))
    assert len(doubtful) <= 1


def test_a_message_costs_one_round_trip() -> None:
    pipeline = Pipeline(grouping=True)
    pipeline.put(envelope(1))
    pipeline.put(envelope(2))
    first = b"".join(pipeline.output())
    assert first == envelope(1).mail + envelope(1).rcpt + b"DATA\r\n"
    pipeline.wrote(len(first))
    assert pipeline.receive(b"250 ok\r\n250 ok\r\n354 go\r\n") == []
    second = b"".join(pipeline.output())
    assert second == envelope(1).content + b".\r\n" + envelope(2).mail + envelope(2).rcpt + b"DATA\r\n"
    pipeline.wrote(len(second))
    answers = pipeline.receive(b"250 2.0.0 queued\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert answers == [Answer(1, Phase.DOT, 250, b"2.0.0 queued")]
    assert b"".join(pipeline.output()) == envelope(2).content + b".\r\n"


def test_without_pipelining_each_command_waits() -> None:
    pipeline = Pipeline(grouping=False)
    pipeline.put(envelope(1))
    for sent, reply in (
        (envelope(1).mail, b"250 ok\r\n"),
        (envelope(1).rcpt, b"250 ok\r\n"),
        (b"DATA\r\n", b"354 go\r\n"),
        (envelope(1).content + b".\r\n", b"250 ok\r\n"),
        (envelope(2).mail, b"250 ok\r\n"),
    ):
        assert b"".join(pipeline.output()) == sent
        assert (pipeline.output(), pipeline.hungry) == ([], False)
        pipeline.receive(reply)
        if pipeline.hungry:
            pipeline.put(envelope(2))


def test_a_message_of_which_the_relay_has_heard_nothing_can_be_taken_back() -> None:
    pipeline = Pipeline(grouping=True)
    pipeline.put(envelope(1))
    pipeline.put(envelope(2))
    pipeline.wrote(len(b"".join(pipeline.output())))
    assert (pipeline.withdraw(), pipeline.withdraw()) == (2, None)
    pipeline.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert b"".join(pipeline.output()) == envelope(1).content + b".\r\n"
    assert pipeline.going == [1]
    assert [answer.key for answer in pipeline.receive(b"250 taken\r\n")] == [1]
    assert pipeline.idle


def test_the_end_of_a_line_strikes_the_message_that_the_relay_was_at() -> None:
    pipeline = Pipeline(grouping=True)
    pipeline.put(envelope(1))
    pipeline.put(envelope(2))
    pipeline.wrote(len(b"".join(pipeline.output())))
    pipeline.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    pipeline.wrote(len(b"".join(pipeline.output())))
    told = [(a.key, a.phase, a.code, a.struck) for a in pipeline.receive(b"250 ok\r\n250 ok\r\n421 enough\r\n")]
    assert told == [(1, Phase.DOT, 250, False), (2, Phase.RCPT, 421, True)]


def test_a_line_that_breaks_before_anything_was_written_strikes_nobody() -> None:
    pipeline = Pipeline(grouping=True)
    pipeline.put(envelope(1))
    pipeline.output()
    assert [(a.key, a.struck) for a in pipeline.lost()] == [(1, False)]


def test_a_line_that_breaks_before_the_dot_is_out_leaves_no_doubt() -> None:
    for lag, phase in ((1, Phase.DATA), (0, Phase.DOT)):
        pipeline = Pipeline(grouping=True)
        pipeline.put(envelope(1))
        pipeline.wrote(len(b"".join(pipeline.output())))
        pipeline.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
        pipeline.wrote(len(b"".join(pipeline.output())) - lag)
        assert [(a.key, a.phase, a.code) for a in pipeline.lost()] == [(1, phase, 0)]


@pytest.mark.parametrize("noise", [b"hello\r\n", b"999 x\r\n", b"25\r\n", b"\r\n", b"250-a\r\n251 b\r\n", b"2" * 70000])
def test_what_is_no_smtp_ends_the_line(noise: bytes) -> None:
    pipeline = Pipeline(grouping=True)
    pipeline.put(envelope(1))
    pipeline.output()
    assert [answer.code for answer in pipeline.receive(noise)] == [0]
    assert pipeline.closed
