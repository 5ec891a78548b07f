"""Progress and log entries of running jobs on their way to the store. Bounded; no I/O but the worker's log.

Notes are recorded before the outcome of their job, so that a reader who has the result has the whole log.
"""

from __future__ import annotations

import logging

from taskito_core.storage_worker import LogEntry, Note, Progress

log = logging.getLogger("taskito.worker")

#: Log entries and characters that wait for the store at most; beyond it the oldest are dropped.
MAX_ENTRIES = 20_000
MAX_SIZE = 32 * 1024 * 1024
#: Seconds a note may wait so that others travel with it.
PATIENCE = 0.1
#: Log entries in one request, at most.
BATCH = 2_000
#: Seconds between two reports of dropped entries.
REPORT_INTERVAL = 10.0
NEVER = float("inf")


class JobLogBuffer:
    """Collects notes; keeps the newest progress of each job, and every log entry in order."""

    def __init__(self) -> None:
        self._entries: list[LogEntry] = []
        self._progress: dict[str, Progress] = {}
        self._size = 0
        self._since = NEVER
        self._dropped = 0  #: entries that were dropped since the last report
        self._report_at = 0.0

    def add(self, note: Note, now: float) -> None:
        if isinstance(note, Progress):
            self._progress[note.job_id] = note
        else:
            self._entries.append(note)
            self._size += _size(note)
            while len(self._entries) > MAX_ENTRIES or self._size > MAX_SIZE:
                self._size -= _size(self._entries.pop(0))
                self._dropped += 1
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

    def report_dropped(self, now: float = NEVER) -> None:
        """Log how many entries were dropped since the last report, every REPORT_INTERVAL at most."""
        if self._dropped and now >= self._report_at:
            log.warning(
                "%d log entries of jobs were dropped, the oldest first: the store did not take them in time, "
                "and %d of them, or %d characters, wait for it at most",
                self._dropped,
                MAX_ENTRIES,
                MAX_SIZE,
            )
            self._dropped, self._report_at = 0, now + REPORT_INTERVAL


def _size(entry: LogEntry) -> int:
    return len(entry.message) + len(entry.extra or "") + 100
