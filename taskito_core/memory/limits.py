"""Rate limiter and circuit breaker in the memory of one process, beside the store of the same name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from taskito_core.gates import Breaker, Bucket
from taskito_core.limits import Admission, BreakerOptions, BreakerRecord, Grant, Wants
from taskito_core.memory.store import Store, store_named, wall_clock
from taskito_core.storage import StorageConfig


class _Door:
    """The store that a config names."""

    def __init__(self, config: StorageConfig) -> None:
        self._name = urlsplit(config.db_url or "").netloc
        self._schema = config.schema
        #: For tests only: milliseconds added to the clock.
        self.clock_shift = 0

    @contextmanager
    def _lock(self) -> Iterator[tuple[Store, int]]:
        store = store_named(self._name, self._schema)
        with store.changed:
            yield store, wall_clock() + self.clock_shift

    def close(self) -> None:
        """Nothing is open."""


class MemoryRateLimiter(_Door):
    """``RateLimiter`` as plain Python."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        with self._lock() as (store, now):
            grants = {}
            for key, (wanted, limit) in wants.items():
                bucket = store.buckets.get(key) or Bucket.full(limit, now)
                store.buckets[key], grants[key] = bucket.take(wanted, limit, now)
            return grants

    def give_back(self, unused: Wants) -> None:
        with self._lock() as (store, now):
            for key, (count, limit) in unused.items():
                bucket = store.buckets.get(key) or Bucket.full(limit, now)
                store.buckets[key] = bucket.put_back(count, limit, now)


class MemoryCircuitBreaker(_Door):
    """``CircuitBreaker`` as plain Python."""

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        with self._lock() as (store, now):
            answers = {}
            for task, options in tasks.items():
                breaker, _ = store.breakers.get(task, (Breaker(), options))
                breaker, answers[task] = breaker.admit(options, now)
                store.breakers[task] = breaker, options
            return answers

    def withdraw(self, task_names: Sequence[str]) -> None:
        with self._lock() as (store, _):
            for task in task_names:
                if task in store.breakers:
                    breaker, options = store.breakers[task]
                    store.breakers[task] = breaker.withdraw(), options

    def record(self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]) -> None:
        with self._lock() as (store, now):
            for task, (seen, options) in outcomes.items():
                breaker, _ = store.breakers.get(task, (Breaker(), options))
                for succeeded in seen:
                    breaker = breaker.record(succeeded, options, now)
                store.breakers[task] = breaker, options

    def read(self) -> list[BreakerRecord]:
        with self._lock() as (store, _):
            return [
                BreakerRecord(
                    task,
                    breaker.state,
                    len(breaker.failures),
                    breaker.opened_at,
                    options.threshold,
                    options.window,
                    options.cooldown,
                )
                for task, (breaker, options) in sorted(store.breakers.items())
            ]

    def reset(self, task_name: str) -> bool:
        with self._lock() as (store, _):
            if task_name not in store.breakers:
                return False
            store.breakers[task_name] = Breaker(), store.breakers[task_name][1]
            return True
