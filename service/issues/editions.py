"""An issue in one language: rendered for the preview, frozen at approval, cut into pieces for the wire."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import urlsplit

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service import dkim, errors, i18n, links, mail, settings, wire
from service.issues.models import GATHERING, Edition, Issue, Placement, find
from service.newsroom import markup
from service.newsroom.models import Item

ONE_CLICK = "List-Unsubscribe=One-Click"  # RFC 8058 §3.1
LARGEST = 80_000  # octets of HTML; Gmail clips at about 102 kB (requirements 5)
SENDER_ID = "vinkje"  # of Feedback-ID: constant, 5 to 15 characters (requirements 2)


def of(*, session: Session, issue: Issue) -> list[Item]:
    """The issue's items in their order."""
    query = select(Item).join(Placement, Placement.item_id == Item.id).where(Placement.issue_id == issue.id)
    return list(session.scalars(query.order_by(Placement.position, Item.id)))


def render(*, issue: Issue, items: Sequence[Item], language: str) -> mail.Rendered:
    """With the marks of service/wire.py where a reader's own links come."""
    theme = wire.without_marks(issue.theme.name(language))
    year, _, week = issue.week.partition("-W")
    shown = _shown(items, language)
    return mail.render(
        "issue",
        language=language,
        headline=_headline(theme, shown, language, int(week)),
        theme=theme,
        summary=i18n.ngettext(
            language,
            "Week %(week)s of %(year)s, %(count)s item.",
            "Week %(week)s of %(year)s, %(count)s items.",
            len(shown),
            week=int(week),
            year=year,
        ),
        items=shown,
        unsubscribe_url=wire.UNSUBSCRIBE,
        preferences_url=wire.PREFERENCES,
    )


def sample(rendered: mail.Rendered, *, language: str) -> mail.Rendered:
    """For previews: the same edition with links that change nothing, whoever presses them."""
    unsubscribe, preferences = sample_links()
    return mail.Rendered(
        subject=rendered.subject,
        html=wire.fill(rendered.html, unsubscribe=unsubscribe, preferences=preferences),
        text=wire.fill(rendered.text, unsubscribe=unsubscribe, preferences=preferences),
    )


def sample_links() -> tuple[str, str]:
    """To leave, and to the preferences: unsigned, so that they open nobody's page."""
    return links.page("unsubscribe/sample"), links.page("preferences/sample")


def fingerprint(*, session: Session, issue: Issue) -> str:
    """Of all that readers would see now, in every language: what a chief approves is what was looked at."""
    return _digest(_every_language(session=session, issue=issue))


def freeze(*, session: Session, now: datetime, issue: Issue, seen: str | None = None) -> None:
    """Keep the editions and their items as they are. Raises Conflict when `seen`, a fingerprint, is of others,
    and for an edition so large that Gmail would cut off its footer, with the links to leave.
    """
    items = _held(session=session, issue=issue)
    editions = _every_language(session=session, issue=issue)
    if seen is not None and seen != _digest(editions):
        raise errors.Conflict("The issue changed while you looked. Look at it again, then approve.")
    for language, rendered in editions.items():
        if len(rendered.html.encode()) > LARGEST:
            raise errors.Conflict("This issue is too long for a mail. Drop an item, or shorten one.")
        session.merge(
            Edition(
                issue_id=issue.id,
                language=language,
                subject=rendered.subject,
                html=rendered.html,
                text=rendered.text,
            )
        )
    for item in items:
        item.frozen_at = now
    session.flush()


def thaw(*, session: Session, issue: Issue) -> None:
    """Its text may change again; of an issue of which nothing went out."""
    session.execute(delete(Edition).where(Edition.issue_id == issue.id))
    for placement in issue.placements:
        placement.item.frozen_at = None
    session.flush()


def shown(*, session: Session, issue: Issue, language: str) -> mail.Rendered | None:
    """With marks: what was frozen, or before approval what stands now. None when there is nothing."""
    if issue.state not in GATHERING:
        return frozen(session=session, issue_id=issue.id).get(language)
    items = of(session=session, issue=issue)
    return render(issue=issue, items=items, language=language) if items else None


def frozen(*, session: Session, issue_id: int) -> dict[str, mail.Rendered]:
    """By language; empty before approval."""
    found = session.scalars(select(Edition).where(Edition.issue_id == issue_id))
    return {row.language: mail.Rendered(subject=row.subject, html=row.html, text=row.text) for row in found}


def pieces(*, session: Session, issue_id: int, now: datetime | None = None) -> dict[str, wire.Pieces]:
    """The frozen editions by language, cut for the wire. Their Date is `now`, or the round's start without it."""
    issue = find(session=session, issue_id=issue_id)
    date = now or issue.cut_at or issue.send_at
    return {
        language: cut(issue=issue, rendered=rendered, language=language, date=date)
        for language, rendered in frozen(session=session, issue_id=issue_id).items()
    }


def cut(*, issue: Issue, rendered: mail.Rendered, language: str, date: datetime) -> wire.Pieces:
    theme = issue.theme
    headers = {
        "From": mail.from_header(mail.Stream.NEWSLETTER),
        "Date": format_datetime(date),
        # One for the life of the theme; the words before it may change (RFC 2919 §4).
        "List-Id": wire.mailbox(theme.name(language), f"{theme.slug}.list-id.{settings.current().mail_domain}"),
        "List-Unsubscribe-Post": ONE_CLICK,
        "List-Post": "NO",  # RFC 2369 §3.4
        "Feedback-ID": f"{issue.id}:{theme.slug}:newsletter:{SENDER_ID}",
    }
    return wire.cut(rendered.subject, rendered.html, rendered.text, headers=headers, signer=dkim.signer())


def message_id(*, issue_id: int, subscriber_id: int) -> str:
    """With its angle brackets; the same at every try for the same reader."""
    return mail.message_id("i", issue_id, subscriber_id)


@dataclass(frozen=True)
class _Shown:
    """An item as the template wants it. `html` is clean; the rest is plain text."""

    language: str
    title: str
    html: str
    text: str
    url: str
    read_on: str


def _shown(items: Sequence[Item], language: str) -> list[_Shown]:
    hosts = Counter(_host(item) for item in items)
    return [
        _Shown(
            language=item.language,
            title=wire.without_marks(item.title),
            html=wire.without_marks(markup.to_html(item.body)),
            text=wire.without_marks(markup.to_text(item.body)),
            url=wire.without_marks(item.url),
            read_on=wire.without_marks(_read_on(item, hosts, language)),
        )
        for item in items
    ]


def _read_on(item: Item, hosts: Counter[str], language: str) -> str:
    """Words that tell one link of the mail from another (WCAG 2.4.9)."""
    host = _host(item)
    return i18n.gettext(language, "Read on: %(where)s", where=host if host and hosts[host] == 1 else item.title)


def _host(item: Item) -> str:
    return (urlsplit(item.url).hostname or "").removeprefix("www.")


def _headline(theme: str, shown: Sequence[_Shown], language: str, week: int) -> str:
    if not shown:
        return i18n.gettext(language, "%(theme)s: week %(week)s", theme=theme, week=week)
    first = shown[0].title
    return mail.short_subject(f"{theme}: {first}", first)


def _digest(editions: Mapping[str, mail.Rendered]) -> str:
    digest = hashlib.sha256()
    for rendered in editions.values():
        for part in (rendered.subject, rendered.html, rendered.text):
            digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()


def _held(*, session: Session, issue: Issue) -> Sequence[Item]:
    """The items at their newest, held until commit: a writer who saves meanwhile waits, and is then told."""
    placed = select(Placement.item_id).where(Placement.issue_id == issue.id)
    query = select(Item).where(Item.id.in_(placed)).order_by(Item.id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).all()


def _every_language(*, session: Session, issue: Issue) -> dict[str, mail.Rendered]:
    items = of(session=session, issue=issue)
    return {language: render(issue=issue, items=items, language=language) for language in i18n.LANGUAGES}
