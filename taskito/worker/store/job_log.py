"""What running jobs said and the store has not heard yet. Bounded; pure.

Notes are recorded before the outcome of their job, so that whoever has a result can read the whole log.
"""

from __future__ import annotations

from taskito_core.storage_worker import LogEntry, Note, Progress

#: Log entries and characters that wait for the store at most; beyond it the oldest are dropped.
MAX_ENTRIES = 20_000
MAX_SIZE = 32 * 1024 * 1024
#: Seconds a note may wait for company.
PATIENCE = 0.1
#: Notes in one request, at most.
BATCH = 2_000
NEVER = float("inf")


class Notebook:
    """Collects notes; keeps the newest progress of each job, and every log entry in order."""

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []
        self._progress: dict[str, Progress] = {}
        self._size = 0
        self._since = NEVER
        self.dropped = 0  #: entries that were not stored, because the store was away for too long

    def add(self, note: Note, now: float) -> None:
        if isinstance(note, Progress):
            self._progress[note.job_id] = note
        else:
            self._entries.append(note)
            self._size += _size(note)
            while len(self._entries) > MAX_ENTRIES or self._size > MAX_SIZE:
                self._size -= _size(self._entries.pop(0))
                self.dropped += 1
        self._since = min(self._since, now)

    def due(self) -> float:
        """When they should be stored at the latest; infinity: there are none."""
        return self._since + PATIENCE

    def take(self) -> list[Note]:
        """What is to be stored next, oldest first. ``put_back`` must follow if that fails."""
        batch: list[Note] = [*self._progress.values(), *self._entries[:BATCH]]
        self._progress = {}
        self._size -= sum(_size(entry) for entry in self._entries[:BATCH])
        del self._entries[:BATCH]
        if not self._entries:
            self._since = NEVER
        return batch

    def put_back(self, batch: list[Note], now: float) -> None:
        """The store did not take them: to be sent again, before anything newer."""
        entries = [note for note in batch if isinstance(note, LogEntry)]
        newer = self._progress
        self._progress = {note.job_id: note for note in batch if isinstance(note, Progress)} | newer
        self._entries[:0] = entries
        self._size += sum(map(_size, entries))
        if batch:
            self._since = min(self._since, now)


def _size(entry: LogEntry) -> int:
    return len(entry.message) + len(entry.extra or "") + 100
