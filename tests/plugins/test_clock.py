"""Limits beside the jobs, after the store's clock was set back: the sweep of the jobs sees to them, too."""

from __future__ import annotations

import pytest

from taskito_core.limits import BreakerOptions, BreakerState, RateLimit
from taskito_core.storage import Storage
from taskito_testing import open_storage
from taskito_testing.factories import make_worker
from taskito_testing.opening import open_breaker, open_limiter
from tools.private_postgres import Server

OPTIONS = BreakerOptions(threshold=1, window=600.0, cooldown=300.0)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, postgres_server: Server) -> str:
    if request.param == "memory":
        return f"memory://clock-{id(request)}"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def set_back(storage: Storage, before: int, after: int) -> None:
    """The store's clock was ahead by so much, and is by so much."""
    worker = make_worker()
    storage.clock_shift = before
    storage.register(worker)
    storage.heartbeat(worker.id, [])
    storage.clock_shift = after
    storage.heartbeat(worker.id, [])
    assert abs(storage.sweep(100).set_back - (before - after)) < 10_000


def test_a_bucket_fills_again_at_once_and_by_no_more_than_time_has_passed(url: str) -> None:
    storage, limiter = open_storage(url), open_limiter(url)
    storage.migrate()
    limit = RateLimit(rate=0.1, burst=10)
    limiter.clock_shift = 30_000  # less than a bucket waits for by itself
    assert limiter.acquire({"key": (10, limit)})["key"].granted == 10
    limiter.clock_shift = 0

    set_back(storage, 30_000, 0)
    granted = []
    for limiter.clock_shift in (0, 25_000):
        granted.append(limiter.acquire({"key": (10, limit)})["key"].granted)

    assert granted == [0, 2]
    limiter.close()
    storage.close()


def test_a_breaker_stays_open_for_what_is_left_of_its_cool_down(url: str) -> None:
    storage, breaker = open_storage(url), open_breaker(url)
    storage.migrate()
    breaker.clock_shift = 600_000
    assert breaker.record({"task": ([False], OPTIONS)}) == {"task": BreakerState.OPEN}

    # After 100 s the clock is set back by 600 s.
    set_back(storage, 700_000, 100_000)

    breaker.clock_shift = 100_000
    assert 180 < breaker.admit({"task": OPTIONS})["task"].retry_after <= 200
    breaker.close()
    storage.close()
