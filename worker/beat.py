"""Beat, which stops when it is asked to."""

from __future__ import annotations

from typing import Any

from celery import beat


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Without a file for its memory: the database knows what is due.

    Celery's own goes on ringing when it is asked to stop while it waits for Redis: it has closed the connection by
    then, so what comes up from there isn't the request to stop but a broken connection, which is nothing to stop for.
    """

    def __init__(self, *words: Any, **named: Any) -> None:
        self._leaving = False
        super().__init__(*words, **named)

    def apply_entry(self, entry: beat.ScheduleEntry, producer: object = None) -> None:
        super().apply_entry(entry, producer)
        if self._leaving:
            raise SystemExit

    def close(self) -> None:
        self._leaving = True
        super().close()
