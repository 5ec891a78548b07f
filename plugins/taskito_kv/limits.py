"""Rate limiter and circuit breakers in the memory of one process, beside the store of the same name."""

from __future__ import annotations

from collections.abc import Iterable

from taskito_core import (
    BreakerRecord,
    BreakerStep,
    Bucket,
    Grant,
    KeptBreaker,
    StorageConfig,
    StoredBreaker,
    Wants,
)
from taskito_kv.access import MemoryAccess


class _Beside(MemoryAccess):
    """The store that a config names, its lock and its clock."""

    def close(self) -> None:
        """Nothing is open."""


class MemoryRateLimiter(_Beside):
    """``RateLimiter`` as plain Python."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        with self._lock() as store:
            now, grants = self.now(), {}
            for key, (wanted, limit) in wants.items():
                bucket = store.buckets.get(key) or Bucket.full(limit, now)
                store.buckets[key], grants[key] = bucket.take(wanted, limit, now)
            return grants

    def give_back(self, unused: Wants) -> None:
        with self._lock() as store:
            now = self.now()
            for key, (count, limit) in unused.items():
                bucket = store.buckets.get(key) or Bucket.full(limit, now)
                store.buckets[key] = bucket.put_back(count, limit, now)


class MemoryCircuitBreaker(_Beside, StoredBreaker):
    """``CircuitBreaker`` as plain Python."""

    def __init__(self, config: StorageConfig) -> None:
        _Beside.__init__(self, config)
        StoredBreaker.__init__(self)

    def read(self) -> list[BreakerRecord]:
        with self._lock() as store:
            now = self.now()
            return [
                breaker.report(task, options, now)
                for task, (breaker, options) in sorted(store.breakers.items())
            ]

    def _step(self, doing: str, tasks: Iterable[str], step: BreakerStep) -> dict[str, KeptBreaker]:
        with self._lock() as store:
            now = self.now()
            stepped = {task: step(task, store.breakers.get(task), now) for task in tasks}
            after = {task: kept for task, kept in stepped.items() if kept is not None}
            store.breakers.update(after)
            return after
