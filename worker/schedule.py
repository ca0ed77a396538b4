"""The schedule: one tick, which asks the database what is due. What is due when stands where it is decided:

    assemble an issue        24 hours before its send hour                   service/issues/rota.py
    hold an issue            when its hour was missed by 6 hours or more     service/issues/rota.py
    start a round            at its send hour                                service/issues/rota.py
    mail chiefs of a stop    at once; 15 min later when it waits for the
                             relay, which mostly goes on by then             service/issues/stops.py
    nudge a batch            waiting without a nudge, or its lease is over   service/delivery/nudges.py
    try a batch again        ¼ to 5 min after the line to the relay broke    worker/keeper.py
    try a reader again       5 min, 15 min, 1 h, every 4 h; up to 48 h       service/delivery/outcomes.py
    send a single mail again 1 min, 5 min, 30 min, 2 h, 8 h; after a broken
                             line ½ to 15 min, for 72 h                      service/outbox.py
    read what came back      every 5 min, when INBOX_URL is set              service/delivery/inbox.py
    forget a request         72 hours after it was made                      service/subscribers/confirmation.py
    forget all else          at the first tick after 3:00, each by its time  service/privacy/retention.py

So it doesn't matter when a tick is missed, comes twice, or comes from two beats.
"""

from __future__ import annotations

from service import jobs


def entries(tick_seconds: float) -> dict[str, dict[str, object]]:
    """For beat. A tick that nobody heard expires: after a day off one is enough."""
    return {"tick": {"task": jobs.TICK, "schedule": tick_seconds, "options": {"expires": max(tick_seconds, 1.0)}}}
