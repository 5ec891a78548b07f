"""Circuit breakers in the database file, shared by every worker that uses it.

What changes nothing writes nothing: as long as all goes well, asking and telling are reads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from taskito_core import (
    Admission,
    Breaker,
    BreakerOptions,
    BreakerRecord,
    BreakerState,
    Probes,
    StorageConfig,
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

Kept = tuple[Breaker, BreakerOptions]
#: From a task's name, what is stored (None: nothing yet) and the time, to what is to be stored.
Step = Callable[[str, Kept | None, int], Kept | None]


class SqliteCircuitBreaker(Door):
    """``CircuitBreaker`` of the core."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._probes = Probes()

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        """As ``CircuitBreaker.admit``."""
        answers: dict[str, Admission] = {}

        def step(task: str, kept: Kept | None, now: int) -> Kept:
            breaker, answers[task] = (kept[0] if kept else Breaker()).admit(tasks[task], now)
            return breaker, tasks[task]

        for task, (breaker, _) in self._turn(tasks, step).items():
            self._probes.admitted(task, answers[task], breaker)
        return answers

    def withdraw(self, task_names: Sequence[str]) -> None:
        """As ``CircuitBreaker.withdraw``."""

        def step(task: str, kept: Kept | None, now: int) -> Kept | None:
            return kept and (kept[0].withdraw(self._probes.get(task)), kept[1])

        for task, (breaker, _) in self._turn(task_names, step).items():
            self._probes.stored(task, breaker)

    def record(
        self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]
    ) -> dict[str, BreakerState]:
        """As ``CircuitBreaker.record``."""

        def step(task: str, kept: Kept | None, now: int) -> Kept:
            successes, options = outcomes[task]
            breaker = kept[0] if kept else Breaker()
            return breaker.record(successes, options, now, self._probes.get(task)), options

        states = {}
        for task, (breaker, _) in self._turn(outcomes, step).items():
            self._probes.stored(task, breaker)
            states[task] = breaker.state
        return states

    def read(self) -> list[BreakerRecord]:
        """As ``CircuitBreaker.read``."""

        def work(connection: sqlite3.Connection) -> list[BreakerRecord]:
            now = self.now()
            rows = [(task, _kept(row)) for *row, task in connection.execute(BREAKERS)]
            return [breaker.report(task, options, now) for task, (breaker, options) in rows]

        return self._read(work)

    def reset(self, task_name: str) -> bool:
        """As ``CircuitBreaker.reset``."""

        def step(task: str, kept: Kept | None, now: int) -> Kept | None:
            return kept and (Breaker(), kept[1])

        return bool(self._turn([task_name], step))

    def _turn(self, tasks: Iterable[str], step: Step) -> dict[str, Kept]:
        """Take a step with each breaker; what is stored afterwards, of those that exist then."""

        def look(connection: sqlite3.Connection) -> tuple[dict[str, Kept], list[str]]:
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

        def change(connection: sqlite3.Connection) -> dict[str, Kept]:
            after, changed = look(connection)
            for task in changed:
                connection.execute(KEEP_BREAKER, (task, *_row(*after[task])))
            return after

        after, changed = self._read(look)
        # Only a writer may believe what it read: it looks again, now that nobody else can change it.
        return self._change(change) if changed else after


def _kept(row: Sequence[Any]) -> Kept:
    state, failures, opened_at, probe_at, *options = row
    return Breaker(BreakerState(state), tuple(json.loads(failures)), opened_at, probe_at), BreakerOptions(
        *options
    )


def _row(breaker: Breaker, options: BreakerOptions) -> tuple[Any, ...]:
    moments = (json.dumps(breaker.failures), breaker.opened_at, breaker.probe_at)
    return (breaker.state.value, *moments, options.threshold, options.window, options.cooldown)
