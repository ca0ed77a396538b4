"""The text of every mail, as it was read and found good, in tests/approved/.

After a change that is meant: `python -m tests.approved_mails` writes them anew; read the difference
before you commit it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from service import i18n, mail, settings
from service.issues import editions
from service.issues.models import Issue
from service.newsroom.models import Item
from service.themes import Theme

FOLDER = Path(__file__).parent / "approved"
THURSDAY = datetime(2026, 12, 3, 8, 0, tzinfo=UTC)
BASE = "https://nieuws.voorbeeld.example"


def use_settings() -> None:
    settings.use(
        settings.load(
            secret_key="a secret for tests, of more than 32 characters",
            base_url=BASE,
            mail_from="Bureau Voorbeeld <nieuws@voorbeeld.example>",
            organisation="Stichting Bureau Voorbeeld, Vinkenstraat 1, 1013 JL Amsterdam",
        )
    )


def issue(*items: Item) -> tuple[Issue, list[Item]]:
    theme = Theme(id=3, slug="mobiliteit", name_nl="Mobiliteit & straat", name_en="Mobility & streets")
    return Issue(id=7, week="2026-W49", theme=theme, send_at=THURSDAY), list(items) or news()


def news() -> list[Item]:
    return [
        Item(
            title="Gent test deelauto's voor 400 huishoudens",
            language="nl",
            body="De proef kost 40.000 euro en duurt **tot 1 juni**. De gemeente [publiceert elke maand]"
            "(https://gent.example/cijfers) hoe vaak een auto is gebruikt.\n\n"
            "Meedoen kunnen:\n\n- inwoners van de binnenstad\n- bedrijven met minder dan tien medewerkers",
            url="https://www.gent.example/deelauto",
        ),
        Item(
            title="London cuts bus fares by 10%",
            language="en",
            body="A single journey costs £1.60 from 1 January. The city pays for it with the congestion charge.",
            url="https://london.example/fares",
        ),
        Item(
            title='Utrecht maakt 12 straten "autoluw"',
            language="nl",
            body="De raad stemde met 28 tegen 17 voor het plan.\n\n> We meten na een half jaar of het werkt.",
            url="",
        ),
    ]


def every() -> dict[str, mail.Rendered]:
    """By name and language, as in "confirmation.nl"."""
    made: dict[str, mail.Rendered] = {}
    for language in i18n.LANGUAGES:
        moment = i18n.day_and_hour(language, THURSDAY)
        number, items = issue()
        mails = {
            "confirmation": mail.render(
                "confirmation",
                language=language,
                themes=["Mobiliteit & straat", "Democratie"],
                confirm_url=f"{BASE}/confirm/12345.Q7Fq0gxk_P_7RXyW4ZCPLPYbORePIvN4RhzLlx8Q6Jc",
                block_url=f"{BASE}/block/12345.O_b0IDnF_YwzgX4Qm1CR7uyzZL0wVUjH1rK2Vn8cPaE",
                until=moment,
            ),
            "already_subscribed": mail.render(
                "already_subscribed",
                language=language,
                themes=["Democratie"],
                preferences_url=f"{BASE}/preferences/12345.zEVR4ncyhMP_DM44f01Mv-IXZIDEZeZyEs_eR9BKMGE",
            ),
            "data_link": mail.render(
                "data_link",
                language=language,
                data_url=f"{BASE}/data/345.fQh2y5n8oV4b0cYx3Jt1mWk7Zs6Rp9uLd2Ea5GqTiHM",
                until=moment,
            ),
            "address_new": mail.render(
                "address_new",
                language=language,
                old="s•••@gemeente.example",
                alike=False,
                address_url=f"{BASE}/address/346.w8Bv1Nc4Xz7Lk0Jh3Gf6Ds9Aq2We5Rt8Yu1Io4PpMnE",
                block_url=f"{BASE}/block/0-346.T3rYx5Wc8Qn1Lm6Vb0Zk4Hg7Fd2Js9Pa5Ou3Ie8Ntw",
                until=moment,
            ),
            "address_told": mail.render("address_told", language=language, new="s•••@provincie.example", alike=False),
            "themes_told": mail.render(
                "themes_told",
                language=language,
                themes=["Mobiliteit & straat", "Democratie"],
                preferences_url=f"{BASE}/preferences/12.Q7Fq0gxk_P_7RXyW4ZCPLPYbORePIvN4RhzLlx8Q6Jc",
            ),
            "issue": editions.sample(editions.render(issue=number, items=items, language=language), language=language),
            "invitation": mail.render(
                "invitation",
                language=language,
                name="Zoë",
                role="chief",
                invitation_url=f"{BASE}/invitation/12-0.ikLiWc8IqePKIpcD1cuvA6HaejF9ftO3yuQNL4HAYNA",
                until=moment,
            ),
            "ready": mail.render(
                "ready",
                language=language,
                theme=number.theme.name(language),
                week=49,
                titles=[item.title for item in items],
                moment=moment,
                issue_url=f"{BASE}/newsroom/issues/7",
            ),
        }
        mails["alarm"] = mail.render(
            "alarm",
            language=language,
            hour=i18n.hour(THURSDAY),
            count=2000,
            hours=6,
            desk_url=f"{BASE}/newsroom/",
        )
        for kind, note in (("held", ""), ("paused", "mail_comes_back"), ("waits", "relay_refuses")):
            mails["stopped" if kind == "paused" else f"stopped_{kind}"] = mail.render(
                "stopped",
                language=language,
                kind=kind,
                note=note,
                theme=number.theme.name(language),
                week=49,
                moment=moment,
                approved=False,
                over=False,
                issue_url=f"{BASE}/newsroom/issues/7",
            )
        made |= {f"{name}.{language}": rendered for name, rendered in mails.items()}
    return made


def text_of(rendered: mail.Rendered) -> str:
    return f"Subject: {rendered.subject}\n\n{rendered.text}"


if __name__ == "__main__":
    use_settings()
    FOLDER.mkdir(exist_ok=True)
    for name, rendered in every().items():
        (FOLDER / f"{name}.txt").write_text(text_of(rendered), encoding="utf-8")
