"""Circuit breakers: what they write."""

from __future__ import annotations

from typing import Any

import psycopg

from taskito_core import BreakerOptions
from taskito_postgres.circuit_breaker import PostgresCircuitBreaker

from .conftest import OpenKeeper

OPTIONS = BreakerOptions(threshold=3)


def rows(database: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Every breaker with the transaction that wrote it."""
    return database.execute("SELECT xmin::text, * FROM taskito.circuit_breakers").fetchall()


def test_as_long_as_all_goes_well_a_breaker_writes_nothing(
    postgres_url: str, open_keeper: OpenKeeper, database: psycopg.Connection[Any]
) -> None:
    breaker = open_keeper(PostgresCircuitBreaker, postgres_url)
    breaker.admit({"task": OPTIONS})
    written = rows(database)

    for _ in range(3):
        breaker.admit({"task": OPTIONS})
        breaker.record({"task": ((True, True), OPTIONS)})
        breaker.withdraw(["task"])

    assert len(written) == 1
    assert rows(database) == written
