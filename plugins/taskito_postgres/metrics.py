"""The Metrics contract on the table ``task_metrics``: one row per task, queue and minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from taskito_core import Sketch, StorageConfig, Tallies, Tally
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.base import Base
from taskito_postgres.session import Session
from taskito_postgres.sql import metrics as sql

#: Seconds between two checks for rows that have been kept long enough.
FORGET_EVERY = 3600.0


class PostgresMetrics(Base):
    """The sink in the schema of a storage, with connections of its own."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._forget_at = 0.0

    def record(self, batch: Sequence[Tally]) -> None:
        """One statement adds up in the server, under the locks of the rows."""
        # In one order, so that two workers that record the same tasks cannot deadlock.
        ordered = sorted(batch, key=lambda tally: (tally.task_name, tally.queue))
        parameters = {**_arrays(ordered), "shift": self.clock_shift}
        forgets = time.monotonic() >= self._forget_at

        def work(session: Session) -> None:
            with session.round_trip() as trip:
                trip.commit_lazily()
                trip.run(self._statements[sql.RECORD], parameters)
                ahead = trip.run(self._statements[sql.IS_AHEAD], parameters)
                if forgets:
                    trip.run(self._statements[sql.FORGET_TALLIES], {"shift": self.clock_shift})
            if ahead.fetchone() == (True,):
                self._record_anew(session)

        self._connections.on_pool("record metrics", work)
        if forgets:
            self._forget_at = time.monotonic() + FORGET_EVERY

    def _record_anew(self, session: Session) -> None:
        """The clock was set back: what is kept under minutes that have not begun was measured until now."""
        run = session.runner(self._statements)
        with session.transaction():
            tallies = Tallies()
            tallies.merge(map(_tally, run(sql.TAKE_AHEAD, {"shift": self.clock_shift})))
            if batch := tallies.take():
                run(sql.RECORD, {**_arrays(batch), "shift": self.clock_shift})

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        parameters = {"task_name": task_name, "since": int(since * 1000), "shift": self.clock_shift}
        rows = self._searched("read metrics", sql.TALLIES, parameters)
        tallies = Tallies()
        tallies.merge(map(_tally, rows))
        return tallies.take()


def _tally(row: tuple[Any, ...]) -> Tally:
    fields = (*row[:-1], Sketch.from_text(row[-1]))
    return Tally(*fields)


def _arrays(batch: Sequence[Tally]) -> dict[str, Any]:
    return {
        "task_names": Texts(tally.task_name for tally in batch),
        "queues": Texts(tally.queue for tally in batch),
        "succeeded": Bigints(tally.succeeded for tally in batch),
        "failed": Bigints(tally.failed for tally in batch),
        "total_run": Doubles(tally.total_run for tally in batch),
        "shortest_run": Doubles(tally.shortest_run for tally in batch),
        "longest_run": Doubles(tally.longest_run for tally in batch),
        "total_wait": Doubles(tally.total_wait for tally in batch),
        "peak_memory": Bigints(tally.peak_memory for tally in batch),
        "histograms": Texts(tally.runs.to_text() for tally in batch),
    }
