"""`vinkje relay …`"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from service import db, i18n
from service.delivery import progress, steer
from service.delivery.limits import Limits
from service.delivery.progress import RelayState

group = AppGroup("relay", help="The mail server that takes our newsletters, and what it allows.")


@group.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show(as_json: bool) -> None:
    """Its state, who sends to it, and the limits in force."""
    found = progress.relay(session=db.reading(), now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(_plain(found)))
        return
    for name, value in _facts(found):
        click.echo(f"{name:<12} {value}")


@group.command()
@click.option("--rate", metavar="N|default", help="Messages a second, all workers together; 0 is no limit.")
@click.option("--connections", metavar="N|default", help="At once, all workers together.")
def limit(rate: str | None, connections: str | None) -> None:
    """Change what the relay may get, also while a round runs: workers hear it within a second.

    “default” goes back to RELAY_RATE or RELAY_CONNECTIONS. What isn't given stays as it is.
    """
    if rate is None and connections is None:
        raise click.UsageError("Give --rate, --connections, or both.")
    with db.transaction() as session:
        found = steer.change(session=session, now=datetime.now(UTC), connections=connections, rate=rate)
    click.echo(f"The relay gets {_limits(found)}.")


def _plain(found: RelayState) -> dict[str, object]:
    return {
        "trouble": found.trouble and str(found.trouble),
        "since": _moment(found.since) if found.trouble else None,
        "status": found.status,
        "text": found.text,
        "next_try": _moment(found.probe_at),
        "accepted_at": _moment(found.accepted_at),
        "workers": found.workers,
        "connections": found.connections,
        "rate": round(found.rate, 2),
        "limits": {"connections": found.limits.connections, "rate": found.limits.rate},
        "allowed_connections": found.allowed,
        "set": {"connections": found.own_connections, "rate": found.own_rate},
    }


def _facts(found: RelayState) -> list[tuple[str, str]]:
    facts = [("state", "no trouble known")]
    if found.trouble:
        facts = [("state", f"{found.trouble}: {progress.WHY[found.trouble]}")]
        facts += [("since", _day_and_hour(found.since)), ("heard", found.heard or "nothing")]
        facts += [("next try", _day_and_hour(found.probe_at))]
    now = f"{found.connections} connections of {found.workers} workers, {found.rate:,.0f} messages a second"
    slowed = f"; for now {found.allowed} connections, one more each half minute"
    slowed = slowed if found.allowed < found.limits.connections else ""
    return [
        *facts,
        ("took mail", _day_and_hour(found.accepted_at)),
        ("now", now),
        ("limits", _limits(found.limits) + slowed),
    ]


def _limits(found: Limits) -> str:
    rate = f"{found.rate:g} messages a second" if found.rate else "as many messages a second as it takes"
    return f"{found.connections} connections and {rate}"


def _day_and_hour(moment: datetime | None) -> str:
    return i18n.day_and_hour("en", moment) if moment else "-"


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
