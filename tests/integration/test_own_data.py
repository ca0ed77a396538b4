"""A reader's own data: behind a fresh link in a letter to their own address, and behind nothing else."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from enum import StrEnum

import flask
import pytest
import time_machine
from sqlalchemy import func, select

from service import db, jobs, links, settings
from service.delivery.models import Delivery, Outcome, Report, ReportKind
from service.subscribers import (
    addresses,
    confirmation,
    consent,
    csv_rows,
    erasures,
    importing,
    intake,
    own_data,
    signup,
    unsubscribe,
)
from service.subscribers import models as subscribers
from service.subscribers.models import Channel, ConsentEvent, Letter, LetterKind, SuppressionReason
from service.web import held
from tests import fakes, make
from tests.integration import letterbox
from tests.integration.conftest import Visitor
from tests.integration.letterbox import words
from tests.integration.operator import done
from tests.make import NOW
from worker import tasks

SASKIA, PIM = "saskia@gemeente.example", "pim@gemeente.example"
MASKED = "s•••@gemeente.example"
ASK = {"letter": "data"}

pytestmark = pytest.mark.usefixtures("doorbells")


@pytest.fixture
def reader(clock: object) -> int:
    """Saskia has one theme, of which there is evidence, and left another."""
    with db.transaction() as session:
        made = make.reader(session, SASKIA, "democratie").id
        theme_id = make.theme(session, "innovatie").id
        confirmation.activate(
            session=session,
            now=NOW,
            subscriber_id=made,
            theme_id=theme_id,
            event=ConsentEvent.CONFIRMED,
            channel=Channel.MAIL,
            wording=consent.wording(consent.CONFIRM, "nl"),
        )
        session.flush()
        unsubscribe.leave(
            session=session, now=NOW, subscriber_id=made, theme_id=make.theme(session, "democratie").id,
            channel=Channel.ONE_CLICK,
        )  # fmt: skip
        return made


def preferences(subscriber_id: int) -> str:
    return links.preferences(subscriber_id).removeprefix(settings.current().base_url)


def fresh(visitor: Visitor, subscriber_id: int) -> str:
    visitor.post(preferences(subscriber_id), data=ASK)
    (mail,) = letterbox.emptied()
    return mail.path("data")


def known() -> int:
    session = db.reading()
    session.rollback()
    return session.scalar(select(func.count()).select_from(subscribers.Subscriber)) or 0


def test_a_reader_asks_for_the_link_and_sees_everything(visitor: Visitor, reader: int) -> None:
    asked = visitor.post(preferences(reader), data=ASK)
    assert "Kijk in uw mailbox" in words(asked)
    (mail,) = letterbox.emptied()
    assert mail.to == SASKIA
    assert "tot dinsdag 24 november 2026, 11:00" in mail.text

    page = visitor.get(mail.path("data"))
    assert page.status_code == 200
    said = words(page)
    assert f"E-mailadres {SASKIA}" in said
    assert "U krijgt deze nieuwsbrief sinds 24 november 2026, 10:00" in said
    assert "U gaf toestemming, met de knop achter een gemailde link" in said
    assert consent.wording(consent.CONFIRM, "nl").text in said
    assert "Gestopt op 24 november 2026, 10:00: u meldde u af" in said
    assert "Een link naar uw gegevens" in said
    assert "Dat is 1 kenmerk" in said
    assert "werkt tot 11:00" in said


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2024-05-01", "1 mei 2024:"),  # the day is all that is known
        ("2024-05-01T14:30", "1 mei 2024, 14:30:"),
        ("2024-12-01T00:00:01+01:00", "1 december 2024, 00:00:"),
    ],
)
def test_who_came_from_an_older_list_reads_what_is_known_of_it(
    app: flask.Flask, visitor: Visitor, clock: object, given: str, shown: str
) -> None:
    lines = io.StringIO(f"email,themes,consented_at,consent_source\n{SASKIA},innovatie,{given},beurs Gent\n")
    with db.transaction() as session:
        make.theme(session, "innovatie")
        rows = list(csv_rows.read(lines, now=NOW, language="nl", smtputf8=False))
        assert importing.take(session=session, now=NOW, lines=rows).added == 1
        number = session.scalars(select(subscribers.Subscriber.id)).one()
    page = visitor.get(fresh(visitor, number))
    said = f"{shown} U gaf toestemming op een andere plek, zoals in een oudere lijst staat: “beurs Gent”."
    assert said in words(page)
    assert "<q" not in page.text  # there's nothing of ours that they read then
    assert "U krijgt deze nieuwsbrief sinds 24 november 2026, 10:00" in words(page)


def test_a_form_on_another_site_is_told_without_words_that_nobody_read(visitor: Visitor, clock: object) -> None:
    with db.transaction() as session:
        make.theme(session, "innovatie")
        signup.sign_up(
            session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="n", elsewhere=True
        )
        number = session.scalars(select(subscribers.Subscriber.id)).one()
    letterbox.emptied()
    said = words(visitor.get(fresh(visitor, number)))
    assert "Aangevraagd, met een formulier waarvan we de tekst niet kennen." in said
    assert consent.wording(consent.ELSEWHERE, "nl").text not in said


def test_the_same_as_a_file(visitor: Visitor, reader: int) -> None:
    link = fresh(visitor, reader)
    answer = visitor.get(f"{link}/export")
    assert answer.mimetype == "application/json"
    assert answer.headers["Content-Disposition"] == "attachment; filename=mijn-gegevens.json"
    copy = json.loads(answer.text)
    assert copy["address"] == SASKIA
    assert [row["theme"] for row in copy["subscriptions"]] == ["democratie", "innovatie"]
    assert copy["letters"][0]["kind"] == "data"


def test_who_has_a_forwarded_newsletter_learns_and_takes_nothing(visitor: Visitor, reader: int) -> None:
    """With the link of the page with themes a stranger can neither read the address, nor export, erase or change."""
    link = preferences(reader)
    pages = [visitor.get(link), visitor.post(link, data={"themes": "innovatie", "language": "nl"})]
    pages += [visitor.post(link, data={"themes": "nergens", "language": "nl"}), visitor.post(link, data=ASK)]
    for page in pages:
        assert SASKIA not in page.text
        assert "saskia" not in page.text
    assert MASKED in words(pages[0])
    assert MASKED in words(pages[-1])
    token = link.rpartition("/")[2]
    for door in ("data", "address", "block"):
        for path in (
            f"/{door}/{token}",
            f"/{door}/{token}/export",
            f"/{door}/{token}/erase",
            f"/{door}/{token}/address",
        ):
            for answer in (visitor.get(path), visitor.post(path, data={"email": "dief@elders.example"})):
                assert answer.status_code in (404, 405), path
                assert SASKIA not in answer.text
    assert known() == 1
    (mail,) = letterbox.emptied()
    assert mail.to == SASKIA  # all that the stranger brought about


def test_the_link_can_be_read_again_within_the_hour_and_not_later(
    visitor: Visitor, reader: int, clock: time_machine.Traveller
) -> None:
    link = fresh(visitor, reader)
    clock.shift(timedelta(minutes=59))
    for _ in range(3):
        assert visitor.get(link).status_code == 200
    clock.shift(timedelta(minutes=2))
    for path in (link, f"{link}/export", f"{link}/erase", f"{link}/address"):
        answer = visitor.get(path)
        assert (answer.status_code, "Deze link is verlopen" in answer.text) == (410, True), path
        assert SASKIA not in answer.text
    for path in (f"{link}/erase", f"{link}/address"):
        assert visitor.post(path, data={"email": "nieuw@elders.example"}).status_code == 410
    assert known() == 1
    assert letterbox.emptied() == []


def test_asking_too_often_gets_the_same_page_and_no_mail(
    visitor: Visitor, reader: int, clock: time_machine.Traveller
) -> None:
    """requirements 4.4, 4.6"""
    pages, mails = set(), []
    for minutes in (0, 5, 6, 30, 5, 600):  # past the cap of ten minutes thrice; the fourth time that day is too much
        clock.shift(timedelta(minutes=minutes))
        pages.add(visitor.post(preferences(reader), data=ASK).text)
        mails.append(len(letterbox.emptied()))
    assert mails == [1, 0, 1, 1, 0, 0]
    assert len(pages) == 1
    for _ in range(3):  # a stranger who asks every day doesn't keep its owner from their data
        clock.shift(timedelta(days=1))
        visitor.post(preferences(reader), data=ASK)
        assert len(letterbox.emptied()) == 1


def test_links_of_two_readers_open_their_own_data_only(visitor: Visitor, reader: int) -> None:
    with db.transaction() as session:
        other = make.reader(session, PIM, "innovatie", language="en").id
    hers, his = fresh(visitor, reader), fresh(visitor, other)
    assert SASKIA in visitor.get(hers).text
    assert PIM not in visitor.get(hers).text
    assert json.loads(visitor.get(f"{his}/export").text)["address"] == PIM
    mixed = his.rpartition("/")[2].partition(".")[0] + "." + hers.rpartition(".")[2]
    assert visitor.get(f"/data/{mixed}").status_code == 404
    assert visitor.post(f"/data/{mixed}/erase").status_code == 404
    visitor.post(f"{his}/erase")
    assert known() == 1
    assert SASKIA in visitor.get(hers).text


def test_forgetting_asks_first_and_then_leaves_nothing(visitor: Visitor, reader: int) -> None:
    link = fresh(visitor, reader)
    asked = visitor.get(f"{link}/erase")
    assert re.search(rf'<form method="post" action="{link}/erase">.*?<button', asked.text, re.DOTALL)
    assert known() == 1
    assert "We zijn u vergeten" in words(visitor.post(f"{link}/erase"))
    session = db.reading()
    session.rollback()
    for model in (subscribers.Subscriber, subscribers.Subscription, subscribers.Consent, Letter):
        assert session.scalar(select(func.count()).select_from(model)) == 0
    for answer in (visitor.get(link), visitor.post(f"{link}/erase"), visitor.get(f"{link}/export")):
        assert answer.status_code == 410  # pressed twice, or looked again
    assert visitor.get(preferences(reader)).status_code == 404
    assert visitor.post(preferences(reader), data=ASK).status_code == 404


def sign_up(visitor: Visitor) -> list[letterbox.Mail]:
    """Saskia fills in the form: the page is the usual one. What is mailed."""
    chosen = settings.current()
    settings.use(chosen.model_copy(update={"form_min_seconds": 0}))
    page = visitor.post("/subscribe", data={"email": SASKIA, "themes": "innovatie", "language": "nl"})
    settings.use(chosen)
    assert f"we sturen een mail naar {SASKIA}" in words(page)
    with db.transaction() as session:
        make.taken(session)
    return letterbox.emptied()


def join(visitor: Visitor) -> int:
    """By form and button; gives the reader's number."""
    (mail,) = sign_up(visitor)
    visitor.post(mail.path("confirm"))
    session = db.reading()
    session.rollback()
    return session.scalars(select(subscribers.Subscriber.id)).one()


def test_who_had_themselves_forgotten_may_come_back_at_once(
    visitor: Visitor, app: flask.Flask, clock: time_machine.Traveller
) -> None:
    """The press came out of the mailbox itself, so it's no stranger who fills it (requirements 4.4)."""
    with db.transaction() as session:
        make.theme(session, "innovatie")
    link = fresh(visitor, join(visitor))
    clock.shift(timedelta(minutes=3))
    visitor.post(f"{link}/erase")
    assert [mail.to for mail in sign_up(visitor)] == [SASKIA]
    assert sign_up(visitor) == []  # for the next one who fills it in the cap is what it was


def test_being_forgotten_frees_one_mail_and_no_cap_of_a_day(
    visitor: Visitor, app: flask.Flask, clock: time_machine.Traveller
) -> None:
    """Neither for whom strangers fill in the form, nor when an operator erases."""
    with db.transaction() as session:
        make.theme(session, "innovatie")
    number = join(visitor)
    for _ in range(2):  # "you have this already", twice: three mails this day
        clock.shift(timedelta(minutes=11))
        assert len(sign_up(visitor)) == 1
    clock.shift(timedelta(minutes=11))
    link = fresh(visitor, number)
    visitor.post(f"{link}/erase")
    assert sign_up(visitor) == []
    clock.shift(timedelta(days=1))
    assert len(sign_up(visitor)) == 1
    done(app, "privacy", "erase", SASKIA, "--yes")
    assert sign_up(visitor) == []


def test_a_letter_that_is_due_is_not_mailed_to_who_was_erased(visitor: Visitor, reader: int) -> None:
    link = fresh(visitor, reader)
    with time_machine.travel(NOW + timedelta(minutes=11), tick=False):
        visitor.post(preferences(reader), data=ASK)
        visitor.post(f"{link}/erase")
        assert letterbox.emptied() == []


def test_a_letter_goes_out_once_and_not_after_its_hour(
    visitor: Visitor, reader: int, clock: time_machine.Traveller, relay: fakes.Relay,
    doorbells: list[tuple[str, tuple[int, ...]]],
) -> None:  # fmt: skip
    settings.use(settings.current().model_copy(update={"smtp_url": relay.url}))
    visitor.post(preferences(reader), data=ASK)
    ((name, (letter_id,)),) = doorbells
    assert name == jobs.SEND_LETTER
    relay.answer_rcpt = lambda to: "451 4.7.1 greylisted"
    tasks.send_letter(letter_id)
    clock.shift(timedelta(minutes=1))
    relay.answer_rcpt = lambda to: None
    doorbells.clear()
    tasks.tick()
    assert (jobs.SEND_LETTER, (letter_id,)) in doorbells
    for _ in range(2):
        tasks.send_letter(letter_id)
    assert [mail.recipient for mail in relay.caught] == [SASKIA]

    clock.shift(timedelta(minutes=30))
    doorbells.clear()
    visitor.post(preferences(reader), data=ASK)
    clock.shift(timedelta(minutes=61))  # nobody worked
    tasks.send_letter(doorbells[-1][1][0])
    assert len(relay.caught) == 1
    tasks.hang_up()


def test_who_blocked_us_is_not_mailed_and_who_complained_may_ask(visitor: Visitor, reader: int) -> None:
    with db.transaction() as session:
        for number, reason in enumerate((SuppressionReason.COMPLAINT, SuppressionReason.BLOCKED)):
            name = f"lezer{number}@gemeente.example"
            made = make.reader(session, name, "innovatie")
            addresses.suppress(session=session, now=NOW, email_key=name, reason=reason)
            own_data.ask(session=session, now=NOW, subscriber_id=made.id)
    assert [mail.to for mail in letterbox.emptied()] == ["lezer0@gemeente.example"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (held.STATES, subscribers.State),
        (held.ENDS, subscribers.EndReason),
        (held.EVENTS, ConsentEvent),
        (held.CHANNELS, Channel),
        (held.OUTCOMES, Outcome),
        (held.REPORTS, ReportKind),
        (held.LETTERS, LetterKind),
        (held.BARRED, SuppressionReason),
    ],
)
def test_nothing_that_can_be_kept_lacks_its_words(said: dict[str, str], kind: type[StrEnum]) -> None:
    assert set(said) == {str(value) for value in kind}


def test_what_became_of_mails_stands_there_in_words(visitor: Visitor, reader: int) -> None:
    with db.transaction() as session:
        issue = make.approved(session)
        session.add(Delivery(issue_id=issue.id, subscriber_id=reader, outcome=Outcome.REJECTED, at=NOW, first_at=NOW))
        session.add(Report(issue_id=issue.id, subscriber_id=reader, kind=ReportKind.HARD, status="5.1.1", at=NOW))
        addresses.suppress(session=session, now=NOW, email_key=SASKIA, reason=SuppressionReason.HARD_BOUNCE)
    said = words(visitor.get(fresh(visitor, reader)))
    assert "Innovatie, week 48 Geweigerd door uw mailserver" in said
    assert "Innovatie, week 48 Kwam terug: het adres bestaat niet (5.1.1)" in said
    assert "een kenmerk dat ons ervan weerhoudt u nieuwsbrieven te mailen" in said


def test_what_waits_and_what_is_known_by_a_mark_stands_there_too(visitor: Visitor, reader: int) -> None:
    """The page says that it is everything, as the file is."""
    link = fresh(visitor, reader)
    assert "Formulieren die we nog niet hebben verwerkt" not in words(visitor.get(link))
    assert "back-up" not in words(visitor.get(link))
    with db.transaction() as session:
        make.theme(session, "organisatie")
        for elsewhere, email in ((False, SASKIA.upper()), (True, SASKIA), (False, PIM)):
            intake.ask(
                session=session, now=NOW, email=email, slugs=["innovatie", "organisatie"], language="en",
                network="10.1.2.0/24", elsewhere=elsewhere,
            )  # fmt: skip
        erasures.note(session=session, now=NOW - timedelta(days=40), email_key=SASKIA)
        reason = SuppressionReason.COMPLAINT
        addresses.suppress(session=session, now=NOW - timedelta(days=2), email_key=SASKIA, reason=reason)
    said = words(visitor.get(link))
    form = "24 november 2026, 10:00: Aanmeldformulier Innovatie, Organisatie; English; vanuit het netwerk 10.1.2.0/24"
    assert f"Formulieren die we nog niet hebben verwerkt {form} {form}; op een andere site" in said
    assert said.count("Aanmeldformulier") == 2, "Pim's is his"
    assert "Op 15 oktober 2026, 11:00 zijn de gegevens bij dit adres gewist, of ging de lezer naar een ander" in said
    assert "Sinds 22 november 2026, 10:00 is er een kenmerk" in said
    assert "te mailen: u meldde het als ongewenste mail." in said


def test_who_said_never_again_while_their_data_stood_open_reads_that_it_is_so(visitor: Visitor, reader: int) -> None:
    link = fresh(visitor, reader)
    with db.transaction() as session:
        addresses.suppress(session=session, now=NOW, email_key=SASKIA, reason=SuppressionReason.BLOCKED)
    assert "te mailen: u zei dat we u nooit meer mogen mailen." in words(visitor.get(link))
