"""Circuit breakers in the database file, shared by every worker that uses it.

What changes nothing writes nothing: as long as all goes well, each call is a read.
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
from taskito_sqlite.base import Base
from taskito_sqlite.sql import limits as sql


class SqliteCircuitBreaker(Base, StoredBreaker):
    """``CircuitBreaker`` of the core. Writes need not survive a power cut: nothing that it judged does."""

    def __init__(self, config: StorageConfig) -> None:
        Base.__init__(self, config)
        StoredBreaker.__init__(self)

    def read(self) -> list[BreakerRecord]:
        """As ``CircuitBreaker.read``."""

        def work(connection: sqlite3.Connection) -> list[BreakerRecord]:
            now = self.now()
            rows = [_kept(row) for row in connection.execute(sql.ALL_BREAKERS)]
            return [breaker.report(task, options, now) for task, (breaker, options) in rows]

        return self._read(work)

    def _step(self, doing: str, tasks: Iterable[str], step: BreakerStep) -> dict[str, KeptBreaker]:
        wanted = sorted(set(tasks))
        values = {"tasks": json.dumps(wanted)}

        def decide(connection: sqlite3.Connection) -> tuple[dict[str, KeptBreaker], list[str]]:
            now, after, changed = self.now(), {}, []
            stored = dict(_kept(row) for row in connection.execute(sql.BREAKERS, values))
            for task in wanted:
                before = stored.get(task)
                stepped = step(task, before, now)
                if stepped is not None:
                    after[task] = stepped
                    if stepped != before:
                        changed.append(task)
            return after, changed

        def change(connection: sqlite3.Connection) -> dict[str, KeptBreaker]:
            after, changed = decide(connection)
            for task in changed:
                connection.execute(sql.PUT_BREAKER, _values(task, *after[task]))
            return after

        after, changed = self._read(decide)
        # Only a writer may rely on what it read: it decides once more, now that no other can change it.
        return self._write(change, durable=False) if changed else after


def _kept(row: Sequence[Any]) -> tuple[str, KeptBreaker]:
    task, state, failures, opened_at, probe_at, *options = row
    breaker = Breaker(BreakerState(state), tuple(json.loads(failures)), opened_at, probe_at)
    return task, (breaker, BreakerOptions(*options))


def _values(task: str, breaker: Breaker, options: BreakerOptions) -> dict[str, Any]:
    return {
        "task_name": task,
        "state": breaker.state.value,
        "failures": json.dumps(breaker.failures),
        "opened_at": breaker.opened_at,
        "probe_at": breaker.probe_at,
        "threshold": options.threshold,
        "window": options.window,
        "cooldown": options.cooldown,
    }
