"""Readers by the hundred thousand, and issues of a known weight for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text, update

from service import db, themes, wire
from service.issues import approval, assembly, rota
from service.issues.models import Edition
from tests import make

THEME = "innovatie"
ITEMS = 8
BODY = (
    "Vanaf **1 maart** rijden er in drie wijken deelauto's op stroom. De proef kost 40.000 euro, duurt tot 1 juni en "
    "komt uit het budget voor bereikbaarheid; 212 bewoners deden in 2025 mee aan de eerste ronde. "
)
LETTERS = 210  # of each item's text: with the template's own 16 kB that makes a mail of 20 kB

PEOPLE = """
    INSERT INTO subscribers (email, email_key, language, created_at)
    SELECT address, address, 'nl', :before
    FROM (SELECT 'lezer' || n || '@gemeente' || n % 50 || '.example' AS address FROM generate_series(1, :count) n) made
"""
TICKS = """
    INSERT INTO subscriptions (theme_id, subscriber_id, state, requested_at, confirmed_at)
    SELECT :theme, id, 'active', :before, :before FROM subscribers ORDER BY id LIMIT :count
"""


def load(count: int) -> None:
    """`count` readers of one theme, straight into the tables."""
    with db.transaction() as session:
        session.execute(text(PEOPLE), {"before": _yesterday(), "count": count})
    tick(THEME, count)
    with db.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))  # as autovacuum has done long before, where readers come one by one


def tick(slug: str, count: int) -> None:
    """The first `count` readers have theme `slug`."""
    with db.transaction() as session:
        theme = make.theme(session, slug)
        session.execute(text(TICKS), {"theme": theme.id, "before": _yesterday(), "count": count})


def approved(*, slug: str, kilobytes: int, ahead: int) -> int:
    """The id of an approved issue, `ahead` weeks from now, whose mails weigh about `kilobytes` on the wire."""
    now = datetime.now(UTC)
    with db.transaction() as session:
        theme = themes.by_slug(session=session, slug=slug)
        for number in range(ITEMS):
            title = f"Deelauto's in wijk {number + 1}: de proef begint"
            make.item(
                session, slug, title, body=(BODY * 2)[:LETTERS], url=f"https://gent.example/deelauto/{ahead}/{number}"
            )
        week = rota.week_of(now + timedelta(weeks=ahead))
        planned = rota.plan(session=session, now=now, theme_id=theme.id, week=week, send_at=None)
        assembly.assemble(session=session, now=now, issue_id=planned.id)
        approval.approve(session=session, now=now, issue_id=planned.id, editor_id=None, seen=None)
        if kilobytes < 12:
            session.execute(update(Edition).where(Edition.issue_id == planned.id).values(**_lean(kilobytes)))
        return planned.id


def _lean(kilobytes: int) -> dict[str, str]:
    """An edition below the weight of our template, which is 11 kB without news: as plain as HTML can be."""
    links = f"Afmelden:\n{wire.UNSUBSCRIBE}\nThema's wijzigen:\n{wire.PREFERENCES}\n"
    anchors = f'<p><a\nhref="{wire.UNSUBSCRIBE}"\n>Afmelden</a> <a\nhref="{wire.PREFERENCES}"\n>Wijzigen</a></p>\n'
    news = (BODY * 100)[: (kilobytes * 1000 - 1400) // 2]
    lines = "\n".join(news[start : start + 70] for start in range(0, len(news), 70))
    html = f"<!doctype html><html lang=nl><title>Nieuws</title>\n<p>{lines}</p>\n{anchors}</html>\n"
    return {"text": f"{lines}\n\n{links}", "html": html}


def _yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)
