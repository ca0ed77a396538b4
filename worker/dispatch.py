"""Once through a batch's readers, over several connections at once (design: the round, steps 5-9)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from service import links, settings, wire
from service.delivery import outcomes
from service.delivery.batches import Claimed
from service.delivery.models import Doubt, Outcome, Trouble
from service.delivery.outcomes import Phase, Reader, Result, Verdict
from service.issues import editions
from worker import relay
from worker.journal import MARK, Journal, Sign
from worker.keeper import Ending, Keeper
from worker.line import Line, Message
from worker.lines import Lines
from worker.pace import Pace
from worker.pipeline import Answer
from worker.trials import Trials
from worker.watch import Watch

HALT_SECONDS = 6.0  # a worker that must stop waits so long for the relay's last answers
TURN_SECONDS = 0.1
ASK_SECONDS = 0.5  # between two words with the journal
SHARE_SECONDS = 6.0  # so long it waits for a connection: who stopped counts for five seconds still

log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """A claimed batch with all it takes to send it."""

    claimed: Claimed
    readers: Sequence[Reader]
    pieces: dict[str, wire.Pieces]
    sender: str  # of the envelope, when no mail has a return address of its own

    def message(self, reader: Reader) -> Message:
        number, chosen = reader.subscriber_id, settings.current()
        returns = bool(chosen.return_address)
        mine = self.pieces.get(reader.language) or self.pieces[chosen.default_language]
        made = mine.wire(
            to=reader.email,
            message_id=editions.message_id(issue_id=self.claimed.issue_id, subscriber_id=number),
            unsubscribe=links.unsubscribe(number, self.claimed.theme_id, reader.moved),
            preferences=links.preferences(number, reader.moved),
            leave_to=links.unsubscribe_address(number, self.claimed.theme_id) if returns else "",
        )
        sender = links.return_path(self.claimed.issue_id, number) if returns else self.sender
        return Message(number, sender, reader.email, made.content, made.size)


class Pass:
    def __init__(
        self, job: Job, lines: Lines, journal: Journal, pace: Pace, keeper: Keeper, clock: Callable[[], datetime]
    ) -> None:
        self._job, self._lines, self._journal, self._pace = job, lines, journal, pace
        self._keeper, self._clock = keeper, clock
        self._readers = {reader.subscriber_id: reader for reader in job.readers}
        self._trials = Trials(job.readers, seed=job.claimed.batch_id * 1000 + job.claimed.fence, clock=clock)
        self._resend = settings.current().uncertain == "resend"
        self._straight: set[int] = set()  # recorded as in doubt before they went out
        self._marks = bytearray()  # of answers that the journal hasn't had yet
        self._stop: Ending | None = None
        self._shared_at = self._marked_at = time.monotonic()
        self._watch = Watch(job.claimed, lines, pace, self._trials, keeper, clock)

    def run(self, halted: Callable[[], bool]) -> Ending:
        give_in = float("inf")
        while True:
            if self._stop is None:
                self._stop = Ending.TOLD if halted() else self._keeper.stop
            self._lines.most = self._pace.connections(time.monotonic())
            self._lines.trim()
            if self._stop is None:
                self._feed()
            else:
                for number in self._lines.withdraw():
                    self._trials.back(self._readers[number])
                give_in = min(give_in, time.monotonic() + HALT_SECONDS) if halted() else give_in
            if self._lines.idle and (self._stop or self._trials.empty):
                self._mark()  # the last answers: recording them may fail
                return self._stop or self._at_end()
            if not self._write() or time.monotonic() > give_in:
                self._hear(self._lines.abandon())
                self._mark()
                return self._keeper.stop or self._stop or Ending.TOLD
            self._hear(self._lines.turn(TURN_SECONDS))
            self._watch.look()
            self._stop = self._stop or self._watch.stop

    def _feed(self) -> None:
        """Put as many messages on their way as the relay and its limits allow."""
        lines, pace, trials = self._lines, self._pace, self._trials
        if trials.empty:
            return
        if lines.most:
            self._shared_at = time.monotonic()
        elif time.monotonic() - self._shared_at > SHARE_SECONDS:
            self._stop = Ending.NO_SHARE
        lines.want()
        for line in lines.hungry:
            while line.hungry and pace.may_send() and not trials.empty and not trials.suspicious:
                self._put(line, trials.next())

    def _put(self, line: Line, reader: Reader) -> None:
        try:
            message = self._job.message(reader)
        except Exception:  # one reader whose mail can't be made must not hold up all who come after
            log.exception("mail_not_made", subscriber=reader.subscriber_id)
            self._watch.said = relay.Reply(Phase.DATA, 554, "5.6.0", "not sent: the mail could not be made")
            self._keeper.note(*self._trials.refused(reader, self._watch.said.status))
            return
        self._lines.put(line, message)
        self._pace.sent()

    def _write(self) -> bool:
        """Marks what goes out, then lets it go. False: it must not go, and everything under way is dropped."""
        going = self._lines.ready()
        first = self._job.claimed.first_id
        for number in going:
            self._marks += MARK.pack(number - first, Sign.GOING)
        if not self._mark() and not self._record_straight(going):
            return False
        if self._keeper.stop is Ending.LOST:  # looked at after the mark: who takes over sees it
            return False
        self._lines.write()
        return True

    def _mark(self) -> bool:
        """False when the journal doesn't keep it."""
        marks, self._marks = bytes(self._marks), bytearray()
        now = time.monotonic()
        if marks:
            self._marked_at = now
            return self._journal.note(marks)
        if now - self._marked_at > ASK_SECONDS:  # a slow relay: is what we wrote there still?
            self._marked_at = now
            self._journal.note(b"")
        return True

    def _record_straight(self, going: Sequence[int]) -> bool:
        """Without a journal the database must know first: in doubt, until the answer comes."""
        now = self._clock()
        self._straight.update(going)
        return self._keeper.straight(
            [
                outcomes.doubtful(reader=self._readers[number], doubt=Doubt.WORKER_LOST, now=now, resend=False)
                for number in going
            ]
        )

    def _hear(self, answers: Sequence[Answer]) -> None:
        first, now = self._job.claimed.first_id, self._clock()
        results: list[Result] = []
        for answer in answers:
            reader = self._readers[answer.key]
            taken = relay.taken(answer)
            if taken:  # nearly always: so nothing else is asked of it
                self._marks += MARK.pack(answer.key - first, Sign.ACCEPTED)
                results.append(Result(reader, Outcome.ACCEPTED, now, taken))
                results += self._trials.took(reader)
                continue
            reply = relay.reply(answer)
            if reply.verdict is Verdict.UNCERTAIN:
                self._in_doubt(reader)
            else:
                self._marks += MARK.pack(answer.key - first, Sign.NOT_TAKEN)
                self._not_taken(reader, reply, struck=answer.struck)
        self._keeper.note(*results)

    def _in_doubt(self, reader: Reader) -> None:
        """The line broke between the dot and its answer."""
        self._trials.answered(reader)
        self._keeper.note(
            outcomes.doubtful(reader=reader, doubt=Doubt.LINE_LOST, now=self._clock(), resend=self._resend)
        )

    def _not_taken(self, reader: Reader, reply: relay.Reply, *, struck: bool) -> None:
        verdict = reply.verdict
        if reader.subscriber_id in self._straight:
            self._straight.remove(reader.subscriber_id)
            self._keeper.note(outcomes.untouched(reader=reader, status=reply.status, now=self._clock()))
        if verdict is Verdict.NOBODY:
            self._watch.said = reply
            if reply.enhanced == outcomes.TOO_FAST:
                self._watch.trip(Trouble.SLOW_DOWN, reply)
            elif reply.code:
                self._pace.slower(time.monotonic())
            if struck:
                self._trials.broke(reader, reply.status)
                return
            self._trials.breaks += reply.code != 0 and reply.phase is Phase.MAIL
            self._trials.back(reader)
        elif verdict is Verdict.STOP:
            self._trials.back(reader)
            self._watch.trip(Trouble.REFUSES, reply)
        elif verdict is Verdict.OURS:
            self._watch.said = reply
            log.warning("mail_refused", phase=str(reply.phase), status=reply.status, text=reply.text)
            self._keeper.note(*self._trials.refused(reader, reply.status))
        else:
            self._settle(reader, verdict, reply.status)

    def _settle(self, reader: Reader, verdict: Verdict, status: str) -> None:
        self._trials.answered(reader)
        self._keeper.note(outcomes.result(reader=reader, verdict=verdict, status=status, now=self._clock()))

    def _at_end(self) -> Ending:
        if self._trials.aside:
            self._watch.weigh(at_end=True)
        return self._watch.stop or self._keeper.stop or Ending.THROUGH
