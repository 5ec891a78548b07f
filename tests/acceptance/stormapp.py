"""The app of the storm: tasks that write their runs into the ledger, and a schedule of every second."""

from __future__ import annotations

import time

from ledger import written_down

from taskito import Queue, current_job

#: Longer than any clock jumps: what has ended is still there to be counted.
queue = Queue(result_ttl=30 * 86400.0)


class OnPurpose(Exception):
    """What a task raises that is told to fail."""


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
