"""Mails in doubt: listed with what is known, settled by a word, and nobody twice unasked (requirements 1.9)."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import flask
import pytest
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service import db, errors, jobs, settings
from service.delivery import batches, books, outcomes, recording, rounds, uncertain
from service.delivery.models import Batch, BatchState, Delivery, Doubt, Outcome
from service.delivery.uncertain import Word
from service.issues.models import IssueState
from service.newsroom.models import Role
from service.subscribers import unsubscribe
from service.subscribers.models import Channel, Subscriber, Subscription
from tests import fakes, make
from tests.integration import operator, races, trips
from tests.integration.newsroom import Desk
from tests.make import NOW

Doorbells = list[tuple[str, tuple[int, ...]]]
LEASE = timedelta(seconds=60)


class Forgetful(fakes.Relay):
    """Takes the mail for who is in `silent`, and hangs up instead of saying so."""

    silent: frozenset[str] = frozenset()

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        return self._say(server, "") if envelope.rcpt_tos[0] in self.silent else answer


@pytest.fixture
def relay() -> Iterator[Forgetful]:
    server = Forgetful()
    with server:
        yield server


def doubtful(begin: trips.Begin, relay: Forgetful, *silent: int, readers: int = 6, size: int = 3) -> trips.Round:
    """A round that is over, but for the mails to `silent`."""
    relay.silent = frozenset(map(trips.address, silent))
    trip = begin(readers, size=size)
    assert trip.send().uncertain == len(silent)
    relay.silent = frozenset()
    assert trip.issue().state is IssueState.SENT
    return trip


def reader_id(session: Session, number: int) -> int:
    return session.scalars(select(Subscriber.id).where(Subscriber.email == trips.address(number))).one()


def settle(trip: trips.Round, word: Word, *numbers: int) -> int:
    """All, when nobody is named."""
    with db.transaction() as session:
        readers = [reader_id(session, number) for number in numbers]
        if not readers:
            return uncertain.settle_all(
                session=session, now=trip.now, issue_id=trip.issue_id, word=word, seen=None, editor_id=None
            )
        return uncertain.settle(
            session=session, now=trip.now, issue_id=trip.issue_id, word=word, readers=readers, editor_id=None
        )


def listed(trip: trips.Round) -> list[uncertain.Doubtful]:
    with db.transaction() as session:
        return uncertain.listed(session=session, issue_id=trip.issue_id)


def tally(trip: trips.Round) -> uncertain.Tally:
    with db.transaction() as session:
        return uncertain.tally(session=session, issue_id=trip.issue_id)


def moved(before: books.Books, after: books.Books) -> dict[str, int]:
    """The columns that changed, and by how much."""
    changes = {
        name: value - getattr(before, name) for name, value in dataclasses.asdict(after).items() if name != "audience"
    }
    assert after.audience == before.audience
    return {name: change for name, change in changes.items() if change}


def leave(trip: trips.Round, number: int) -> None:
    with db.transaction() as session:
        unsubscribe.leave_all(
            session=session,
            now=trip.now,
            subscriber_id=reader_id(session, number),
            channel=Channel.UNSUBSCRIBE_PAGE,
        )


def test_a_mail_in_doubt_is_listed_with_what_is_known(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1)

    (mail,) = listed(trip)
    assert (mail.email, mail.language, mail.left, mail.attempts) == (trips.address(1), "nl", False, 1)
    assert NOW < mail.at <= trip.now
    (taken,) = relay.to(trips.address(1))
    assert mail.message_id == taken.message["Message-ID"]
    assert tally(trip) == uncertain.Tally(uncertain=1, held=0, again=0, arrived=0, left_alone=0)


def test_what_is_sent_again_has_the_same_message_id_and_the_round_ends_once_more(
    begin: trips.Begin, relay: Forgetful, doorbells: Doorbells
) -> None:
    trip = doubtful(begin, relay, 1, 4)
    before = trip.books()
    doorbells.clear()

    assert settle(trip, Word.AGAIN, 1) == 1
    issue = trip.issue()
    assert (issue.state, issue.finished_at) == (IssueState.SENDING, None)
    assert [name for name, _ in doorbells] == [jobs.SEND_BATCH]
    assert moved(before, trip.books()) == {"uncertain": -1, "deferred": 1}
    assert tally(trip).again == 1

    assert moved(before, trip.send()) == {"uncertain": -1, "accepted": 1}
    first, second = relay.to(trips.address(1))
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert len(relay.to(trips.address(4))) == 1
    assert len(relay.caught) == 7
    assert trip.issue().state is IssueState.SENT
    assert trip.issue().finished_at is not None
    assert tally(trip) == uncertain.Tally(uncertain=1, held=0, again=1, arrived=0, left_alone=0)


@pytest.mark.parametrize(
    ("word", "column", "counted"), [(Word.ARRIVED, "accepted", "arrived"), (Word.LEAVE, "given_up", "left_alone")]
)
def test_who_has_it_and_who_is_left_alone_get_no_second_mail(
    begin: trips.Begin, relay: Forgetful, doorbells: Doorbells, word: Word, column: str, counted: str
) -> None:
    trip = doubtful(begin, relay, 0, 4)
    before = trip.books()
    doorbells.clear()

    assert settle(trip, word) == 2
    assert moved(before, trip.send()) == {"uncertain": -2, column: 2}
    assert doorbells == []
    assert len(relay.caught) == 6
    assert trip.issue().state is IssueState.SENT
    assert listed(trip) == []
    assert dataclasses.asdict(tally(trip)) == {
        "uncertain": 0,
        "held": 0,
        "again": 0,
        "arrived": 0,
        "left_alone": 0,
        "nameless": 0,
        counted: 2,
    }


def test_what_arrived_was_taken_when_it_went_out(begin: trips.Begin, relay: Forgetful) -> None:
    """When the relay last took a mail tells whether it's in trouble: a word later is no sign of that."""
    trip = doubtful(begin, relay, 1)
    (mail,) = listed(trip)
    trip.now += timedelta(hours=1)
    settle(trip, Word.ARRIVED, 1)
    with db.transaction() as session:
        kept = session.get_one(Delivery, (trip.issue_id, mail.subscriber_id))
        assert (kept.outcome, kept.at, kept.uncertain_at) == (Outcome.ACCEPTED, mail.at, mail.at)


def test_all_are_sent_again_each_once(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 0, 2, 4)

    assert settle(trip, Word.AGAIN) == 3
    done = trip.send()
    assert (done.accepted, done.uncertain, done.left) == (6, 0, 0)
    assert sorted(len(relay.to(trips.address(number))) for number in range(6)) == [1, 1, 1, 2, 2, 2]


def test_what_the_setting_sends_again_is_counted_too(begin: trips.Begin, relay: Forgetful) -> None:
    relay.silent = frozenset({trips.address(1)})
    trip = begin(3, size=3)
    settings.use(settings.current().model_copy(update={"uncertain": "resend"}))
    assert trip.send().deferred == 1
    relay.silent = frozenset()
    assert listed(trip) == []
    assert trip.send(timedelta(hours=1)).accepted == 3
    assert tally(trip) == uncertain.Tally(uncertain=0, held=0, again=1, arrived=0, left_alone=0)
    first, second = relay.to(trips.address(1))
    assert first.message["Message-ID"] == second.message["Message-ID"]


def test_what_comes_in_doubt_once_more_waits_for_a_word_once_more(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1)
    settle(trip, Word.AGAIN)
    relay.silent = frozenset({trips.address(1)})
    assert trip.send().uncertain == 1
    assert [mail.attempts for mail in listed(trip)] == [2]


def test_who_left_meanwhile_is_not_mailed_and_counts_as_left(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1, 2)
    before = trip.books()
    leave(trip, 1)
    assert [mail.left for mail in listed(trip)] == [True, False]

    settle(trip, Word.AGAIN)
    assert moved(before, trip.send()) == {"uncertain": -2, "accepted": 1, "left": 1}
    assert len(relay.to(trips.address(1))) == 1
    assert trip.issue().state is IssueState.SENT


def test_who_left_before_their_mail_stays_left_when_their_batch_opens_again(
    begin: trips.Begin, relay: Forgetful
) -> None:
    relay.silent = frozenset({trips.address(1)})
    trip = begin(3, size=3)
    leave(trip, 0)
    before = trip.send()
    assert (before.left, before.uncertain) == (1, 1)
    relay.silent = frozenset()

    settle(trip, Word.AGAIN)
    assert moved(before, trip.send()) == {"uncertain": -1, "accepted": 1}
    assert relay.to(trips.address(0)) == []


def test_a_relay_that_puts_it_off_has_two_days_again(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1)
    trip.now += timedelta(days=3)
    relay.answer_rcpt = lambda to: trips.BUSY
    settle(trip, Word.AGAIN)
    assert trip.send().deferred == 1
    relay.answer_rcpt = lambda to: None
    assert trip.send(timedelta(hours=1)).accepted == 6


def test_others_of_the_batch_wait_for_their_own_time(begin: trips.Begin, relay: Forgetful) -> None:
    relay.silent = frozenset({trips.address(1)})
    relay.answer_rcpt = lambda to: trips.BUSY if to == trips.address(0) else None
    trip = begin(3, size=3)
    trip.send()
    relay.silent, relay.answer_rcpt = frozenset(), lambda to: None

    settle(trip, Word.AGAIN)
    early = trip.send(timedelta(seconds=1))
    assert (early.accepted, early.deferred, early.uncertain) == (2, 1, 0)
    assert trip.send(timedelta(minutes=10)).accepted == 3


def test_a_batch_that_a_worker_holds_is_left_to_it(begin: trips.Begin, relay: Forgetful) -> None:
    """It may have the answer yet: without a journal a mail is recorded as uncertain before it goes out."""
    trip = doubtful(begin, relay, 4)
    settle(trip, Word.AGAIN)
    with db.transaction() as session:
        batch_id = session.scalars(select(Batch.id).where(Batch.state == BatchState.WAITING)).one()
        claimed = batches.claim(session=session, now=trip.clock(), batch_id=batch_id, lease=LEASE)
        assert claimed is not None
        read_at = trip.clock()
        (reader,) = batches.read(session=session, now=read_at, claimed=claimed)
        going = outcomes.doubtful(reader=reader, doubt=Doubt.WORKER_LOST, now=read_at, resend=False)
        recording.record(session=session, now=read_at, claimed=claimed, results=[going], lease=LEASE)
    before = trip.books()
    assert (before.uncertain, listed(trip), tally(trip).uncertain, tally(trip).held) == (1, [], 0, 1)
    for word in Word:
        for numbers in ([], [4]):
            with pytest.raises(errors.Conflict):
                settle(trip, word, *numbers)
    assert moved(before, trip.books()) == {}

    with db.transaction() as session:
        assert batches.settle(session=session, claimed=claimed, read_at=read_at)
    assert [mail.email for mail in listed(trip)] == [trips.address(4)]
    settle(trip, Word.AGAIN, 4)
    assert trip.send().accepted == 6


def test_a_word_while_a_worker_lets_go_is_taken_on_whole_batches(
    app: flask.Flask, begin: trips.Begin, relay: Forgetful
) -> None:
    """No reader may wait to be sent again in a batch that is done."""
    trip = doubtful(begin, relay, 4)
    with db.transaction() as session:
        batch_id = session.scalars(select(Batch.id).order_by(Batch.id.desc())).first()
        session.execute(update(Batch).where(Batch.id == batch_id).values(state=BatchState.SENDING))

    def again(session: Session) -> None:
        uncertain.settle_all(
            session=session, now=trip.now, issue_id=trip.issue_id, word=Word.AGAIN, seen=None, editor_id=None
        )

    other = races.Beside(app, again)
    with db.transaction() as session:
        session.execute(update(Batch).where(Batch.id == batch_id).values(state=BatchState.DONE))
        other.start()
    if isinstance(other.refusal(), errors.Conflict):  # it looked while the batch was still held
        assert trip.books().uncertain == 1
        settle(trip, Word.AGAIN)
    assert trip.books().deferred == 1
    assert trip.send().accepted == 6


def test_what_was_cancelled_is_not_sent_again_but_can_be_settled(begin: trips.Begin, relay: Forgetful) -> None:
    relay.silent = frozenset({trips.address(0), trips.address(1)})
    trip = begin(6, size=3)
    trip.server.answer_rcpt = lambda to: trips.BUSY if to == trips.address(5) else None
    before = trip.send()
    trip.act(rounds.cancel)
    with pytest.raises(errors.Conflict):
        settle(trip, Word.AGAIN, 0)
    assert moved(before, trip.books()) == {"deferred": -1, "given_up": 1}
    settle(trip, Word.ARRIVED, 0)
    settle(trip, Word.LEAVE, 1)
    assert moved(before, trip.books()) == {"deferred": -1, "uncertain": -2, "accepted": 1, "given_up": 2}
    assert trip.issue().state is IssueState.CANCELLED


def test_of_a_paused_round_it_goes_out_when_the_round_goes_on(begin: trips.Begin, relay: Forgetful) -> None:
    relay.silent = frozenset({trips.address(0)})
    trip = begin(3, size=3)
    trip.server.answer_rcpt = lambda to: trips.BUSY if to == trips.address(2) else None
    trip.send()
    relay.silent, relay.answer_rcpt = frozenset(), lambda to: None
    trip.act(rounds.pause)
    settle(trip, Word.AGAIN)
    assert trip.issue().state is IssueState.PAUSED
    assert trip.send(timedelta(minutes=10)).deferred == 2
    trip.act(rounds.resume)
    assert trip.send().accepted == 3


def test_a_word_is_taken_once_and_as_a_whole(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1, 4)
    settle(trip, Word.LEAVE, 1)
    before = trip.books()

    for word in Word:
        for numbers in ([1], [1, 4], [0]):
            with pytest.raises(errors.Conflict):
                settle(trip, word, *numbers)
    assert moved(before, trip.books()) == {}
    assert trip.issue().state is IssueState.SENT
    assert settle(trip, Word.ARRIVED) == 1
    with pytest.raises(errors.Conflict):
        settle(trip, Word.AGAIN)
    assert trip.issue().state is IssueState.SENT


def test_of_two_editors_at_once_one_is_heard(app: flask.Flask, begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1)
    before = trip.books()

    def again(session: Session) -> None:
        uncertain.settle_all(
            session=session, now=trip.now, issue_id=trip.issue_id, word=Word.AGAIN, seen=1, editor_id=None
        )

    other = races.Beside(app, again)
    with db.transaction() as session:
        uncertain.settle_all(
            session=session, now=trip.now, issue_id=trip.issue_id, word=Word.LEAVE, seen=1, editor_id=None
        )
        other.start()
    assert isinstance(other.refusal(), errors.Conflict)
    assert moved(before, trip.books()) == {"uncertain": -1, "given_up": 1}
    assert trip.issue().state is IssueState.SENT


def test_all_means_as_many_as_were_seen(begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1, 4)
    with pytest.raises(errors.Conflict), db.transaction() as session:
        uncertain.settle_all(
            session=session, now=trip.now, issue_id=trip.issue_id, word=Word.AGAIN, seen=1, editor_id=None
        )
    assert trip.books().uncertain == 2
    assert trip.issue().state is IssueState.SENT


def test_a_long_list_comes_in_pages(begin: trips.Begin) -> None:
    trip = begin(1)
    with db.transaction() as session:
        numbers = [make.reader(session, f"p{number}@gemeente.example", "innovatie").id for number in range(7)]
        session.add_all(map(_in_doubt, [trip.issue_id] * 7, numbers))
        session.flush()
        found: list[int] = []
        while page := uncertain.listed(
            session=session, issue_id=trip.issue_id, after=found[-1] if found else 0, limit=3
        ):
            assert len(page) <= 3
            found += [mail.subscriber_id for mail in page]
    assert found == numbers


def _in_doubt(issue_id: int, subscriber_id: int) -> Delivery:
    return Delivery(
        issue_id=issue_id,
        subscriber_id=subscriber_id,
        outcome=Outcome.UNCERTAIN,
        at=NOW,
        first_at=NOW,
        uncertain_at=NOW,
        status=Doubt.WORKER_LOST,
    )


def erase(trip: trips.Round, number: int) -> int:
    with db.transaction() as session:
        gone = reader_id(session, number)
        session.execute(delete(Subscription).where(Subscription.subscriber_id == gone))
        session.execute(delete(Subscriber).where(Subscriber.id == gone))
    return gone


def test_an_operator_lists_and_settles(app: flask.Flask, begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 0, 1, 3, 4)
    gone = erase(trip, 4)

    lines = [line.split("\t") for line in operator.done(app, "issue", "uncertain", trip.issue_id).splitlines()]
    assert [line[:2] for line in lines] == [
        *([trips.address(number), "nl"] for number in (0, 1, 3)),
        [str(gone), "erased"],
    ]
    assert [line[5] for line in lines] == [
        relay.to(trips.address(number))[0].message["Message-ID"] for number in (0, 1, 3, 4)
    ]
    assert [line[6:] for line in lines] == [[], [], [], ["left"]]
    told = json.loads(operator.done(app, "issue", "uncertain", trip.issue_id, "--json"))
    assert (told["id"], told["uncertain"], told["again"]) == (trip.issue_id, 4, 0)
    assert [mail["email"] for mail in told["mails"]] == [*map(trips.address, (0, 1, 3)), None]
    assert datetime.fromisoformat(told["mails"][0]["at"]) > NOW

    def say(*words: object) -> str:
        return operator.done(app, "issue", "settle", trip.issue_id, *words)

    assert say("--arrived", trips.address(0).upper(), gone) == "2 mails counted as accepted.\n"
    assert say("--leave", trips.address(1)) == "1 mail counted as given up.\n"
    assert say("--again", "--all") == "1 mail to be sent again.\n"
    done = trip.books()
    assert (done.accepted, done.given_up, done.deferred, done.uncertain) == (4, 1, 1, 0)


def test_an_operator_hears_why_not(app: flask.Flask, begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1)

    def refused(*words: object, status: int = 1) -> str:
        result = operator.vinkje(app, "issue", "settle", *words)
        assert result.exit_code == status, result.output
        return result.stderr

    assert f"No mail to {trips.address(0)} is uncertain." in refused(trip.issue_id, "--again", trips.address(0))
    assert "No mail to 12 is uncertain." in refused(trip.issue_id, "--again", 12, trips.address(1))
    assert "There is no issue 999." in refused(999, "--arrived", "--all")
    assert "Say one of --arrived, --again and --leave." in refused(trip.issue_id, "--all", status=2)
    both = refused(trip.issue_id, "--arrived", "--again", "--all", status=2)
    assert "Say one of --arrived, --again and --leave." in both
    assert "Give addresses, or --all." in refused(trip.issue_id, "--again", status=2)
    assert "Give addresses, or --all." in refused(trip.issue_id, "--again", "--all", trips.address(1), status=2)
    assert trip.books().uncertain == 1
    operator.done(app, "issue", "settle", trip.issue_id, "--leave", "--all")
    assert "No mail of this issue is uncertain any more." in refused(trip.issue_id, "--again", "--all")
    assert operator.done(app, "issue", "uncertain", trip.issue_id) == ""


def sent_now(trip: trips.Round) -> books.Books:
    """After what was pressed on a page, whose clock is the real one."""
    trip.now = max(trip.now, datetime.now(UTC))
    return trip.send()


def boxes(page: str) -> list[str]:
    return re.findall(r'name="reader" type="checkbox" value="(\d+)"', page)


def test_a_chief_settles_the_ticked_ones(app: flask.Flask, begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 0, 1, 4)
    gone = erase(trip, 4)
    chief, address = Desk(app, Role.CHIEF), f"/newsroom/issues/{trip.issue_id}/uncertain"

    page = chief.text(address)
    first, second, third = boxes(page)
    assert third == str(gone)
    for words in (trips.address(0), trips.address(1), f"Gewiste lezer {gone}", "Wat is onzeker?"):
        assert words in page
    assert trips.address(2) not in page
    assert relay.to(trips.address(1))[0].message["Message-ID"] in page

    def press(word: str, *ticked: str) -> tuple[int, str]:
        answer = chief.post(address, {"word": word, "reader": list(ticked)}, seen=address)  # type: ignore[dict-item]
        if answer.status_code == 302:
            return 302, chief.text(str(answer.headers["Location"]))
        return answer.status_code, answer.text

    status, page = press("again")
    assert (status, "Vink minstens één lezer aan." in page) == (422, True)
    status, page = press("eat", first)
    assert (status, "Kies wat er met deze mails gebeurt." in page) == (422, True)
    assert re.search(rf'value="{first}"[^>]* checked', page)
    assert trip.books().uncertain == 3

    status, page = press("arrived", first, third)
    assert (status, "2 mails tellen als aangenomen." in page, boxes(page)) == (302, True, [second])
    status, page = press("leave", first, second)
    assert (status, "Een deel hiervan is niet meer onzeker" in page) == (409, True)
    status, page = press("again", second)
    assert (status, "1 mail wordt opnieuw verstuurd" in page, boxes(page)) == (302, True, [])
    assert "Na twijfel opnieuw verstuurd" in page
    done = sent_now(trip)
    assert (done.accepted, len(relay.to(trips.address(1)))) == (6, 2)


def test_a_chief_settles_all_after_a_question(app: flask.Flask, begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 0, 1, 4)
    chief, address = Desk(app, Role.CHIEF), f"/newsroom/issues/{trip.issue_id}/uncertain"

    assert f"{address}/again" in chief.text(address)
    question = chief.text(f"{address}/again")
    assert "Deze 3 mails opnieuw versturen?" in question
    assert 'name="seen" value="3"' in question
    settle(trip, Word.LEAVE, 4)
    late = chief.post(f"{address}/again", {"seen": "3"}, seen=address)
    assert (late.status_code, "Hun aantal is intussen veranderd." in late.text) == (409, True)
    assert trip.books().uncertain == 2
    assert chief.post(f"{address}/again", {"seen": "2"}, seen=address).status_code == 302
    assert sent_now(trip).accepted == 5
    assert chief.get(f"{address}/again").status_code == 302
    assert "Van dit nummer is geen mail onzeker." in chief.text(address)


def test_readers_addresses_are_for_chiefs(app: flask.Flask, begin: trips.Begin, relay: Forgetful) -> None:
    trip = doubtful(begin, relay, 1)
    writer, address = Desk(app, Role.WRITER), f"/newsroom/issues/{trip.issue_id}/uncertain"
    for answer in (writer.get(address), writer.get(f"{address}/again"), writer.post(address)):
        assert answer.status_code == 403
        assert trips.address(1) not in answer.text


def test_many_are_shown_in_pages_and_a_cancelled_issue_offers_no_second_mail(
    app: flask.Flask, begin: trips.Begin
) -> None:
    trip = begin(1)
    with db.transaction() as session:
        numbers = [make.reader(session, f"p{number}@gemeente.example").id for number in range(uncertain.PAGE + 1)]
        session.add_all(map(_in_doubt, [trip.issue_id] * len(numbers), numbers))
    trip.act(rounds.cancel)
    chief, address = Desk(app, Role.CHIEF), f"/newsroom/issues/{trip.issue_id}/uncertain"
    page = chief.text(address)
    assert boxes(page) == [str(number) for number in numbers[:-1]]
    assert "Het programma dat hem verstuurde, viel uit" in page
    assert 'value="arrived"' in page
    assert 'value="again"' not in page
    (onwards,) = re.findall(r'href="([^"]*\?after=\d+)"', page)
    assert boxes(chief.text(onwards)) == [str(numbers[-1])]
