"""A producer of the chaos test, in a process of its own: ``chaosproducer.py SEED SECONDS ANSWERS``.

Four threads enqueue a little of everything, at random and for so many seconds, and write each answer they got
as one line of JSON. It fails if the store ever refused anything.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from chaosapp import (
    add,
    doomed,
    flaky,
    fragile,
    gather,
    keyed,
    limited,
    paired,
    patient,
    queue,
    single,
    sleepy,
    square,
)
from ledger import Ledger
from producing import ProducerThread, run_all

from taskito import JobResult, chain, chord, group

THREADS = 4
#: How often each kind is chosen; the names are methods of ``Producer``.
WEIGHTS = {
    "plain": 20,
    "failing": 8,
    "unique": 20,
    "line": 6,
    "diamond": 5,
    "cascade": 4,
    "steps": 5,
    "chord_of_all": 5,
    "chord_that_fails": 3,
    "chord_that_collects": 4,
    "grouped": 4,
    "at_a_rate": 9,
    "by_key": 10,
    "guarded": 9,
    "put_off": 5,
    "hurried": 6,
    "called_off": 5,
    "stopped": 3,
}


class Producer(ProducerThread):
    """One thread."""

    def __init__(self, name: str, seed: str, seconds: float, answers: str) -> None:
        super().__init__(name, seed, seconds, answers)
        self._ledger = Ledger(os.environ["LEDGER"])
        self._asked = 0.0
        self._running: list[JobResult[None]] = []  #: patient jobs that are still to be stopped

    def produce(self) -> None:
        pause = threading.Event()
        try:
            while self.is_time_left():
                kind = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
                self._asked = self._ledger.now()
                for answer in getattr(self, kind)():
                    self._write({"kind": kind, **answer})
                self._stop_one()
                pause.wait(self.dice.uniform(0.02, 0.16))
            while self._running:
                self._stop_one()
                pause.wait(0.05)
        finally:
            self._ledger.close()

    def _write(self, answer: dict[str, Any]) -> None:
        self.append({"asked": self._asked, "answered": self._ledger.now(), **answer})

    def _number(self) -> int:
        return self.dice.randrange(1000)

    def _nap(self) -> float:
        return self.dice.uniform(0.0, 0.03)

    # ---- one method per kind; "jobs" are ids and the results they must have ----

    def plain(self) -> Iterator[dict[str, Any]]:
        numbers = [self._number() for _ in range(self.dice.randint(1, 6))]
        jobs = queue.enqueue_many([square.spec(number, self._nap()) for number in numbers])
        yield {"jobs": {job.id: number**2 for job, number in zip(jobs, numbers, strict=True)}}

    def failing(self) -> Iterator[dict[str, Any]]:
        number = self._number()
        yield {"jobs": {flaky.delay(number, self.dice.randint(1, 3)).id: number**2}}
        yield {"jobs": {doomed.delay().id: None}}

    def unique(self) -> Iterator[dict[str, Any]]:
        key = f"u{self.dice.randrange(2)}"
        job = single.using(unique_key=key).delay(key, 2 * self._nap())
        yield {"jobs": {job.id: key}, "key": key}

    def line(self) -> Iterator[dict[str, Any]]:
        """Each after the one before."""
        number = self._number()
        jobs = [square.delay(number, self._nap())]
        for _ in range(self.dice.randint(1, 3)):
            jobs.append(square.using(depends_on=jobs[-1]).delay(number, self._nap()))
        parents = {after.id: [before.id] for before, after in pairwise(jobs)}
        yield {"jobs": {job.id: number**2 for job in jobs}, "parents": parents}

    def diamond(self) -> Iterator[dict[str, Any]]:
        number = self._number()
        top = flaky.delay(number, self.dice.randint(0, 1))
        sides = [square.using(depends_on=top).delay(number, self._nap()) for _ in range(2)]
        bottom = square.using(depends_on=sides).delay(number)
        parents = {side.id: [top.id] for side in sides} | {bottom.id: [side.id for side in sides]}
        yield {"jobs": {job.id: number**2 for job in (top, *sides, bottom)}, "parents": parents}

    def cascade(self) -> Iterator[dict[str, Any]]:
        """One parent dies, or is called off: nobody behind it runs, whatever the other parent does."""
        good = square.delay(2)
        dies = self.dice.random() < 0.5
        bad = doomed.delay() if dies else square.using(delay=20).delay(2)
        child = square.using(depends_on=[good, bad]).delay(2)
        grandchild = square.using(depends_on=child).delay(2)
        yield {
            "jobs": {job.id: 4 for job in (good, bad, child, grandchild)},
            "parents": {child.id: [good.id, bad.id], grandchild.id: [child.id]},
        }
        if not dies and queue.cancel_job(bad.id):
            yield {"jobs": {}, "cancelled": [bad.id]}

    def steps(self) -> Iterator[dict[str, Any]]:
        """A chain of the canvas: each gets what the one before returned."""
        number = self._number()
        last = chain(square.s(number), add.s(1), add.s(2)).apply()
        [middle] = last.dependencies
        [first] = queue.get_job(middle).dependencies
        results = {first: number**2, middle: number**2 + 1, last.id: number**2 + 3}
        yield {"jobs": results, "parents": {last.id: [middle], middle: [first]}}

    def chord_of_all(self) -> Iterator[dict[str, Any]]:
        numbers = [self._number() for _ in range(self.dice.randint(2, 8))]
        callback = chord([square.s(number, self._nap()) for number in numbers], gather.s()).apply()
        yield self._of_chord(callback, [number**2 for number in numbers], "cancel")

    def chord_that_fails(self) -> Iterator[dict[str, Any]]:
        callback = chord([square.s(3), doomed.s(), square.s(4)], gather.s()).apply()
        yield self._of_chord(callback, [9, None, 16], "cancel")

    def chord_that_collects(self) -> Iterator[dict[str, Any]]:
        callback = chord([square.s(3), doomed.s(), square.s(4)], gather.s(), on_error="collect").apply()
        yield self._of_chord(callback, [9, None, 16], "collect")

    def _of_chord(self, callback: JobResult[Any], results: list[int | None], on_error: str) -> dict[str, Any]:
        # Ids of one batch grow in the order in which its jobs were made.
        members = sorted(callback.dependencies)
        assert len(members) == len(results)
        jobs = dict(zip(members, results, strict=True))
        return {
            "jobs": {**jobs, callback.id: results},
            "parents": {callback.id: members},
            "on_error": on_error,
        }

    def grouped(self) -> Iterator[dict[str, Any]]:
        numbers = [self._number() for _ in range(self.dice.randint(1, 5))]
        members = group(square.s(number) for number in numbers).apply()
        yield {"jobs": {one: number**2 for one, number in zip(members.ids, numbers, strict=True)}}

    def at_a_rate(self) -> Iterator[dict[str, Any]]:
        number = self._number()
        yield {"jobs": {job.id: number**2 for job in limited.map([number] * self.dice.randint(1, 4))}}

    def by_key(self) -> Iterator[dict[str, Any]]:
        user = f"user{self.dice.randrange(3)}"
        task = self.dice.choice([keyed, paired])
        specs = [task.spec(user, self._nap()) for _ in range(self.dice.randint(1, 3))]
        yield {"jobs": {job.id: user for job in queue.enqueue_many(specs)}}

    def guarded(self) -> Iterator[dict[str, Any]]:
        number = self._number()
        yield {"jobs": {job.id: number**2 for job in fragile.map([number] * self.dice.randint(1, 3))}}

    def put_off(self) -> Iterator[dict[str, Any]]:
        times = self.dice.randint(1, 3)
        yield {"jobs": {sleepy.delay(times).id: times}}

    def hurried(self) -> Iterator[dict[str, Any]]:
        """Behind everything else, and with little time to begin."""
        seconds = self.dice.choice([0.001, 0.02, 0.3])
        job = square.using(expires=seconds, priority=-5).delay(2)
        yield {"jobs": {job.id: 4}, "expires": seconds}

    def called_off(self) -> Iterator[dict[str, Any]]:
        job = square.using(delay=self.dice.choice([0.0, 0.1, 5.0])).delay(2, self._nap())
        yield {"jobs": {job.id: 4}}
        if queue.cancel_job(job.id):
            yield {"jobs": {}, "cancelled": [job.id]}

    def stopped(self) -> Iterator[dict[str, Any]]:
        job = patient.delay()
        self._running.append(job)
        yield {"jobs": {job.id: None}}

    def _stop_one(self) -> None:
        for job in self._running:
            if job.status.finished:
                self._running.remove(job)
                return
            if queue.cancel_running_job(job.id):
                self._running.remove(job)
                self._write({"kind": "stopped", "jobs": {}, "cancelled": [job.id]})
                return


if __name__ == "__main__":
    run_all(Producer, THREADS, queue, *sys.argv[1:])
