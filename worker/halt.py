"""One word from the worker's main process to all that sends: finish the mail in flight, then stop.

Celery waits for running jobs when it is asked to stop, but tells them nothing; a batch may take minutes.
"""

from __future__ import annotations

import mmap

# Shared memory: a child process that was forked from here sees the same byte, as a thread does.
_flag = mmap.mmap(-1, 1)


def ask() -> None:
    _flag[0] = 1


def forget() -> None:
    _flag[0] = 0


def asked() -> bool:
    return _flag[0] == 1
