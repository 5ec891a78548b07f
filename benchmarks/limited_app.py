"""The app of ``benchmarks.app`` with a task more, whose jobs must wait for the tokens of its rate limit."""

from __future__ import annotations

from benchmarks.app import register
from taskito import Queue, Task


def register_throttled(queue: Queue) -> Task[[], None]:
    @queue.task(name="throttled", rate_limit="60/m")
    def throttled() -> None: ...

    return throttled


queue = Queue()
tasks = register(queue)
throttled = register_throttled(queue)
