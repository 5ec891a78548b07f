"""Limits in a file: what they write, and that they go on where they could not before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskito_core import BreakerOptions, RateLimit, StorageConfig, StorageUnavailable
from taskito_sqlite.breakers import SqliteCircuitBreaker
from taskito_sqlite.limits import SqliteRateLimiter

SLOW = RateLimit(rate=0.001, burst=10)
OPTIONS = BreakerOptions(threshold=3)
Open = Callable[[type], Any]


@pytest.fixture
def open_keeper(sqlite_path: Path) -> Iterator[Open]:
    """``open_keeper(kind)``: a limiter or breakers on this test's file, closed after it."""
    opened: list[Any] = []

    def make(kind: type) -> Any:
        opened.append(kind(StorageConfig(db_path=str(sqlite_path))))
        return opened[-1]

    yield make
    for keeper in opened:
        keeper.close()


def test_as_long_as_all_goes_well_a_breaker_writes_nothing(sqlite_path: Path, open_keeper: Open) -> None:
    breaker = open_keeper(SqliteCircuitBreaker)
    breaker.admit({"task": OPTIONS})
    watching = sqlite3.connect(sqlite_path)
    before = watching.execute("PRAGMA data_version").fetchone()

    for _ in range(3):
        breaker.admit({"task": OPTIONS})
        breaker.record({"task": ((True, True), OPTIONS)})
        breaker.withdraw(["task"])

    after = watching.execute("PRAGMA data_version").fetchone()
    breaker.record({"task": ((False,), OPTIONS)})
    after_a_failure = watching.execute("PRAGMA data_version").fetchone()
    watching.close()
    assert before == after != after_a_failure


@pytest.mark.parametrize("kind", [SqliteRateLimiter, SqliteCircuitBreaker])
def test_a_file_that_could_not_be_opened_is_opened_as_soon_as_it_can(
    sqlite_path: Path, open_keeper: Open, kind: type
) -> None:
    keeper = open_keeper(kind)

    def ask() -> bool:
        if isinstance(keeper, SqliteRateLimiter):
            return keeper.acquire({"key": (1, SLOW)})["key"].granted == 1
        return bool(keeper.admit({"task": OPTIONS})["task"].admitted)

    sqlite_path.mkdir()
    with pytest.raises(StorageUnavailable):
        ask()
    sqlite_path.rmdir()

    assert ask()
