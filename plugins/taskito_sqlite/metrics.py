"""The Metrics contract on the table ``task_metrics``: one row per task, queue and minute."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from taskito_core import METRICS_KEPT, Sketch, StorageConfig, Tallies, Tally
from taskito_sqlite import upkeep
from taskito_sqlite.door import Door

#: Milliseconds of one row.
MINUTE = 60_000
#: Seconds between two looks for rows that have been kept long enough.
FORGET_EVERY = 3600.0


class SqliteMetrics(Door):
    """The sink in the file of a storage; what is recorded survives a killed process, not a power cut."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._forget_at = 0.0

    def record(self, batch: Sequence[Tally]) -> None:
        """As ``Metrics.record``. Merged here, in the only transaction that writes at that moment."""
        forgets = time.monotonic() >= self._forget_at

        def work(connection: sqlite3.Connection) -> None:
            now = self.now()
            minute = now - now % MINUTE
            for tally in batch:
                merged = Tally(tally.task_name, tally.queue)
                key = (tally.task_name, tally.queue, minute)
                for row in connection.execute(upkeep.TALLY, key).fetchall():
                    merged.merge(_tally(row))
                merged.merge(tally)
                connection.execute(upkeep.PUT_TALLY, (*key, *_values(merged)))
            if forgets:
                connection.execute(upkeep.FORGET_TALLIES, (now - METRICS_KEPT * 1000,))

        self._change(work)
        if forgets:
            self._forget_at = time.monotonic() + FORGET_EVERY

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        """As ``Metrics.read``."""
        first = self.now() - int(since * 1000) - MINUTE
        if task_name is None:
            rows = self._read(lambda connection: connection.execute(upkeep.TALLIES, (first,)).fetchall())
        else:
            rows = self._read(
                lambda connection: connection.execute(upkeep.TALLIES_OF_TASK, (first, task_name)).fetchall()
            )
        tallies = Tallies()
        tallies.merge(map(_tally, rows))
        return tallies.take()


def _values(tally: Tally) -> tuple[object, ...]:
    return (
        *(tally.succeeded, tally.failed, tally.total_run, tally.shortest_run, tally.longest_run),
        *(tally.total_wait, tally.peak_memory, tally.runs.to_text()),
    )


def _tally(row: tuple[Any, ...]) -> Tally:
    fields = (*row[:-1], Sketch.from_text(row[-1]))
    return Tally(*fields)
