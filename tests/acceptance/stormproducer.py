"""A producer of the storm, in a process of its own: ``stormproducer.py SEED SECONDS ANSWERS``.

Threads enqueue at random and write what was acknowledged, with the results it must have, as lines of JSON.
That the store is away is expected; what was not acknowledged then may be stored or not.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time

from stormapp import add, queue, work

from taskito import JobResult, StorageUnavailable, chain

THREADS = 3


class Producer(threading.Thread):
    """One thread."""

    def __init__(self, name: str, seed: str, seconds: float, answers: str) -> None:
        super().__init__(name=name)
        self._dice = random.Random(f"{seed}-{name}")
        self._until = time.monotonic() + seconds
        self._answers = answers
        self.error: BaseException | None = None

    def run(self) -> None:
        pause = threading.Event()
        kinds = (self.plain, self.plain, self.later, self.failing, self.steps, self.long)
        try:
            while time.monotonic() < self._until:
                try:
                    self._write(self._dice.choice(kinds)())
                except StorageUnavailable:
                    pause.wait(0.2)
                pause.wait(self._dice.uniform(0.1, 0.6))
        except BaseException as exc:
            self.error = exc

    def _write(self, results: dict[str, int]) -> None:
        fd = os.open(self._answers, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, (json.dumps(results) + "\n").encode())
        finally:
            os.close(fd)

    def plain(self) -> dict[str, int]:
        numbers = [self._dice.randrange(1000) for _ in range(self._dice.randint(1, 5))]
        jobs = queue.enqueue_many([work.spec(number, self._dice.uniform(0, 0.05)) for number in numbers])
        return {job.id: number**2 for job, number in zip(jobs, numbers, strict=True)}

    def later(self) -> dict[str, int]:
        return {work.using(delay=self._dice.uniform(0.1, 5.0)).delay(7).id: 49}

    def failing(self) -> dict[str, int]:
        return {work.delay(9, 0.0, self._dice.randint(1, 3)).id: 81}

    def steps(self) -> dict[str, int]:
        last: JobResult[int] = chain(work.s(4, 0.01), add.s(1), add.s(2)).apply()
        return {last.id: 19}

    def long(self) -> dict[str, int]:
        return {work.delay(5, self._dice.uniform(0.2, 1.5)).id: 25}


def main(seed: str, seconds: str, answers: str) -> None:
    threads = [Producer(str(number), seed, float(seconds), answers) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close()
    if errors := [thread.error for thread in threads if thread.error is not None]:
        raise errors[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
