"""What the producers of the acceptance tests have in common: threads that enqueue, and a file of answers."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from taskito import Queue


class ProducerThread(threading.Thread):
    """One thread of a producer. Subclasses say in ``produce`` what is enqueued until the time is over."""

    def __init__(self, name: str, seed: str, seconds: float, answers: str) -> None:
        super().__init__(name=name)
        self.dice = random.Random(f"{seed}-{name}")
        self._until = time.monotonic() + seconds
        self._answers = answers
        self.error: BaseException | None = None

    def produce(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            self.produce()
        except BaseException as exc:
            self.error = exc

    def is_time_left(self) -> bool:
        return time.monotonic() < self._until

    def append(self, answer: dict[str, Any]) -> None:
        """One line, whole, whoever else writes to the file."""
        fd = os.open(self._answers, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, (json.dumps(answer) + "\n").encode())
        finally:
            os.close(fd)


def run_all(
    make: Callable[[str, str, float, str], ProducerThread],
    count: int,
    queue: Queue,
    seed: str,
    seconds: str,
    answers: str,
) -> None:
    """Run so many threads to their end; raises the first error of one."""
    threads = [make(str(number), seed, float(seconds), answers) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close()
    if errors := [thread.error for thread in threads if thread.error is not None]:
        raise errors[0]
