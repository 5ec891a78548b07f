"""The app of the chaos test: a task for every feature of jobs, which writes its runs into the ledger."""

from __future__ import annotations

import time

from ledger import own_ledger, written_down

from taskito import FailedMember, Queue, current_job

queue = Queue()

#: The world that ``fragile`` depends on is down for the first so many seconds of every so many.
DOWN, PERIOD = 1.5, 4.0
LIMIT = "10/s"
BREAKER = {"threshold": 4, "window": 10, "cooldown": 0.5}
#: How many jobs of one key may run at once.
PLACES = {"keyed": 1, "paired": 2}


class OnPurpose(Exception):
    """What a task raises that is told to fail."""


@queue.task
def square(number: int, seconds: float = 0.0) -> int:
    with written_down():
        time.sleep(seconds)
        return number * number


@queue.task
def add(left: int, right: int) -> int:
    with written_down():
        return left + right


@queue.task
def gather(values: list[int | FailedMember]) -> list[int | str]:
    """The members' results in their order, with the state of a member in place of a result it has not."""
    with written_down():
        return [value.status if isinstance(value, FailedMember) else value for value in values]


@queue.task(max_retries=5, retry_backoff=0.05)
def flaky(number: int, failures: int) -> int:
    """Fails so many times before it succeeds."""
    with written_down():
        if current_job.retry_count < failures:
            raise OnPurpose(f"attempt {current_job.retry_count} of {number}")
        return number * number


@queue.task(max_retries=1, retry_backoff=0.05)
def doomed() -> int:
    with written_down():
        raise OnPurpose("always")


@queue.task(retry_backoff=0.05)
def single(key: str, seconds: float) -> str:
    """For jobs with a unique key."""
    with written_down(f"unique:{key}"):
        time.sleep(seconds)
        return key


@queue.task(rate_limit=LIMIT, retry_backoff=0.05)
def limited(number: int) -> int:
    with written_down():
        return number * number


@queue.task(concurrency=PLACES["keyed"], concurrency_key="keyed:{user}", retry_backoff=0.05)
def keyed(user: str, seconds: float) -> str:
    with written_down(f"keyed:{user}"):
        time.sleep(seconds)
        return user


@queue.task(concurrency=PLACES["paired"], concurrency_key="paired:{user}", retry_backoff=0.05)
def paired(user: str, seconds: float) -> str:
    with written_down(f"paired:{user}"):
        time.sleep(seconds)
        return user


@queue.task(circuit_breaker=BREAKER, max_retries=2, retry_backoff=0.05)
def fragile(number: int) -> int:
    with written_down():
        time.sleep(0.01)
        if time.time() % PERIOD < DOWN:
            raise OnPurpose("the world is down")
        return number * number


@queue.task
def patient() -> None:
    """Runs until it is cancelled."""
    with written_down():
        for _ in range(6000):
            current_job.check_cancelled()
            time.sleep(0.01)


@queue.task
def sleepy(times: int) -> int:
    """Asks to be run again later, so many times."""
    with written_down():
        if own_ledger().ended_so(current_job.id, "SnoozeRequest") < times:
            current_job.snooze(0.1)
        return times


@queue.periodic("* * * * * *", priority=10)
def tick() -> None:
    with written_down():
        pass
