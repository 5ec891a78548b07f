"""The app of the storm: tasks that write their runs into the ledger, and a schedule of every second."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator

from ledger import Ledger

from taskito import Queue, current_job

#: Longer than any clock jumps: what has ended is still there to be counted.
queue = Queue(result_ttl=30 * 86400.0)


class OnPurpose(Exception):
    """What a task raises that is told to fail."""


@functools.cache
def ledger() -> Ledger:
    """This process' own: the first job opens it, after the fork."""
    return Ledger(os.environ["LEDGER"])


@contextlib.contextmanager
def written_down() -> Iterator[None]:
    job, token = current_job.id, current_job.token
    ledger().begin(job, token, current_job.task_name, os.getpid(), os.getsid(0), "")
    how = "returned"
    try:
        yield
    except BaseException as exc:
        how = type(exc).__name__
        raise
    finally:
        ledger().end(job, token, how)


@queue.task(max_retries=5, retry_backoff=0.2)
def work(number: int, seconds: float = 0.0, failures: int = 0) -> int:
    """Fails so many times, then takes so many seconds and succeeds."""
    with written_down():
        if current_job.retry_count < failures:
            raise OnPurpose(f"attempt {current_job.retry_count} of {number}")
        time.sleep(seconds)
        return number * number


@queue.task
def add(left: int, right: int) -> int:
    with written_down():
        return left + right


@queue.periodic("* * * * * *", priority=10)
def tick() -> None:
    with written_down():
        pass
