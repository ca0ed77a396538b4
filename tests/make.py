"""Things to test with, made by plain functions. Domain calls where they exist, so that tests and code agree."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import themes
from service.issues import approval, assembly, rota
from service.issues.models import Issue
from service.newsroom import models as newsroom
from service.subscribers import address_change, confirmation, intake
from service.subscribers import models as subscribers

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def theme(session: Session, slug: str = "innovatie") -> themes.Theme:
    found = session.scalar(select(themes.Theme).where(themes.Theme.slug == slug))
    return found or themes.add(session=session, slug=slug, name_nl=slug.title(), name_en=slug.title())


def reader(
    session: Session, email: str = "saskia@gemeente.example", *slugs: str, language: str = "nl", at: datetime = NOW
) -> subscribers.Subscriber:
    """A subscriber with active subscriptions, without the road there."""
    subscriber = subscribers.Subscriber(email=email, email_key=email.lower(), language=language, created_at=at)
    session.add(subscriber)
    session.flush()
    for slug in slugs:
        session.add(
            subscribers.Subscription(
                theme_id=theme(session, slug).id,
                subscriber_id=subscriber.id,
                state=subscribers.State.ACTIVE,
                requested_at=at,
                confirmed_at=at,
            )
        )
    session.flush()
    return subscriber


def item(
    session: Session, slug: str = "innovatie", title: str = "Gent test deelauto's", **values: object
) -> newsroom.Item:
    """A published item."""
    made = newsroom.Item(
        theme_id=theme(session, slug).id,
        title=title,
        body="De proef kost 40.000 euro en duurt **tot 1 juni**.",
        url="https://gent.example/deelauto",
        state=newsroom.ItemState.PUBLISHED,
        created_at=NOW,
        updated_at=NOW,
        published_at=NOW,
    )
    for name, value in values.items():
        setattr(made, name, value)
    session.add(made)
    session.flush()
    return made


def approved(session: Session, slug: str = "innovatie", now: datetime = NOW) -> Issue:
    """An issue with one item, whose hour is `now`."""
    item(session, slug)
    week = rota.week_of(now)
    planned = rota.plan(session=session, now=now, theme_id=theme(session, slug).id, week=week, send_at=now)
    assembly.assemble(session=session, now=now, issue_id=planned.id)
    return approval.approve(session=session, now=now, issue_id=planned.id, editor_id=None, seen=None)


def pressed(session: Session, letter_id: int, *, now: datetime = NOW, shown_in: str = "nl") -> address_change.Pressed:
    """The button that a new address was mailed, by who looks at its page and presses at once."""
    asked_by = session.get_one(subscribers.Letter, letter_id).subscriber_id
    shown = [theme.id for theme in confirmation.themes_held(session=session, subscriber_id=asked_by)]
    return address_change.change(session=session, now=now, letter_id=letter_id, shown_in=shown_in, shown=shown)


def taken(session: Session) -> None:
    """Do what a worker does with the forms that came in."""
    for asked in session.scalars(select(subscribers.SignupRequest).order_by(subscribers.SignupRequest.id)).all():
        intake.take(session=session, now=asked.at, request_id=asked.id)
