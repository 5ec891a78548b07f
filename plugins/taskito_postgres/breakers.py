"""Circuit breakers in the database, shared by every worker that uses the schema.

Each is read, decided about in the core, and stored if nobody changed it in between; else once more.
So no lock is ever held while messages travel, and as long as all goes well nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskito_core import (
    Breaker,
    BreakerOptions,
    BreakerRecord,
    BreakerState,
    BreakerStep,
    KeptBreaker,
    StorageConfig,
    StorageUnavailable,
    StoredBreaker,
)
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.door import Door
from taskito_postgres.session import Session
from taskito_postgres.sql import NOW

#: Times a breaker may be changed by others between look and swap. Each time one of them got through.
PATIENCE = 1000

BREAKERS_OF = f"""
-- These tasks' breakers and the time; NULLs for a task that has none yet.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
SELECT n.task, c.now, b.state, b.failed_at, b.opened_at, b.probe_at, b.threshold, b."window", b.cooldown
  FROM clock c, unnest(%(tasks)b) AS n(task)
  LEFT JOIN taskito.circuit_breakers b ON b.task_name = n.task
"""

OPEN_BREAKERS = """
INSERT INTO taskito.circuit_breakers (task_name, state, failed_at, failures, opened_at, probe_at, threshold,
                                      "window", cooldown)
SELECT * FROM unnest(%(tasks)b, %(states)b, %(failed_at)b, %(failures)b, %(opened)b, %(probes)b,
                     %(thresholds)b, %(windows)b, %(cooldowns)b)
    ON CONFLICT (task_name) DO NOTHING
RETURNING task_name
"""

SWAP_BREAKERS = """
-- Compare and swap: the state that was decided about must still be there. One that came back to
-- what it was in between is as good.
UPDATE taskito.circuit_breakers b
   SET state = n.state, failed_at = n.failed_at, failures = n.failures, opened_at = n.opened_at,
       probe_at = n.probe_at, threshold = n.threshold, "window" = n.span, cooldown = n.cooldown
  FROM unnest(%(tasks)b, %(states)b, %(failed_at)b, %(failures)b, %(opened)b, %(probes)b, %(thresholds)b,
              %(windows)b, %(cooldowns)b, %(old_states)b, %(old_failed_at)b, %(old_opened)b, %(old_probes)b)
       AS n(task, state, failed_at, failures, opened_at, probe_at, threshold, span, cooldown,
            old_state, old_failed_at, old_opened_at, old_probe_at)
 WHERE b.task_name = n.task AND b.state = n.old_state AND b.failed_at = n.old_failed_at
   AND b.opened_at IS NOT DISTINCT FROM n.old_opened_at AND b.probe_at IS NOT DISTINCT FROM n.old_probe_at
RETURNING b.task_name
"""

ALL_BREAKERS = f"""
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
SELECT b.task_name, c.now, b.state, b.failed_at, b.opened_at, b.probe_at, b.threshold, b."window", b.cooldown
  FROM clock c, taskito.circuit_breakers b ORDER BY b.task_name
"""

#: What runs for every claim of a guarded task: a test looks at how each is planned.
HOT = (BREAKERS_OF, OPEN_BREAKERS, SWAP_BREAKERS)


class PostgresCircuitBreaker(Door, StoredBreaker):
    """``CircuitBreaker`` of the core."""

    def __init__(self, config: StorageConfig) -> None:
        Door.__init__(self, config)
        StoredBreaker.__init__(self)

    def read(self) -> list[BreakerRecord]:
        statement = self._statements[ALL_BREAKERS]
        rows = self._connections.on_pool(
            "read circuit breakers",
            lambda session: session.searched(statement, {"shift": self.clock_shift}),
            repeatable=True,
        )
        found = [(task, now, _kept(row)) for task, now, *row in rows]
        return [breaker.report(task, options, now) for task, now, (breaker, options) in found]

    def _step(self, doing: str, tasks: Iterable[str], step: BreakerStep) -> dict[str, KeptBreaker]:
        after: dict[str, KeptBreaker] = {}
        left = sorted(set(tasks))
        for _ in range(PATIENCE):
            if not left:
                return after
            fresh: dict[str, KeptBreaker] = {}
            changed: dict[str, tuple[KeptBreaker, KeptBreaker]] = {}
            for task, now, *row in self._look(doing, left):
                before = None if row[0] is None else _kept(row)
                stepped = step(task, before, now)
                if stepped is None:
                    continue
                after[task] = stepped
                if before is None:
                    fresh[task] = stepped
                elif stepped != before:
                    changed[task] = before, stepped
            stored = self._open(doing, fresh) | self._swap(doing, changed)
            left = sorted({*fresh, *changed} - stored)
        raise StorageUnavailable(
            f"cannot {doing} at {self._connections.shown}: others changed {left[0]!r} again and again"
        )

    def _look(self, doing: str, tasks: Sequence[str]) -> list[tuple[Any, ...]]:
        statement, named = self._statements[BREAKERS_OF], {"tasks": Texts(tasks), "shift": self.clock_shift}
        return self._connections.on_pool(
            doing, lambda session: session.rows(statement, named), repeatable=True
        )

    def _open(self, doing: str, fresh: Mapping[str, KeptBreaker]) -> set[str]:
        """Store first breakers; the tasks of those that nobody else was first with."""
        return self._store(doing, OPEN_BREAKERS, _columns(fresh)) if fresh else set()

    def _swap(self, doing: str, changed: Mapping[str, tuple[KeptBreaker, KeptBreaker]]) -> set[str]:
        """Store changed breakers; the tasks of those that nobody else changed."""
        if not changed:
            return set()
        new = _columns({task: after for task, (_, after) in changed.items()})
        old = _columns({task: before for task, (before, _) in changed.items()})
        named = ("states", "failed_at", "opened", "probes")
        return self._store(doing, SWAP_BREAKERS, {**new, **{f"old_{name}": old[name] for name in named}})

    def _store(self, doing: str, statement: str, named: Mapping[str, Any]) -> set[str]:
        def work(session: Session) -> set[str]:
            with session.turn() as turn:
                # It need not survive a power cut: nothing of what it judged does either.
                turn.commit_lazily()
                answer = turn.run(self._statements[statement], named)
            return {task for (task,) in answer.fetchall()}

        return self._connections.on_pool(doing, work)


def _kept(row: Sequence[Any]) -> KeptBreaker:
    state, failed_at, opened_at, probe_at, *options = row
    breaker = Breaker(BreakerState(state), tuple(json.loads(failed_at)), opened_at, probe_at)
    return breaker, BreakerOptions(*options)


def _columns(rows: Mapping[str, KeptBreaker]) -> dict[str, Any]:
    """What is to be stored of these tasks, column by column, in the order of their names."""
    names = sorted(rows)
    breakers = [rows[name][0] for name in names]
    options = [rows[name][1] for name in names]
    return {
        "tasks": Texts(names),
        "states": Texts(breaker.state.value for breaker in breakers),
        "failed_at": Texts(json.dumps(breaker.failures) for breaker in breakers),
        "failures": Bigints(len(breaker.failures) for breaker in breakers),
        "opened": Bigints(breaker.opened_at for breaker in breakers),
        "probes": Bigints(breaker.probe_at for breaker in breakers),
        "thresholds": Bigints(one.threshold for one in options),
        "windows": Doubles(one.window for one in options),
        "cooldowns": Doubles(one.cooldown for one in options),
    }
