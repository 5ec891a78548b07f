"""Circuit breakers in a file: what they write, and that they go on where they could not before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito_core import BreakerOptions, StorageConfig, StorageUnavailable
from taskito_sqlite.circuit_breaker import SqliteCircuitBreaker

OPTIONS = BreakerOptions(threshold=3)


@pytest.fixture
def breaker(sqlite_path: Path) -> Iterator[SqliteCircuitBreaker]:
    opened = SqliteCircuitBreaker(StorageConfig(db_path=str(sqlite_path)))
    yield opened
    opened.close()


def test_as_long_as_all_goes_well_a_breaker_writes_nothing(
    sqlite_path: Path, breaker: SqliteCircuitBreaker
) -> None:
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


def test_a_file_that_could_not_be_opened_is_opened_as_soon_as_it_can(
    sqlite_path: Path, breaker: SqliteCircuitBreaker
) -> None:
    sqlite_path.symlink_to(sqlite_path)
    with pytest.raises(StorageUnavailable):
        breaker.admit({"task": OPTIONS})
    sqlite_path.unlink()

    assert breaker.admit({"task": OPTIONS})["task"].admitted
