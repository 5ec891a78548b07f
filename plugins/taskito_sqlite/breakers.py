"""Circuit breakers in the database file, shared by every worker that uses it.

What changes nothing writes nothing: as long as all goes well, asking and telling are reads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from taskito_core import (
    Breaker,
    BreakerOptions,
    BreakerRecord,
    BreakerState,
    BreakerStep,
    KeptBreaker,
    StorageConfig,
    StoredBreaker,
)
from taskito_sqlite.door import Door

BREAKER = """
-- The breaker of one task.
SELECT state, failures, opened_at, probe_at, threshold, "window", cooldown
  FROM circuit_breakers WHERE task_name = ?1
"""

KEEP_BREAKER = """
-- Store the breaker of one task.
INSERT INTO circuit_breakers (task_name, state, failures, opened_at, probe_at, threshold, "window", cooldown)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (task_name) DO UPDATE SET
  state = excluded.state, failures = excluded.failures, opened_at = excluded.opened_at,
  probe_at = excluded.probe_at, threshold = excluded.threshold, "window" = excluded."window",
  cooldown = excluded.cooldown
"""

BREAKERS = """
-- All of them, by name.
SELECT state, failures, opened_at, probe_at, threshold, "window", cooldown, task_name
  FROM circuit_breakers ORDER BY task_name
"""

#: What runs for every claim of a guarded task: a test forbids these to scan a table.
HOT = ("BREAKER", "KEEP_BREAKER")


class SqliteCircuitBreaker(Door, StoredBreaker):
    """``CircuitBreaker`` of the core."""

    def __init__(self, config: StorageConfig) -> None:
        Door.__init__(self, config)
        StoredBreaker.__init__(self)

    def read(self) -> list[BreakerRecord]:
        """As ``CircuitBreaker.read``."""

        def work(connection: sqlite3.Connection) -> list[BreakerRecord]:
            now = self.now()
            rows = [(task, _kept(row)) for *row, task in connection.execute(BREAKERS)]
            return [breaker.report(task, options, now) for task, (breaker, options) in rows]

        return self._read(work)

    def _step(self, doing: str, tasks: Iterable[str], step: BreakerStep) -> dict[str, KeptBreaker]:

        def look(connection: sqlite3.Connection) -> tuple[dict[str, KeptBreaker], list[str]]:
            now, after, changed = self.now(), {}, []
            for task in tasks:
                row = connection.execute(BREAKER, (task,)).fetchone()
                before = None if row is None else _kept(row)
                stepped = step(task, before, now)
                if stepped is not None:
                    after[task] = stepped
                    if stepped != before:
                        changed.append(task)
            return after, changed

        def change(connection: sqlite3.Connection) -> dict[str, KeptBreaker]:
            after, changed = look(connection)
            for task in changed:
                connection.execute(KEEP_BREAKER, (task, *_row(*after[task])))
            return after

        after, changed = self._read(look)
        # Only a writer may believe what it read: it looks again, now that nobody else can change it.
        return self._change(change) if changed else after


def _kept(row: Sequence[Any]) -> KeptBreaker:
    state, failures, opened_at, probe_at, *options = row
    return Breaker(BreakerState(state), tuple(json.loads(failures)), opened_at, probe_at), BreakerOptions(
        *options
    )


def _row(breaker: Breaker, options: BreakerOptions) -> tuple[Any, ...]:
    moments = (json.dumps(breaker.failures), breaker.opened_at, breaker.probe_at)
    return (breaker.state.value, *moments, options.threshold, options.window, options.cooldown)
