"""Who misuses the house (requirements 4.4, 4.6, 4.10): by filling somebody's mailbox, by finding out who reads us,
or by an editor's session.
"""

from __future__ import annotations

import contextvars
import itertools
import json
import math
import queue
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from html import unescape
from statistics import quantiles

import flask
import pytest
import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service import app as service_app
from service import db, jobs, links, settings, throttle
from service.issues import alarms, notices
from service.newsroom.models import Editor, EditorState, Notice, NoticeKind, Role
from service.subscribers import address_change, addresses, letters, signup
from service.subscribers import models as subscribers
from service.web import forms
from tests import fakes, make
from tests.integration.conftest import Visitor
from tests.integration.newsroom import Desk
from tests.integration.races import Beside
from worker import steps, tasks

NOW = make.NOW
HOUR = timedelta(hours=1)
Doorbells = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(autouse=True)
def _a_theme(app: flask.Flask) -> Iterator[None]:
    before = settings.current()
    with db.transaction() as session:
        make.theme(session, "innovatie")
    yield
    settings.use(before)


def caps(**changed: object) -> None:
    settings.use(settings.current().model_copy(update=changed))


def form(email: str, **more: str) -> dict[str, str]:
    """As our own page sends it, a minute after it was shown."""
    mark = forms.started(datetime.now(UTC) - timedelta(minutes=1))
    return {"email": email, "themes": "innovatie", "language": "nl", "started": mark, **more}


def count(model: type[db.Base]) -> int:
    with db.transaction() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


# --- One answer for everybody (requirements 4.6)

TRIES = 200
KINDS = ("new", "pending", "subscribed", "suppressed", "blocked")
ALPHA = 5e-6  # 20 comparisons a run (10 pairs, 2 databases): by chance one of them fails in 1 run of 10,000
Answer = tuple[int, str, tuple[tuple[str, str], ...]]
_measured: dict[str, tuple[dict[str, list[float]], set[Answer]]] = {}


def _address(kind: str, number: int) -> str:
    """All of one length, so that the answers are too."""
    return f"{KINDS.index(kind)}lezer{number:03}@gemeente.example"


def _known_addresses() -> None:
    with db.transaction() as session:
        theme_id, number = make.theme(session).id, range(TRIES)
        for kind, n in itertools.product(("pending", "subscribed"), number):
            email = _address(kind, n)
            session.add(subscribers.Subscriber(email=email, email_key=email, language="nl", created_at=NOW))
        session.flush()
        for reader in session.scalars(select(subscribers.Subscriber)).all():
            pending = reader.email < _address("subscribed", 0)
            session.add(
                subscribers.Subscription(
                    theme_id=theme_id,
                    subscriber_id=reader.id,
                    state=subscribers.State.PENDING if pending else subscribers.State.ACTIVE,
                    requested_at=NOW,
                    confirmed_at=None if pending else NOW,
                )
            )
        for kind, reason in (
            ("suppressed", subscribers.SuppressionReason.COMPLAINT),
            ("blocked", subscribers.SuppressionReason.BLOCKED),
        ):
            hashes = [links.keyed_hash(addresses.PURPOSE, _address(kind, n)) for n in number]
            session.add_all(subscribers.Suppression(address_hash=one, reason=reason, at=NOW) for one in hashes)


def _ask(visitor: Visitor, email: str) -> tuple[float, Answer]:
    filled_in = form(email)
    started = time.perf_counter()
    answer = visitor.post("/subscribe", data=filled_in)
    took = time.perf_counter() - started
    assert email in answer.text
    return took, (answer.status_code, answer.text.replace(email, "…"), tuple(answer.headers))


def measured(visitor: Visitor) -> tuple[dict[str, list[float]], set[Answer]]:
    """How long each kind of address took, TRIES times, mixed at random; and every answer that was given."""
    dialect = db.db.engine.dialect.name
    if dialect not in _measured:
        _known_addresses()
        for number in range(20):  # until everything that is kept for later is there
            _ask(visitor, f"warm{number}@gemeente.example")
        took: dict[str, list[float]] = defaultdict(list)
        answers = set()
        tries = [(kind, number) for number in range(TRIES) for kind in random.sample(KINDS, len(KINDS))]
        for kind, number in tries:
            seconds, answer = _ask(visitor, _address(kind, number))
            took[kind].append(seconds)
            answers.add(answer)
        _measured[dialect] = took, answers
    return _measured[dialect]


def kolmogorov_smirnov(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest distance between both distributions, as share of what chance alone exceeds once in 1/ALPHA times."""
    steps_up = sorted([(value, 1 / len(one)) for value in one] + [(value, -1 / len(other)) for value in other])
    distance = max(abs(sum_so_far) for sum_so_far in itertools.accumulate(step for _, step in steps_up))
    by_chance = math.sqrt(math.log(2 / ALPHA) / 2 * (1 / len(one) + 1 / len(other)))
    return distance / by_chance


def test_whoever_is_asked_about_the_answer_is_the_same_byte_for_byte(visitor: Visitor, doorbells: Doorbells) -> None:
    _, answers = measured(visitor)
    ((status, page, headers),) = answers
    assert status == 200
    assert "Kijk in uw mailbox" in page
    assert "Set-Cookie" not in dict(headers)


def test_no_kind_of_address_can_be_told_by_its_time(visitor: Visitor, doorbells: Doorbells) -> None:
    took, _ = measured(visitor)
    assert [len(took[kind]) for kind in KINDS] == [TRIES] * 5
    told = {pair: kolmogorov_smirnov(took[pair[0]], took[pair[1]]) for pair in itertools.combinations(KINDS, 2)}
    assert {pair: share for pair, share in told.items() if share >= 1} == {}


@pytest.mark.parametrize("slower", KINDS)
def test_a_millisecond_more_for_one_kind_would_be_told(visitor: Visitor, doorbells: Doorbells, slower: str) -> None:
    took, _ = measured(visitor)
    low, _, high = quantiles(took[slower], n=4)
    more = max(0.001, high - low)  # on a machine where tries differ by more than that, so much more
    later = [seconds + more for seconds in took[slower]]
    assert all(kolmogorov_smirnov(took[kind], later) > 1 for kind in KINDS if kind != slower)


def test_the_statistic_is_the_textbooks() -> None:
    assert kolmogorov_smirnov(range(200), [n + 0.5 for n in range(200)]) < 0.03
    assert kolmogorov_smirnov(range(200), [n + 100 for n in range(200)]) == pytest.approx(0.5 / 0.254, rel=0.01)


def test_how_often_a_network_is_heard_tells_nothing_of_an_address(visitor: Visitor, doorbells: Doorbells) -> None:
    """Else who is blocked could be read from whether one's own form still counts."""
    caps(signups_per_network_hour=3)
    with db.transaction() as session:
        addresses.suppress(
            session=session,
            now=NOW,
            email_key="blocked@gemeente.example",
            reason=subscribers.SuppressionReason.BLOCKED,
        )
    for network, who in ((1, "blocked"), (2, "nobody")):
        for _ in range(3):
            visitor.post(
                "/subscribe", data=form(f"{who}@gemeente.example"), environ_base={"REMOTE_ADDR": f"192.0.{network}.1"}
            )
        mine = {"data": form(f"mine{network}@gemeente.example"), "environ_base": {"REMOTE_ADDR": f"192.0.{network}.2"}}
        visitor.post("/subscribe", **mine)
    with db.transaction() as session:
        make.taken(session)
        assert session.scalars(select(subscribers.Subscriber.email)).all() == ["nobody@gemeente.example"]


# --- Somebody else's mailbox (requirements 4.4)

SPELLINGS = (
    "saskia@bücher.example",
    "Saskia@Bücher.Example",
    " saskia@bücher.example\t",
    "\u00a0SASKIA@BÜCHER.EXAMPLE ",
    "saskia@xn--bcher-kva.example",
    "saskia@ｂücher。example",
)
SENDERS, WORKERS, NETWORKS = 8, 3, 20


@pytest.fixture
def behind_a_proxy(app: flask.Flask, relay: fakes.Relay) -> Iterator[flask.Flask]:
    """Our application on the same database, with one proxy before it and a relay behind it."""
    caps(trusted_proxies=1, smtp_url=relay.url)
    made = service_app.create_app()
    yield made
    with made.app_context():
        db.db.session.remove()
        db.db.engine.dispose()


class Rung:
    """A broker in memory, with workers that take what is rung while more comes in."""

    def __init__(self, app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app, self.faults = app, list[BaseException]()
        self._jobs: queue.Queue[tuple[str, tuple[int, ...]] | None] = queue.Queue()
        monkeypatch.setattr(jobs, "broker", lambda: self)
        self._threads = [threading.Thread(target=self._work) for _ in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def send_task(self, name: str, args: tuple[int, ...]) -> None:
        self._jobs.put((name, args))

    def done(self) -> None:
        """Until nothing is left to do; then the workers go home."""
        self._jobs.join()
        tasks.hang_up()  # while the threads live whose lines these are
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(20)
        assert self.faults == []

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                with self.app.app_context():
                    tasks.JOBS[job[0]](*job[1])
            except BaseException as fault:
                self.faults.append(fault)
            finally:
                self._jobs.task_done()


@pytest.mark.parametrize("app", ["postgresql"], indirect=True)
def test_two_hundred_forms_for_one_address_make_one_mail(
    behind_a_proxy: flask.Flask, relay: fakes.Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung, together, statuses = Rung(behind_a_proxy, monkeypatch), threading.Barrier(SENDERS), []

    def send(sender: int) -> None:
        client = behind_a_proxy.test_client()
        together.wait()
        for number in range(sender, 200, SENDERS):
            filled_in = form(SPELLINGS[number % len(SPELLINGS)], language=("nl", "en")[number % 2])
            from_there = {"X-Forwarded-For": f"10.9.9.9, 198.51.{number % NETWORKS}.{number % 250}"}
            statuses.append(client.post("/subscribe", data=filled_in, headers=from_there).status_code)

    threads = [threading.Thread(target=contextvars.Context().run, args=(send, n)) for n in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rung.done()

    assert statuses == [200] * 200
    assert [caught.recipient.lower() for caught in relay.caught] == ["saskia@xn--bcher-kva.example"]
    assert count(subscribers.Subscriber) == count(subscribers.Confirmation) == 1
    assert count(subscribers.SignupRequest) == 0
    networks = db.reading().scalar(
        select(func.count(throttle.Attempt.who.distinct())).where(throttle.Attempt.kind == signup.TRIED)
    )
    assert networks == NETWORKS, "each was told from the others"


def test_a_form_elsewhere_is_heard_less_often_and_so_is_an_old_mark(visitor: Visitor, doorbells: Doorbells) -> None:
    caps(signups_per_network_hour=6)
    old = forms.started(datetime.now(UTC) - timedelta(hours=25))
    for number in range(4):
        visitor.post("/subscribe", data=form(f"n{number}@gemeente.example", started=("", old)[number % 2]))
    with db.transaction() as session:
        make.taken(session)
    assert count(subscribers.Confirmation) == 2


def _letters(session: Session, reader_id: int, *emails: str) -> list[str]:
    """To whom a button is mailed when a reader types these new addresses, one after the other."""
    for email in emails:
        address_change.ask(session=session, now=NOW, subscriber_id=reader_id, email=f"{email}@gemeente.example")
    asked = select(subscribers.Letter.id).where(subscribers.Letter.kind == subscribers.LetterKind.ADDRESS_NEW)
    made = [letters.compose_letter(session=session, now=NOW, letter_id=one) for one in session.scalars(asked)]
    return [one.recipient for one in made if one]


def test_a_reader_with_another_address_is_held_by_the_caps_too(session: Session, doorbells: Doorbells) -> None:
    make.theme(session)
    reader = make.reader(session, "saskia@gemeente.example", "innovatie").id
    signup.sign_up(
        session=session, now=NOW, email="a@gemeente.example", slugs=["innovatie"], language="nl", network="n"
    )
    assert _letters(session, reader, "a", "a", "a", "a") == [], "a stranger's address had its mail already"
    assert _letters(session, reader, "b") == ["b@gemeente.example"]
    assert _letters(session, reader, "c") == [], "it was the sixth: tries count for whatever address"


def test_at_the_ceiling_no_new_address_is_mailed_either(session: Session, doorbells: Doorbells) -> None:
    reader = make.reader(session, "saskia@gemeente.example", "innovatie").id
    caps(signups_per_hour=1)
    throttle.note(session=session, kind=signup.MAILED, who="somebody", now=NOW)
    assert _letters(session, reader, "a") == []


# --- The ceiling, and who hears of it (requirements 4.4)


def _filled(mails: int, now: datetime) -> None:
    with db.transaction() as session:
        for number in range(mails):
            throttle.note(session=session, kind=signup.MAILED, who=f"lezer{number}", now=now)


def _editor(role: Role, state: EditorState = EditorState.ACTIVE) -> None:
    with db.transaction() as session:
        name = f"{role}.{state}"
        session.add(
            Editor(email=f"{name}@krant.example", name=name, role=role, state=state, language="nl", created_at=NOW)
        )


def _tell(now: datetime) -> list[str]:
    """Whom a tick mails an alarm."""
    with db.transaction() as session:
        before = session.scalar(select(func.max(Notice.id))) or 0
        steps.alarm(session, now)
        query = select(Editor.name).join(Notice).where(Notice.id > before, Notice.kind == NoticeKind.ALARM)
        return list(session.scalars(query))


def test_administrators_are_mailed_when_the_ceiling_is_reached_and_again_after_six_hours(
    app: flask.Flask, doorbells: Doorbells
) -> None:
    caps(signups_per_hour=3)
    for role in Role:
        _editor(role)
    _editor(Role.ADMIN, EditorState.LEFT)
    _editor(Role.ADMIN, EditorState.INVITED)
    _filled(2, NOW)
    assert _tell(NOW) == []
    _filled(1, NOW)
    assert _tell(NOW) == ["admin.active"]
    assert [name for name, _ in doorbells] == [jobs.SEND_NOTICE]
    assert _tell(NOW + timedelta(minutes=1)) == []
    _filled(3, NOW + 5 * HOUR)
    assert _tell(NOW + 5 * HOUR) == []
    _filled(3, NOW + 6 * HOUR)
    assert _tell(NOW + 6 * HOUR) == ["admin.active"]
    assert _tell(NOW + 13 * HOUR) == [], "it is over"


def test_the_alarm_says_what_it_means_and_what_to_do(app: flask.Flask, doorbells: Doorbells) -> None:
    caps(signups_per_hour=3)
    _editor(Role.ADMIN)
    _filled(3, NOW)
    _tell(NOW)
    with db.transaction() as session:
        notice = session.scalars(select(Notice)).one()
        letter = notices.compose(session=session, now=NOW, notice_id=notice.id)
        assert letter is not None
        assert letter.recipient == "admin.active@krant.example"
        assert b"Het aanmeldformulier zit aan zijn plafond" in letter.message
        for role, state in ((Role.CHIEF, EditorState.ACTIVE), (Role.ADMIN, EditorState.INVITED)):
            notice.editor.role, notice.editor.state = role, state
            assert notices.compose(session=session, now=NOW, notice_id=notice.id) is None


def test_two_ticks_at_once_mail_one_alarm(app: flask.Flask, doorbells: Doorbells) -> None:
    caps(signups_per_hour=3)
    _editor(Role.ADMIN)
    _filled(3, NOW)
    beside = Beside(app, lambda session: alarms.tell(session=session, now=NOW))
    with db.transaction() as session:
        alarms.tell(session=session, now=NOW)
        beside.start()
    assert beside.refusal() is None
    assert count(Notice) == 1


def test_the_desk_shows_administrators_the_ceiling_while_it_holds(visitor: Visitor, doorbells: Doorbells) -> None:
    caps(signups_per_hour=3, signups_per_network_hour=30)
    admin, chief = Desk(visitor.application, Role.ADMIN), Desk(visitor.application, Role.CHIEF)
    assert "plafond" not in admin.text("/newsroom/")
    for number in range(5):
        visitor.post("/subscribe", data=form(f"n{number}@gemeente.example"))
    with structlog.testing.capture_logs() as told, db.transaction() as session:
        make.taken(session)
    assert [line["log_level"] for line in told if line["event"] == "signup_ceiling_reached"] == ["error"] * 2
    assert count(subscribers.Confirmation) == count(subscribers.Subscriber) == 3
    page = admin.text("/newsroom/")
    assert "Het aanmeldformulier zit aan zijn plafond" in page
    assert "SIGNUPS_PER_HOUR" in page
    assert "plafond" not in chief.text("/newsroom/")
    assert json.loads(visitor.get("/healthz").text)["ok"] is True
    caps(signups_per_hour=4)
    assert "plafond" not in admin.text("/newsroom/")


# --- An editor's session in wrong hands (requirements 4.4)


def _invite(desk: Desk, who: str) -> tuple[int, str]:
    person = {"email": f"{who}@gemeente.example", "name": who, "role": "writer", "speaks": "nl"}
    answer = desk.post("/newsroom/editors", person, seen="/newsroom/editors")
    return answer.status_code, unescape(answer.text)


def test_an_administrator_invites_twenty_people_an_hour(app: flask.Flask, doorbells: Doorbells) -> None:
    admin = Desk(app, Role.ADMIN)
    for number in range(20):
        assert _invite(admin, f"n{number}")[0] == 302
    status, page = _invite(admin, "n20")
    assert status == 429
    assert "U hebt veel uitnodigingen verstuurd. Wacht een uur." in page
    assert 'value="n20@gemeente.example"' in page
    assert count(Notice) == 20
    other = Desk(app, Role.ADMIN, email="other@gemeente.example")
    assert _invite(other, "n20")[0] == 302


def test_one_address_is_invited_five_times_a_day_whoever_asks(app: flask.Flask, doorbells: Doorbells) -> None:
    desks = [Desk(app, Role.ADMIN, email=f"admin{number}@gemeente.example") for number in range(2)]
    assert _invite(desks[0], "joris")[0] == 302
    joris = db.reading().scalars(select(Editor.id).where(Editor.email == "joris@gemeente.example")).one()
    for number in range(4):
        assert desks[number % 2].post(f"/newsroom/editors/{joris}/invitation").status_code == 302
    refused = desks[1].post(f"/newsroom/editors/{joris}/invitation")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "86400"
    assert "Dit adres kreeg vandaag al een paar uitnodigingen" in unescape(refused.text)
    assert count(Notice) == 5


def test_an_editor_asks_for_twenty_test_mails_an_hour(app: flask.Flask, doorbells: Doorbells) -> None:
    chief = Desk(app, Role.CHIEF)
    with db.transaction() as session:
        issue, editor = make.approved(session).id, session.scalars(select(Editor)).one()
        recently = datetime.now(UTC) - timedelta(minutes=30)
        for _ in range(19):
            session.add(
                Notice(
                    kind=NoticeKind.TEST_SEND, editor_id=editor.id, issue_id=issue, language="nl", created_at=recently
                )
            )
    assert chief.post(f"/newsroom/issues/{issue}/test", {"edition": "nl"}).status_code == 302
    refused = chief.post(f"/newsroom/issues/{issue}/test", {"edition": "en"})
    assert refused.status_code == 429
    assert "U hebt veel proefmails aangevraagd. Wacht een uur." in unescape(refused.text)
    with db.transaction() as session:
        assert len(session.scalars(select(Notice).where(Notice.kind == NoticeKind.TEST_SEND)).all()) == 20
