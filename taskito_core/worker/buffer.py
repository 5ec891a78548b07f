"""Claims that wait for a child, in the order they will be given out, and how much work that is. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from taskito_core.worker.lanes import NEVER, Entry
from taskito_core.worker.pace import Pace


class Buffer:
    """Entries between the store and the children. ``work`` of each is what it is expected to take."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._entries: deque[Entry] = deque()
        self.work = 0.0  #: expected seconds of all of them

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> Entry:
        return self._entries[0]

    def extend(self, entries: Sequence[Entry]) -> None:
        """Behind all others, in this order."""
        expected = self._pace.expected
        for entry in entries:
            entry.work = expected(entry.claim.task_name)
            self.work += entry.work
        self._entries.extend(entries)

    def to_front(self, entries: Sequence[Entry]) -> None:
        """Before all others, in this order."""
        for entry in reversed(entries):
            entry.work = self._pace.expected(entry.claim.task_name)
            self._entries.appendleft(entry)
            self.work += entry.work

    def pop(self) -> Entry:
        entry = self._entries.popleft()
        self._forget(entry)
        return entry

    def remove(self, job_ids: Collection[str]) -> list[Entry]:
        """Take out the entries of these jobs."""
        removed = [entry for entry in self._entries if entry.claim.id in job_ids]
        for entry in removed:
            self._entries.remove(entry)
            self._forget(entry)
        return removed

    def empty(self) -> list[Entry]:
        """Take out all of them."""
        entries, self._entries = list(self._entries), deque()
        self.work = 0.0
        return entries

    def waits_since(self) -> float:
        """When the first was claimed; infinity: there is none."""
        return self._entries[0].claimed if self._entries else NEVER

    def _forget(self, entry: Entry) -> None:
        # What is added and taken away again leaves a rest in floating point: an empty buffer holds no work.
        self.work = self.work - entry.work if self._entries else 0.0
