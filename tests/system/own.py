"""The pages about a reader's own data for the browser, of a reader with a long address and a mail in doubt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect
from sqlalchemy import select

from service import db, links, settings
from service.subscribers import (
    address_change,
    addresses,
    confirmation,
    consent,
    erasures,
    intake,
    own_data,
    preferences,
)
from service.subscribers.models import Channel, ConsentEvent, Letter, LetterKind, Subscriber, SuppressionReason
from tests import make
from tests.system import newsroom, uncertain
from tests.system.conftest import Site

NEW = "een.ander.adres.waar.geen.eind.aan.komt@provincie-met-een-lange-naam.example"
Go = Callable[[Page, Site], None]


def letter(site: Site, kind: LetterKind) -> str:
    """The link of the newest letter of this kind."""
    with site.app.app_context():
        query = select(Letter.id).where(Letter.kind == kind).order_by(Letter.id.desc())
        letter_id = db.reading().scalars(query).first() or 0
        return links.data(letter_id) if kind is LetterKind.DATA else links.address(letter_id)


def block_letter(site: Site) -> str:
    """The link to "never again" in the newest letter to an address that was filled in as a new one."""
    (letter_id,) = links.read(links.Purpose.ADDRESS, letter(site, LetterKind.ADDRESS_NEW).rpartition("/")[2])
    return links.block_letter(letter_id)


def block(site: Site, email: str) -> str:
    """The link in the newest confirmation mail to `email`."""
    (confirmation_id,) = links.read(links.Purpose.CONFIRM, site.confirm_link(email).rpartition("/")[2])
    return links.block(confirmation_id)


def _asked(site: Site, new: str = NEW) -> int:
    """A reader who asked for their data, and for another address."""
    uncertain.issue(site)
    now = datetime.now(UTC)
    with site.app.app_context(), db.transaction() as session:
        reader = session.scalars(select(Subscriber).where(Subscriber.email == uncertain.LONG)).one()
        confirmation.activate(
            session=session,
            now=now - timedelta(days=9),
            subscriber_id=reader.id,
            theme_id=make.theme(session, "democratie").id,
            event=ConsentEvent.CONFIRMED,
            channel=Channel.MAIL,
            wording=consent.wording(consent.CONFIRM, "nl"),
        )
        own_data.ask(session=session, now=now, subscriber_id=reader.id)
        address_change.ask(session=session, now=now, subscriber_id=reader.id, email=new)
        return reader.id


def _page(kind: LetterKind, under: str = "") -> Go:
    def go(page: Page, site: Site) -> None:
        _asked(site)
        page.goto(letter(site, kind) + under)

    return go


def _pressed(before: Go) -> Go:
    def go(page: Page, site: Site) -> None:
        before(page, site)
        page.get_by_role("button").click()

    return go


def _alike(page: Page, site: Site) -> None:
    """The new address has the old one's mask."""
    _asked(site, f"{uncertain.LONG[0]}@{uncertain.LONG.partition('@')[2]}")
    page.goto(letter(site, LetterKind.ADDRESS_NEW))
    expect(page.get_by_text("twee verschillende adressen")).to_be_visible()


def _ticked_meanwhile(page: Page, site: Site) -> None:
    """While the page with the button stands open, the reader ticks one more."""
    reader = _asked(site)
    page.goto(letter(site, LetterKind.ADDRESS_NEW))
    with site.app.app_context(), db.transaction() as session:
        slugs = {"democratie", "innovatie", "organisatie"}
        preferences.change(session=session, now=datetime.now(UTC), subscriber_id=reader, slugs=slugs, language="nl")
    page.get_by_role("button").click()
    expect(page.get_by_role("status")).to_have_text("Uw thema’s zijn intussen gewijzigd. Kijk nog één keer.")


def _data_in_full(page: Page, site: Site) -> None:
    """With a form that waits, and all that is known by a mark."""
    _asked(site)
    now, network = datetime.now(UTC), "2001:db8:1234:5600::/56"
    key = addresses.key(uncertain.LONG)
    with site.app.app_context(), db.transaction() as session:
        intake.ask(
            session=session, now=now, email=uncertain.LONG, slugs=["organisatie", "democratie"], language="nl",
            network=network, elsewhere=True,
        )  # fmt: skip
        addresses.suppress(session=session, now=now, email_key=key, reason=SuppressionReason.COMPLAINT)
        erasures.note(session=session, now=now - timedelta(days=100), email_key=key)
    page.goto(letter(site, LetterKind.DATA))
    expect(page.get_by_text("op een andere site")).to_be_visible()
    expect(page.get_by_text("voor als we een back-up moeten terugzetten")).to_be_visible()


def _block_letter(page: Page, site: Site) -> None:
    _asked(site)
    page.goto(block_letter(site))


def _privacy_in_full(page: Page, site: Site) -> None:
    """With all that a setting can add, and the texts unfolded."""
    said = {
        "processors": "Hostingbedrijf Voorbeeld (server), Mailbezorger Voorbeeld (mail)",
        "transfers": "Mailbezorger Voorbeeld (mail) in de Verenigde Staten, onder het EU-VS-privacykader",
        "privacy_officer": f"Jo Fraanje <functionaris.gegevensbescherming@{NEW.partition('@')[2]}>",
        "return_address": "terug@voorbeeld.example",
        "proof_of_work": True,
    }
    settings.use(site.chosen.model_copy(update=said))
    page.goto("/privacy")
    page.get_by_text("De teksten waar u ja op zegt").click()
    expect(page.get_by_text("Jo Fraanje")).to_be_visible()


def _privacy_unfinished(page: Page, site: Site) -> None:
    """What the newsroom says of it where mail goes out."""
    settings.use(
        site.chosen.model_copy(update={"smtp_url": "smtp://relay.example", "base_url": "https://vink.example"})
    )
    newsroom.sign_in(page, site)
    page.goto("/newsroom/")
    expect(page.get_by_role("heading", name="nog niet af")).to_be_visible()


def _letter_asked(page: Page, site: Site) -> None:
    page.goto(links.preferences(_asked(site)))
    page.get_by_role("button", name="Mail mij een link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kijk in uw mailbox")


def _address_asked(page: Page, site: Site) -> None:
    _page(LetterKind.DATA, "/address")(page, site)
    page.get_by_label("Nieuw e-mailadres").fill(NEW)
    page.get_by_role("button").click()


def _block(page: Page, site: Site) -> None:
    site.reader(uncertain.LONG, "innovatie")
    page.goto("/")
    page.get_by_label("Democratie").check()
    page.get_by_label("E-mailadres").fill(uncertain.LONG)
    page.get_by_role("button", name="Aanmelden").click()
    page.goto(block(site, uncertain.LONG))


def _stale(door: str) -> Go:
    def go(page: Page, site: Site) -> None:
        page.goto(getattr(links, door)(10_000_000))

    return go


PAGES: dict[str, Go] = {
    "privacy in full": _privacy_in_full,
    "privacy page unfinished": _privacy_unfinished,
    "link to own data": _letter_asked,
    "own data": _page(LetterKind.DATA),
    "own data in full": _data_in_full,
    "forget me": _page(LetterKind.DATA, "/erase"),
    "forgotten": _pressed(_page(LetterKind.DATA, "/erase")),
    "another address": _page(LetterKind.DATA, "/address"),
    "another address with errors": _pressed(_page(LetterKind.DATA, "/address")),
    "another address asked": _address_asked,
    "is this your address": _page(LetterKind.ADDRESS_NEW),
    "is this your address, alike": _alike,
    "is this your address, with more themes": _ticked_meanwhile,
    "address changed": _pressed(_page(LetterKind.ADDRESS_NEW)),
    "never again": _block,
    "never again, pressed": _pressed(_block),
    "never again, of a stranger": _block_letter,
    **{f"stale link: {door}": _stale(door) for door in ("data", "address", "block")},
}
