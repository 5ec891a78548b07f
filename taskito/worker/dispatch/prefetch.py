"""Claims that wait for a child, in the order they will be given out, and how much work that is. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Sequence

from taskito.worker.dispatch.inflight import NEVER, InFlight
from taskito.worker.dispatch.pace import Pace


class PrefetchBuffer:
    """Entries between the store and the children. ``work`` of each is what it is expected to take."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.entries: deque[InFlight] = deque()  #: whoever takes some from the front says so to ``took``
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

    def take_older(self, moment: float) -> list[InFlight]:
        """Take out those at the front that were claimed by then."""
        older = list(itertools.takewhile(lambda entry: entry.claimed <= moment, self.entries))
        for _ in older:
            self.entries.popleft()
        self.took(sum(entry.work for entry in older))
        return older

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

    def waits_since(self) -> float:
        """When the first was claimed; infinity: there is none."""
        return self.entries[0].claimed if self.entries else NEVER
