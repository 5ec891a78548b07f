"""Claims that wait for an executor, and how much work they are expected to be. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from taskito.worker.dispatch.inflight import InFlight

#: Seconds a job of a task never seen before is taken to run: long enough to travel alone.
UNKNOWN = 0.1
#: What a job costs in a child even if its task does nothing, in seconds.
FLOOR = 20e-6
#: Weight of the newest run. A fifth: ten runs forget a wrong first guess, one outlier does not rule.
WEIGHT = 0.2


class Pace:
    """The expected seconds per job: an exponentially weighted moving average per task, and one over all."""

    def __init__(self) -> None:
        self._by_task: dict[str, float] = {}
        self.mean = UNKNOWN  #: over all tasks, weighted by how often they run

    def expected(self, task_name: str) -> float:
        return self._by_task.get(task_name, UNKNOWN)

    def learn(self, task_name: str, ran: float) -> None:
        """A job of this task took ``ran`` seconds."""
        ran = max(ran, FLOOR)
        before = self._by_task.get(task_name)
        # The first run replaces the guess: averaging with it would keep fast tasks slow for a while.
        self._by_task[task_name] = ran if before is None else before + WEIGHT * (ran - before)
        self.mean += WEIGHT * (ran - self.mean)


class PrefetchBuffer:
    """Claims between the store and the executors, in the order in which they will be given out."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.entries: deque[InFlight] = deque()  #: a caller that takes some from the front calls ``took``
        self.work = 0.0  #: expected seconds of all of them

    def __len__(self) -> int:
        return len(self.entries)

    def extend(self, entries: Sequence[InFlight]) -> None:
        """Behind all others, in this order."""
        expected = self._pace.expected
        for entry in entries:
            entry.work = expected(entry.claim.task_name)
            self.work += entry.work
        self.entries.extend(entries)

    def to_front(self, entries: Sequence[InFlight]) -> None:
        """Before all others, in this order."""
        for entry in reversed(entries):
            entry.work = self._pace.expected(entry.claim.task_name)
            self.entries.appendleft(entry)
            self.work += entry.work

    def took(self, work: float) -> None:
        """Entries of so much work are no longer there."""
        # What is added and taken away again leaves a rest in floating point: an empty buffer holds no work.
        self.work = self.work - work if self.entries else 0.0

    def reckon(self) -> None:
        """Expect of each what is known of its task by now."""
        for entry in self.entries:
            entry.work = self._pace.expected(entry.claim.task_name)
        self.work = sum(entry.work for entry in self.entries)

    def take_surplus(self, starts: int, spare: float) -> list[InFlight]:
        """Take out those at the end that are behind ``starts`` others and ``spare`` seconds of work."""
        surplus = []
        while len(self.entries) > starts and (not starts or self.work - self.entries[-1].work >= spare):
            entry = self.entries.pop()
            self.took(entry.work)
            surplus.append(entry)
        return surplus[::-1]

    def remove(self, job_ids: Collection[str]) -> list[InFlight]:
        """Take out the entries of these jobs."""
        removed = [entry for entry in self.entries if entry.claim.id in job_ids]
        for entry in removed:
            self.entries.remove(entry)
        self.took(sum(entry.work for entry in removed))
        return removed

    def empty(self) -> list[InFlight]:
        """Take out all of them."""
        entries, self.entries = list(self.entries), deque()
        self.work = 0.0
        return entries
