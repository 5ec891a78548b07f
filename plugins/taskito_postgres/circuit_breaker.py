"""Circuit breakers in the database, shared by every worker that uses the schema.

Each is read, decided about in the core, and stored if it was not changed in between; else once more.
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
from taskito_postgres.base import Base
from taskito_postgres.session import Session
from taskito_postgres.sql import limits as sql

#: Times a breaker may be changed by others between read and swap. Each time one of them got through.
PATIENCE = 1000


class PostgresCircuitBreaker(Base, StoredBreaker):
    """``CircuitBreaker`` of the core."""

    def __init__(self, config: StorageConfig) -> None:
        Base.__init__(self, config)
        StoredBreaker.__init__(self)

    def read(self) -> list[BreakerRecord]:
        rows = self._searched("read circuit breakers", sql.ALL_BREAKERS, {"shift": self.clock_shift})
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
            for task, now, *row in self._current(doing, left):
                before = None if row[0] is None else _kept(row)
                stepped = step(task, before, now)
                if stepped is None:
                    continue
                after[task] = stepped
                if before is None:
                    fresh[task] = stepped
                elif stepped != before:
                    changed[task] = before, stepped
            stored = self._add(doing, fresh) | self._swap(doing, changed)
            left = sorted({*fresh, *changed} - stored)
        raise StorageUnavailable(
            f"cannot {doing} at {self._connections.shown}: others changed {left[0]!r} again and again"
        )

    def _current(self, doing: str, tasks: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._read(doing, sql.BREAKERS, {"tasks": Texts(tasks), "shift": self.clock_shift})

    def _add(self, doing: str, fresh: Mapping[str, KeptBreaker]) -> set[str]:
        """Store first breakers; the tasks of those that no other worker was first with."""
        return self._store(doing, sql.ADD_BREAKERS, _arrays(fresh)) if fresh else set()

    def _swap(self, doing: str, changed: Mapping[str, tuple[KeptBreaker, KeptBreaker]]) -> set[str]:
        """Store changed breakers; the tasks of those that no other worker changed."""
        if not changed:
            return set()
        new = _arrays({task: after for task, (_, after) in changed.items()})
        old = _arrays({task: before for task, (before, _) in changed.items()})
        named = ("states", "failures", "opened", "probes")
        return self._store(doing, sql.SWAP_BREAKERS, {**new, **{f"old_{name}": old[name] for name in named}})

    def _store(self, doing: str, statement: str, named: Mapping[str, Any]) -> set[str]:
        def work(session: Session) -> set[str]:
            with session.round_trip() as trip:
                # It need not survive a power cut: nothing of what it decided about does either.
                trip.commit_lazily()
                answer = trip.run(self._statements[statement], named)
            return {task for (task,) in answer.fetchall()}

        return self._connections.on_pool(doing, work)


def _kept(row: Sequence[Any]) -> KeptBreaker:
    state, failures, opened_at, probe_at, *options = row
    breaker = Breaker(BreakerState(state), tuple(json.loads(failures)), opened_at, probe_at)
    return breaker, BreakerOptions(*options)


def _arrays(rows: Mapping[str, KeptBreaker]) -> dict[str, Any]:
    """What is to be stored of these tasks, column by column, in the order of their names."""
    names = sorted(rows)
    breakers = [rows[name][0] for name in names]
    options = [rows[name][1] for name in names]
    return {
        "tasks": Texts(names),
        "states": Texts(breaker.state.value for breaker in breakers),
        "failures": Texts(json.dumps(breaker.failures) for breaker in breakers),
        "opened": Bigints(breaker.opened_at for breaker in breakers),
        "probes": Bigints(breaker.probe_at for breaker in breakers),
        "thresholds": Bigints(one.threshold for one in options),
        "windows": Doubles(one.window for one in options),
        "cooldowns": Doubles(one.cooldown for one in options),
    }
