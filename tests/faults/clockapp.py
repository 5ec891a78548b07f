"""The app of the tests with a clock that is set: a task that is due every second, and others."""

from __future__ import annotations

import os
import time

from faultapp import note

from taskito import Queue, current_job

queue = Queue()


@queue.periodic("* * * * * *", max_retries=0)
def tick() -> None:
    """Note the slot, which is the beginning of the job's id."""
    note("tick", int(current_job.id[:12], 16))


@queue.task(max_retries=0)
def nap(seconds: float) -> None:
    note("start", current_job.id, os.getpid())
    time.sleep(seconds)
    note("end", current_job.id, os.getpid())


@queue.task(max_retries=2, retry_delays=[3.0])
def fails_once() -> None:
    note("start", current_job.id, os.getpid())
    if current_job.retry_count == 0:
        raise ValueError("on purpose")


@queue.task(rate_limit="5/s")
def limited() -> None:
    note("start", current_job.id, os.getpid())
