"""Worker and beat as threads of one process (decision 0004).

Sound because the broker is only a doorbell: what dies with the process is found again by the tick.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import celery
import structlog
from celery import beat
from celery.worker import state as worker_state
from kombu.exceptions import KombuError

from service import jobs
from worker import halt, tasks

CONCURRENCY = 4
# A mail that the relay holds up may take long; its lease covers us when we don't wait for it.
PATIENCE = 8.0  # longer than dispatch.HALT_SECONDS

log = structlog.get_logger()


@dataclass(frozen=True)
class Threads:
    worker: threading.Thread
    beat: threading.Thread

    def named(self) -> dict[str, threading.Thread]:
        return {"worker": self.worker, "beat": self.beat}

    def stopped(self) -> bool:
        return not (self.worker.is_alive() or self.beat.is_alive())


@contextlib.contextmanager
def running(app: celery.Celery) -> Iterator[Threads]:
    """While open, `app`'s jobs are done and its schedule ticks. May leave a thread behind after PATIENCE."""
    name = f"embedded-{os.getpid()}@{socket.gethostname()}"
    halt.forget()
    controller = app.WorkController(
        hostname=name,
        pool="threads",
        concurrency=CONCURRENCY,
        queues=sorted(set(jobs.QUEUES.values())),
        without_gossip=True,
        without_mingle=True,
    )
    # No file for beat's memory: the database knows what is due.
    clock = beat.Service(app, max_interval=0.5, scheduler_cls=beat.Scheduler)
    threads = Threads(
        worker=threading.Thread(target=controller.start, name="worker", daemon=True),
        beat=threading.Thread(target=clock.start, name="beat", daemon=True),
    )
    threads.worker.start()
    threads.beat.start()
    try:
        _ring(app)
        yield threads
    finally:
        clock.stop()
        _stop_worker(app, name)
        until = time.monotonic() + PATIENCE
        for thread in (threads.worker, threads.beat):
            thread.join(max(until - time.monotonic(), 0.0))
        if threads.stopped():  # otherwise a mail is under way on them
            tasks.hang_up()


def _ring(app: celery.Celery) -> None:
    """A tick at once: what the last process left half done waits for it."""
    try:
        app.send_task(jobs.TICK)
    except (KombuError, OSError) as fault:
        log.warning("doorbell_unheard", job=jobs.TICK, fault=type(fault).__name__)


def _stop_worker(app: celery.Celery, name: str) -> None:
    """Finish the mails in flight, take no new job."""
    halt.ask()
    try:
        app.control.shutdown(destination=[name])  # wakes a worker that is waiting for a message
    except (KombuError, OSError) as fault:
        log.warning("worker_unreached", fault=type(fault).__name__)
    worker_state.should_stop = 0
