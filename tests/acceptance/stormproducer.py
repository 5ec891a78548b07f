"""A producer of the storm, in a process of its own: ``stormproducer.py SEED SECONDS ANSWERS``.

Threads enqueue at random and write what was acknowledged, with the results it must have, as lines of JSON.
That the store is away is expected; what was not acknowledged then may be stored or not.
"""

from __future__ import annotations

import sys
import threading

from producing import ProducerThread, run_all
from stormapp import add, queue, work

from taskito import JobResult, StorageUnavailable, chain

THREADS = 3


class Producer(ProducerThread):
    """One thread."""

    def produce(self) -> None:
        pause = threading.Event()
        kinds = (self.plain, self.plain, self.later, self.failing, self.steps, self.long)
        while self.is_time_left():
            try:
                self.append(self.dice.choice(kinds)())
            except StorageUnavailable:
                pause.wait(0.2)
            pause.wait(self.dice.uniform(0.1, 0.6))

    def plain(self) -> dict[str, int]:
        numbers = [self.dice.randrange(1000) for _ in range(self.dice.randint(1, 5))]
        jobs = queue.enqueue_many([work.spec(number, self.dice.uniform(0, 0.05)) for number in numbers])
        return {job.id: number**2 for job, number in zip(jobs, numbers, strict=True)}

    def later(self) -> dict[str, int]:
        return {work.using(delay=self.dice.uniform(0.1, 5.0)).delay(7).id: 49}

    def failing(self) -> dict[str, int]:
        return {work.delay(9, 0.0, self.dice.randint(1, 3)).id: 81}

    def steps(self) -> dict[str, int]:
        last: JobResult[int] = chain(work.s(4, 0.01), add.s(1), add.s(2)).apply()
        return {last.id: 19}

    def long(self) -> dict[str, int]:
        return {work.delay(5, self.dice.uniform(0.2, 1.5)).id: 25}


if __name__ == "__main__":
    run_all(Producer, THREADS, queue, *sys.argv[1:])
