"""A reader's road: tick, confirm, change, leave."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service import errors, jobs, settings, themes
from service.subscribers import addresses, confirmation, consent, intake, preferences, signup, unsubscribe
from service.subscribers.models import (
    Channel,
    Confirmation,
    Consent,
    ConsentEvent,
    EndReason,
    SignupRequest,
    State,
    Subscriber,
    Subscription,
    SuppressionReason,
)
from tests import make

NOW = make.NOW
SASKIA = "Saskia@Gemeente.example"


def sign_up(
    session: Session, *slugs: str, email: str = SASKIA, now: datetime = NOW, network: str = "10.1.2.0/24"
) -> None:
    for slug in ("innovatie", "democratie"):
        make.theme(session, slug)
    signup.sign_up(session=session, now=now, email=email, slugs=slugs, language="nl", network=network)


def asked(session: Session) -> list[Confirmation]:
    return list(session.scalars(select(Confirmation).order_by(Confirmation.id)))


def states(session: Session) -> dict[str, str]:
    rows = session.execute(
        select(themes.Theme.slug, Subscription.state).join(Subscription, Subscription.theme_id == themes.Theme.id)
    )
    return {slug: str(state) for slug, state in rows}


def events(session: Session) -> list[tuple[str, str, str]]:
    rows = session.execute(select(Consent.event, Consent.channel, Consent.wording).order_by(Consent.id))
    return [(str(event), str(channel), wording) for event, channel, wording in rows]


def test_two_themes_make_one_mail_and_one_press_confirms_both(
    session: Session, doorbells: list[tuple[str, tuple[int, ...]]]
) -> None:
    sign_up(session, "innovatie", "democratie")
    (row,) = asked(session)
    assert states(session) == {"innovatie": "pending", "democratie": "pending"}
    session.commit()
    assert doorbells == [(jobs.SEND_CONFIRMATION, (row.id,))]

    answer = confirmation.confirm(session=session, now=NOW, confirmation_id=row.id)
    assert answer is confirmation.Answer.CONFIRMED
    assert states(session) == {"innovatie": "active", "democratie": "active"}
    assert events(session) == [
        ("requested", "web_form", "form-1.nl"),
        ("requested", "web_form", "form-1.nl"),
        ("confirmed", "mail", f"{consent.CONFIRM}.nl"),
        ("confirmed", "mail", f"{consent.CONFIRM}.nl"),
    ]


def test_a_second_press_changes_nothing_even_after_leaving(session: Session) -> None:
    sign_up(session, "innovatie")
    (row,) = asked(session)
    confirmation.confirm(session=session, now=NOW, confirmation_id=row.id)
    unsubscribe.leave_all(session=session, now=NOW, subscriber_id=row.subscriber_id, channel=Channel.UNSUBSCRIBE_PAGE)
    again = confirmation.confirm(session=session, now=NOW + timedelta(hours=1), confirmation_id=row.id)
    assert again is confirmation.Answer.ALREADY
    assert states(session) == {"innovatie": "ended"}


def test_the_mail_for_who_is_subscribed_already_asks_for_nothing(session: Session) -> None:
    make.reader(session, "saskia@gemeente.example", "innovatie")
    sign_up(session, "innovatie")
    (row,) = asked(session)
    assert row.theme_ids == []
    assert states(session) == {"innovatie": "active"}
    assert session.scalar(select(func.count(Subscriber.id))) == 1


def test_a_stranger_who_types_my_address_changes_nothing_of_mine(session: Session) -> None:
    mine = make.reader(session, "saskia@gemeente.example", "innovatie", language="en")
    sign_up(session, "democratie")
    assert mine.language == "en"
    assert states(session) == {"innovatie": "active", "democratie": "pending"}


@pytest.mark.parametrize(
    ("waits", "mails"), [([0, 1, 2], 1), ([0, 11, 22, 33], 3), ([0, 1441, 2882, 4323, 5764, 7205], 5)]
)
def test_one_address_is_mailed_only_so_often(session: Session, waits: list[int], mails: int) -> None:
    for minutes in waits:
        sign_up(session, "innovatie", now=NOW + timedelta(minutes=minutes), network=f"10.0.{minutes % 250}.0/24")
    assert len(asked(session)) == mails


def test_one_network_is_heard_only_so_often_and_another_is_not_hindered(session: Session) -> None:
    for number in range(35):
        sign_up(session, "innovatie", email=f"lezer{number}@gemeente.example")
    assert len(asked(session)) == 30
    sign_up(session, "innovatie", email="ander@gemeente.example", network="10.9.9.0/24")
    assert len(asked(session)) == 31


def test_who_said_never_again_gets_no_mail_and_a_bounced_address_may_return(session: Session) -> None:
    addresses.suppress(
        session=session, now=NOW, email_key="saskia@gemeente.example", reason=SuppressionReason.HARD_BOUNCE
    )
    sign_up(session, "innovatie")
    (row,) = asked(session)
    confirmation.confirm(session=session, now=NOW, confirmation_id=row.id)
    assert not addresses.suppressed(session=session, email_keys=["saskia@gemeente.example"])

    addresses.suppress(session=session, now=NOW, email_key="piet@gemeente.example", reason=SuppressionReason.BLOCKED)
    sign_up(session, "innovatie", email="piet@gemeente.example")
    assert len(asked(session)) == 1


def test_no_theme_an_unknown_theme_and_a_retired_theme_are_refused(session: Session) -> None:
    sign_up(session, "innovatie")
    themes.retire(session=session, slug="democratie", now=NOW)
    for slugs in ([], ["onbekend"], ["innovatie", "democratie"]):
        with pytest.raises(errors.Refused) as refused:
            signup.sign_up(session=session, now=NOW, email=SASKIA, slugs=slugs, language="nl", network="n")
        assert refused.value.field == "themes"


def test_a_request_that_is_not_confirmed_vanishes_after_72_hours(session: Session) -> None:
    sign_up(session, "innovatie")
    late = NOW + timedelta(hours=72, minutes=1)
    (row,) = asked(session)
    assert confirmation.confirm(session=session, now=late, confirmation_id=row.id) is confirmation.Answer.EXPIRED
    assert confirmation.expire(session=session, now=NOW + timedelta(hours=71)) == 0
    assert confirmation.expire(session=session, now=late) == 1
    for table in (Confirmation, Subscription, Consent, Subscriber):
        assert session.scalar(select(func.count()).select_from(table)) == 0, table.__tablename__


def test_expiry_leaves_the_other_themes_and_their_evidence(session: Session) -> None:
    sign_up(session, "innovatie")
    confirmation.confirm(session=session, now=NOW, confirmation_id=asked(session)[0].id)
    sign_up(session, "democratie", now=NOW + timedelta(days=1))
    confirmation.expire(session=session, now=NOW + timedelta(days=5))
    session.expire_all()
    assert states(session) == {"innovatie": "active"}
    assert [event for event, _, _ in events(session)] == ["requested", "confirmed"]


@pytest.mark.parametrize("reason", [EndReason.UNSUBSCRIBED, EndReason.HARD_BOUNCE, EndReason.COMPLAINT])
def test_a_form_that_nobody_confirms_leaves_an_end_as_it_was(session: Session, reason: EndReason) -> None:
    """Why, since when, and what was before it: whoever typed this address has no say in that."""
    sign_up(session, "innovatie")
    confirmation.confirm(session=session, now=NOW + timedelta(hours=1), confirmation_id=asked(session)[0].id)
    left = NOW + timedelta(days=9)
    subscriber_id = asked(session)[0].subscriber_id
    unsubscribe.end_all(session=session, now=left, subscriber_id=subscriber_id, reason=reason, channel=Channel.REPORT)
    sign_up(session, "innovatie", now=left + timedelta(days=1))
    assert states(session) == {"innovatie": "pending"}
    confirmation.expire(session=session, now=left + timedelta(days=5))
    session.expire_all()
    row = session.scalars(select(Subscription)).one()
    assert (row.state, row.end_reason) == (State.ENDED, reason)
    assert (row.requested_at, row.confirmed_at, row.ended_at) == (NOW, NOW + timedelta(hours=1), left)
    assert [event for event, _, _ in events(session)] == ["requested", "confirmed", str(unsubscribe.EVIDENCE[reason])]


def test_who_came_in_without_a_form_and_lets_one_expire_was_asked_when_they_came(session: Session) -> None:
    reader = make.reader(session, "saskia@gemeente.example", "innovatie")  # as an old file, whose evidence is gone
    unsubscribe.leave_all(
        session=session, now=NOW + timedelta(days=1), subscriber_id=reader.id, channel=Channel.ONE_CLICK
    )
    sign_up(session, "innovatie", now=NOW + timedelta(days=2))
    confirmation.expire(session=session, now=NOW + timedelta(days=6))
    session.expire_all()
    row = session.scalars(select(Subscription)).one()
    assert (row.end_reason, row.requested_at) == (EndReason.UNSUBSCRIBED, NOW)


def test_preferences_add_with_evidence_and_remove_at_once(session: Session) -> None:
    reader = make.reader(session, "saskia@gemeente.example", "innovatie")
    make.theme(session, "democratie")
    preferences.change(session=session, now=NOW, subscriber_id=reader.id, slugs=["democratie"], language="en")
    assert states(session) == {"innovatie": "ended", "democratie": "active"}
    assert sorted(events(session)) == [("changed", "preferences", "preferences-1.en"), ("withdrawn", "preferences", "")]
    assert reader.language == "en"


def test_a_retired_theme_can_be_left_and_not_taken(session: Session) -> None:
    reader = make.reader(session, "saskia@gemeente.example", "innovatie")
    themes.retire(session=session, slug="innovatie", now=NOW)
    shown = preferences.show(session=session, subscriber_id=reader.id)
    assert shown is not None
    assert [(theme.slug, has) for theme, has in shown.themes] == [("innovatie", True)]
    preferences.change(session=session, now=NOW, subscriber_id=reader.id, slugs=[], language="nl")
    with pytest.raises(errors.Refused):
        preferences.change(session=session, now=NOW, subscriber_id=reader.id, slugs=["innovatie"], language="nl")


def test_a_bounce_ends_every_theme_and_preferences_cannot_undo_it(session: Session) -> None:
    reader = make.reader(session, "saskia@gemeente.example", "innovatie", "democratie")
    addresses.suppress(session=session, now=NOW, email_key=reader.email_key, reason=SuppressionReason.HARD_BOUNCE)
    unsubscribe.end_all(session=session, now=NOW, subscriber_id=reader.id, reason=EndReason.HARD_BOUNCE)
    assert states(session) == {"innovatie": "ended", "democratie": "ended"}
    assert [event for event, _, _ in events(session)] == ["bounced", "bounced"]
    answer = preferences.change(session=session, now=NOW, subscriber_id=reader.id, slugs=["innovatie"], language="nl")
    assert answer is preferences.Change.ASKED, "their own press of a mailed button can"
    assert states(session) == {"innovatie": "pending", "democratie": "ended"}


def test_leaving_one_theme_leaves_the_others_and_repeating_is_harmless(session: Session) -> None:
    reader = make.reader(session, "saskia@gemeente.example", "innovatie", "democratie")
    theme = make.theme(session, "innovatie")
    for _ in range(2):
        unsubscribe.leave(
            session=session, now=NOW, subscriber_id=reader.id, theme_id=theme.id, channel=Channel.ONE_CLICK
        )
    unsubscribe.leave(session=session, now=NOW, subscriber_id=99999, theme_id=theme.id, channel=Channel.ONE_CLICK)
    assert states(session) == {"innovatie": "ended", "democratie": "active"}
    assert events(session) == [("withdrawn", "one_click", "")]


def test_evidence_cannot_be_changed(session: Session) -> None:
    sign_up(session, "innovatie")
    evidence = session.scalars(select(Consent)).one()
    with pytest.raises(RuntimeError, match="evidence"):
        session.execute(update(Consent).values(event=ConsentEvent.CONFIRMED))
    evidence.event = ConsentEvent.CONFIRMED
    with pytest.raises(RuntimeError, match="evidence"):
        session.flush()


def test_a_press_after_leaving_activates_nothing_and_frees_no_suppressed_address(session: Session) -> None:
    sign_up(session, "innovatie")
    (row,) = asked(session)
    key = row.subscriber.email_key
    addresses.suppress(session=session, now=NOW, email_key=key, reason=SuppressionReason.COMPLAINT)
    unsubscribe.leave_all(session=session, now=NOW, subscriber_id=row.subscriber_id, channel=Channel.PREFERENCES)
    answer = confirmation.confirm(session=session, now=NOW, confirmation_id=row.id)
    assert answer is confirmation.Answer.ALREADY
    assert states(session) == {"innovatie": "ended"}
    assert addresses.suppressed(session=session, email_keys=[key])


def test_a_form_whose_theme_was_retired_meanwhile_is_forgotten(session: Session) -> None:
    make.theme(session, "innovatie")
    intake.ask(session=session, now=NOW, email=SASKIA, slugs=["innovatie"], language="nl", network="n")
    themes.retire(session=session, slug="innovatie", now=NOW)
    make.taken(session)
    assert asked(session) == []
    assert session.scalar(select(func.count()).select_from(SignupRequest)) == 0


def test_a_confirmation_that_commits_after_a_cut_is_not_of_that_audience(session: Session) -> None:
    sign_up(session, "innovatie")
    theme = make.theme(session, "innovatie")
    cut_at = themes.cut(session=session, theme_id=theme.id, now=NOW + timedelta(seconds=2))
    confirmation.confirm(session=session, now=NOW + timedelta(seconds=1), confirmation_id=asked(session)[0].id)
    confirmed_at = session.scalars(select(Subscription)).one().confirmed_at
    assert confirmed_at is not None
    assert confirmed_at > cut_at


def test_the_evidence_names_the_wording_that_was_on_the_screen(session: Session) -> None:
    sign_up(session, "innovatie")
    confirmation.confirm(session=session, now=NOW, confirmation_id=asked(session)[0].id, shown_in="en")
    assert events(session)[-1] == ("confirmed", "mail", f"{consent.CONFIRM}.en")


def test_a_new_secret_key_sets_no_suppressed_address_free(session: Session) -> None:
    old = settings.current()
    addresses.suppress(session=session, now=NOW, email_key="piet@gemeente.example", reason=SuppressionReason.COMPLAINT)
    changed = {"secret_key": "another key for tests, of 32 characters", "secret_keys_previous": (old.secret_key,)}
    settings.use(old.model_copy(update=changed))
    try:
        assert addresses.suppressed(session=session, email_keys=["piet@gemeente.example"])
        addresses.lift(session=session, email_key="piet@gemeente.example")
        assert not addresses.suppressed(session=session, email_keys=["piet@gemeente.example"])
    finally:
        settings.use(old)
