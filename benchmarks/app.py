"""The app under measurement. Where its jobs are kept is decided by TASKITO_* settings."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from taskito import Queue, Task

# An app that takes its time to import, for the measurement of starts.
time.sleep(float(os.environ.get("BENCH_IMPORT_SECONDS", "0")))


class Tasks(NamedTuple):
    noop: Task[[], None]
    stamp: Task[[], float]
    spin: Task[[int], int]
    count: Task[[list[None]], int]


def register(queue: Queue) -> Tasks:
    """The same tasks on any queue, so that a producer can have one per store."""

    @queue.task(name="noop")
    def noop() -> None: ...

    @queue.task(name="stamp")
    def stamp() -> float:
        """When it ran, on the clock that all processes of a machine share."""
        return time.monotonic()

    @queue.task(name="spin")
    def spin(rounds: int) -> int:
        return burn(rounds)

    @queue.task(name="count")
    def count(results: list[None]) -> int:
        return len(results)

    return Tasks(noop, stamp, spin, count)


def burn(rounds: int) -> int:
    """Plain Python work, the same number of steps each time."""
    total = 0
    for number in range(rounds):
        total += number * number
    return total


queue = Queue()
tasks = register(queue)
