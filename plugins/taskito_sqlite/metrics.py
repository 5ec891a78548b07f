"""The Metrics contract on the table ``task_metrics``: one row per task, queue and minute."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from taskito_core import Sketch, StorageConfig, Tallies, Tally
from taskito_sqlite.base import Base
from taskito_sqlite.sql import metrics as sql

#: Milliseconds of one row.
MINUTE = 60_000
#: Seconds between two deletions of rows that have been kept long enough.
FORGET_EVERY = 3600.0


class SqliteMetrics(Base):
    """Metrics in the file of a storage. What is recorded survives a killed process, but not a power cut."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._forget_at = 0.0

    def record(self, batch: Sequence[Tally]) -> None:
        """As ``Metrics.record``. Merged here, in the only transaction that writes at that moment."""
        forgets = time.monotonic() >= self._forget_at

        def work(connection: sqlite3.Connection) -> None:
            now = self.now()
            minute = now - now % MINUTE
            # Minutes that have not begun: the clock was set back.
            ahead = [_tally(row) for row in connection.execute(sql.TAKE_AHEAD, {"now": now}).fetchall()]
            for tally in (*ahead, *batch):
                merged = Tally(tally.task_name, tally.queue)
                key = {"task_name": tally.task_name, "queue": tally.queue, "minute": minute}
                for row in connection.execute(sql.TALLY, key).fetchall():
                    merged.merge(_tally(row))
                merged.merge(tally)
                connection.execute(sql.PUT_TALLY, {**key, **_values(merged)})
            if forgets:
                connection.execute(sql.FORGET_TALLIES, {"now": now})

        self._write(work, durable=False)
        if forgets:
            self._forget_at = time.monotonic() + FORGET_EVERY

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        """As ``Metrics.read``."""
        values = {"after": self.now() - int(since * 1000) - MINUTE, "task_name": task_name}
        statement = sql.TALLIES if task_name is None else sql.TALLIES_OF_TASK
        rows = self._read(lambda connection: connection.execute(statement, values).fetchall())
        tallies = Tallies()
        tallies.merge(map(_tally, rows))
        return tallies.take()


def _values(tally: Tally) -> dict[str, object]:
    return {
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "total_run": tally.total_run,
        "shortest_run": tally.shortest_run,
        "longest_run": tally.longest_run,
        "total_wait": tally.total_wait,
        "peak_memory": tally.peak_memory,
        "histogram": tally.runs.to_text(),
    }


def _tally(row: tuple[Any, ...]) -> Tally:
    values = (*row[:-1], Sketch.from_text(row[-1]))
    return Tally(*values)
