"""Rate limiter and circuit breakers in the memory of one process, beside the store of the same name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskito_core.breaker import Breaker, Probes
from taskito_core.bucket import Bucket
from taskito_core.limits import Admission, BreakerOptions, BreakerRecord, BreakerState, Grant, Wants
from taskito_core.memory.access import MemoryAccess
from taskito_core.storage import StorageConfig


class _Door(MemoryAccess):
    """The store that a config names, its lock and its clock."""

    def close(self) -> None:
        """Nothing is open."""


class MemoryRateLimiter(_Door):
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


class MemoryCircuitBreaker(_Door):
    """``CircuitBreaker`` as plain Python."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._probes = Probes()

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        with self._lock() as store:
            now, answers = self.now(), {}
            for task, options in tasks.items():
                breaker, _ = store.breakers.get(task, (Breaker(), options))
                breaker, answers[task] = breaker.admit(options, now)
                store.breakers[task] = breaker, options
                self._probes.admitted(task, answers[task], breaker)
            return answers

    def withdraw(self, task_names: Sequence[str]) -> None:
        with self._lock() as store:
            for task in task_names:
                if task in store.breakers:
                    breaker, options = store.breakers[task]
                    breaker = breaker.withdraw(self._probes.get(task))
                    store.breakers[task] = breaker, options
                    self._probes.stored(task, breaker)

    def record(
        self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]
    ) -> dict[str, BreakerState]:
        with self._lock() as store:
            now, states = self.now(), {}
            for task, (successes, options) in outcomes.items():
                breaker, _ = store.breakers.get(task, (Breaker(), options))
                breaker = breaker.record(successes, options, now, self._probes.get(task))
                store.breakers[task] = breaker, options
                self._probes.stored(task, breaker)
                states[task] = breaker.state
            return states

    def read(self) -> list[BreakerRecord]:
        with self._lock() as store:
            now = self.now()
            return [
                breaker.report(task, options, now)
                for task, (breaker, options) in sorted(store.breakers.items())
            ]

    def reset(self, task_name: str) -> bool:
        with self._lock() as store:
            if task_name not in store.breakers:
                return False
            store.breakers[task_name] = Breaker(), store.breakers[task_name][1]
            return True
