"""Is this process fit to serve? For load balancers, health checks and whoever looks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import flask
from sqlalchemy.exc import SQLAlchemyError

from service import db, heartbeat, settings

blueprint = flask.Blueprint("health", __name__)

UNFIT = 503
GRACE = 30.0
UP_SINCE = "vinkje_up_since"


@blueprint.get("/healthz")
def healthz() -> tuple[flask.Response, int]:
    """Embedded mode names in the app's extensions, as `vinkje_threads`, what must live in this process.

    Only there a late tick makes us unfit: elsewhere the clock is another process, and sign-ups go on without it.
    """
    threads = flask.current_app.extensions.get("vinkje_threads", {})
    alive = {name: bool(thread.is_alive()) for name, thread in threads.items()}
    database, tick = _database(), _tick_age(datetime.now(UTC))
    late = bool(threads) and _late(tick)
    fit = database == "current" and all(alive.values()) and not late
    answer = flask.jsonify(ok=fit, database=database, tick_age_seconds=tick, threads=alive)
    return answer, 200 if fit else UNFIT


@blueprint.record_once
def _note_start(state: flask.blueprints.BlueprintSetupState) -> None:
    state.app.extensions[UP_SINCE] = time.monotonic()


def _late(tick: float | None) -> bool:
    """A process that just came up after a day off has not ticked yet, and isn't late."""
    up = time.monotonic() - flask.current_app.extensions[UP_SINCE]
    return bool(min(up, up if tick is None else tick) > 3 * settings.current().tick_seconds + GRACE)


def _tick_age(now: datetime) -> float | None:
    """None when no tick has run yet, or the table isn't there."""
    try:
        last = heartbeat.last(session=db.reading())
    except SQLAlchemyError:
        db.reading().rollback()
        return None
    return None if last is None else round((now - last).total_seconds(), 1)


def _database() -> str:
    """One of current, behind (or ahead: migrations and code differ), away."""
    try:
        return "current" if db.migration(db.reading().connection()).current else "behind"
    except SQLAlchemyError:
        db.reading().rollback()
        return "away"
