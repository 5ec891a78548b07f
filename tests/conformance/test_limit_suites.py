"""The suites of limiters and breakers notice those that break the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from taskito_core.job import new_id
from taskito_core.limits import Admission, BreakerOptions, BreakerState, Grant, RateLimit, Wants
from taskito_core.storage import StorageConfig
from taskito_kv.store import forget
from taskito_testing import (
    CircuitBreakerConformance,
    MemoryCircuitBreaker,
    MemoryRateLimiter,
    RateLimiterConformance,
)

Outcomes = Mapping[str, tuple[Sequence[bool], BreakerOptions]]


class _AllOrNothing(MemoryRateLimiter):
    def acquire(self, wants: Wants) -> dict[str, Grant]:
        grants = super().acquire(wants)
        short = {key: (grant.granted, wants[key][1]) for key, grant in grants.items() if grant.retry_after}
        self.give_back(short)
        return {key: Grant(0, 1.0) if key in short else grant for key, grant in grants.items()}


class _OverflowsOnReturn(MemoryRateLimiter):
    def give_back(self, unused: Wants) -> None:
        super().give_back({key: (n, RateLimit(limit.rate, 10**6)) for key, (n, limit) in unused.items()})

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        return super().acquire({key: (n, RateLimit(limit.rate, 10**6)) for key, (n, limit) in wants.items()})


class _KeepsTheFirstLimit(MemoryRateLimiter):
    """Goes on with the limit that a key was first asked for with."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._first: dict[str, RateLimit] = {}

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        return super().acquire(
            {key: (n, self._first.setdefault(key, limit)) for key, (n, limit) in wants.items()}
        )


class _OneBucketForAll(MemoryRateLimiter):
    def acquire(self, wants: Wants) -> dict[str, Grant]:
        return {key: super(_OneBucketForAll, self).acquire({"": want})[""] for key, want in wants.items()}


class _SuccessForgives(MemoryCircuitBreaker):
    """Counts failures in a row."""

    def record(self, outcomes: Outcomes) -> dict[str, BreakerState]:
        for task, (successes, _) in outcomes.items():
            if any(successes) and self.read() and self.read()[0].state is BreakerState.CLOSED:
                self.reset(task)
        return super().record(outcomes)


class _LetsEverybodyProbe(MemoryCircuitBreaker):
    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        return {
            task: Admission(True, one.state, 0.0) if one.state is BreakerState.HALF_OPEN else one
            for task, one in super().admit(tasks).items()
        }


class _WithdrawsForOthers(MemoryCircuitBreaker):
    def withdraw(self, task_names: Sequence[str]) -> None:
        with self._lock() as store:
            for task in task_names:
                if task in store.breakers:
                    breaker, options = store.breakers[task]
                    store.breakers[task] = breaker.withdraw(breaker.probe_at), options


class _HearsEverybody(MemoryCircuitBreaker):
    """Takes any outcome for the probe's."""

    def record(self, outcomes: Outcomes) -> dict[str, BreakerState]:
        with self._lock() as store:
            for task, (breaker, _) in store.breakers.items():
                self._probes.admitted(task, Admission(True, breaker.state, 0.0), breaker)
        return super().record(outcomes)


_BROKEN: list[tuple[type, type, str]] = [
    (
        RateLimiterConformance,
        _AllOrNothing,
        "test_of_ten_tokens_three_takers_of_seven_get_seven_three_and_none",
    ),
    (
        RateLimiterConformance,
        _OverflowsOnReturn,
        "test_what_is_given_back_never_fills_a_bucket_beyond_its_burst",
    ),
    (RateLimiterConformance, _KeepsTheFirstLimit, "test_a_smaller_bucket_spills_at_once"),
    (RateLimiterConformance, _KeepsTheFirstLimit, "test_a_changed_rate_counts_at_once"),
    (
        RateLimiterConformance,
        _KeepsTheFirstLimit,
        "test_random_calls_have_the_answers_of_the_limiter_in_memory",
    ),
    (RateLimiterConformance, _OneBucketForAll, "test_every_key_has_a_bucket_of_its_own"),
    (CircuitBreakerConformance, _SuccessForgives, "test_a_success_in_between_makes_no_difference"),
    (
        CircuitBreakerConformance,
        _LetsEverybodyProbe,
        "test_after_the_cooldown_exactly_one_start_is_let_through",
    ),
    (CircuitBreakerConformance, _WithdrawsForOthers, "test_nobody_withdraws_the_probe_of_another"),
    (
        CircuitBreakerConformance,
        _HearsEverybody,
        "test_what_others_record_while_a_probe_runs_does_not_count",
    ),
]


@pytest.mark.parametrize(("suite", "kind", "test"), _BROKEN)
def test_what_breaks_the_contract_is_noticed(suite: Any, kind: Callable[..., Any], test: str) -> None:
    name = new_id()
    config = StorageConfig(backend="memory", db_url=f"memory://{name}")
    method = getattr(suite(), test)
    arguments: dict[str, Any] = {
        "limiter": kind(config),
        "breaker": kind(config),
        "connect": lambda: kind(config),
        "late": True,
    }
    wanted = method.__code__.co_varnames[1 : method.__code__.co_argcount]

    with pytest.raises(AssertionError):
        method(**{one: arguments[one] for one in wanted})
    forget(name)
