"""The rate limiter, and what it and the circuit breaker do when the server is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from conftest import WaitUntil
from taskito_core import BreakerOptions, RateLimit, StorageUnavailable
from taskito_postgres.circuit_breaker import PostgresCircuitBreaker
from taskito_postgres.rate_limiter import PostgresRateLimiter
from tools.private_postgres import Server

from .conftest import OpenKeeper
from .locks import someone_is_blocked

SLOW = RateLimit(rate=0.001, burst=10)
OPTIONS = BreakerOptions(threshold=3)


def test_two_schemas_never_see_each_others_limits_and_breakers(
    postgres_url: str, open_keeper: OpenKeeper
) -> None:
    mine, yours = (open_keeper(PostgresRateLimiter, postgres_url, schema=name) for name in ("mine", "yours"))
    ours, theirs = (
        open_keeper(PostgresCircuitBreaker, postgres_url, schema=name) for name in ("mine", "yours")
    )
    mine.acquire({"key": (10, SLOW)})
    ours.record({"task": ((False,) * 3, OPTIONS)})

    assert yours.acquire({"key": (10, SLOW)})["key"].granted == 10
    assert theirs.read() == []


def test_neither_limits_nor_breakers_are_found_by_reading_a_table_through(
    postgres_url: str, open_keeper: OpenKeeper, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    def scans() -> dict[str, tuple[int, int]]:
        found = database.execute(
            "SELECT relname, idx_scan, seq_scan FROM pg_stat_user_tables"
            " WHERE relname IN ('rate_limits', 'circuit_breakers')"
        )
        return {name: (by_index, through) for name, by_index, through in found}

    def use(expected: int) -> dict[str, int]:
        """Use both; how often each table has been read through so far."""
        limiter = open_keeper(PostgresRateLimiter, postgres_url)
        breaker = open_keeper(PostgresCircuitBreaker, postgres_url)
        for name in ("a", "b", "a"):
            limiter.acquire({name: (1, SLOW)})
            limiter.give_back({name: (1, SLOW)})
            breaker.record({name: ((False,), OPTIONS)})
            breaker.admit({name: OPTIONS})
        limiter.close()
        breaker.close()
        # The server counts what a session did when the session has ended.
        wait_until(lambda: all(by_index >= expected for by_index, _ in scans().values()))
        return {name: through for name, (_, through) in scans().items()}

    # Migrating reads the new tables once.
    assert use(6) == use(12)


def test_a_bucket_that_another_worker_has_locked_is_waited_for_and_then_read_anew(
    postgres_url: str, open_keeper: OpenKeeper, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    limiter = open_keeper(PostgresRateLimiter, postgres_url)
    limiter.acquire({"key": (4, SLOW)})

    with ThreadPoolExecutor(1) as thread:
        with database.transaction():
            database.execute("UPDATE taskito.rate_limits SET tokens = 1.5 WHERE key = 'key'")
            waiting = thread.submit(limiter.acquire, {"key": (6, SLOW)})
            wait_until(lambda: someone_is_blocked(database))
        assert waiting.result(30)["key"].granted == 1


def test_a_bucket_is_never_refilled_for_the_time_of_a_wait_for_its_lock(
    postgres_url: str, open_keeper: OpenKeeper, database: psycopg.Connection[Any], wait_until: WaitUntil
) -> None:
    limiter, limit = open_keeper(PostgresRateLimiter, postgres_url), RateLimit(rate=0.001, burst=1000)
    limiter.acquire({"key": (1000, limit)})

    with ThreadPoolExecutor(1) as thread:
        with database.transaction():
            # The limiter that waits came before this moment, and must not take the bucket back behind it.
            database.execute("SELECT 1 FROM taskito.rate_limits WHERE key = 'key' FOR UPDATE")
            waiting = thread.submit(limiter.acquire, {"key": (0, limit)})
            wait_until(lambda: someone_is_blocked(database))
            [(moment,)] = database.execute(
                "UPDATE taskito.rate_limits"
                " SET refilled_at = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
                " WHERE key = 'key' RETURNING refilled_at"
            ).fetchall()
        waiting.result(30)

    [(refilled_at,)] = database.execute("SELECT refilled_at FROM taskito.rate_limits").fetchall()
    assert refilled_at >= moment


@pytest.mark.parametrize("kind", [PostgresRateLimiter, PostgresCircuitBreaker])
def test_after_an_outage_the_same_object_goes_on(
    private_server: Server, open_keeper: OpenKeeper, kind: type, wait_until: WaitUntil
) -> None:
    url = private_server.new_database("limits")
    keeper = open_keeper(kind, url)

    def ask() -> object:
        if isinstance(keeper, PostgresRateLimiter):
            return keeper.acquire({"key": (3, SLOW)})["key"].granted
        return keeper.admit({"task": OPTIONS})["task"].admitted

    assert ask()
    private_server.stop()
    with pytest.raises(StorageUnavailable):
        ask()
    private_server.start()

    assert ask()


@pytest.mark.parametrize("kind", [PostgresRateLimiter, PostgresCircuitBreaker])
def test_a_server_that_was_restarted_in_between_is_not_noticed(
    private_server: Server, open_keeper: OpenKeeper, kind: type
) -> None:
    keeper = open_keeper(kind, private_server.new_database("limits"))
    acquire = {"key": (1, SLOW)}
    for restart in (False, True):
        if restart:
            private_server.stop()
            private_server.start()
        if isinstance(keeper, PostgresRateLimiter):
            assert keeper.acquire(acquire)["key"].granted == 1
        else:
            assert keeper.admit({"task": OPTIONS})["task"].admitted
