"""The rate limiter in a file: that it goes on where it could not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskito_core import RateLimit, StorageConfig, StorageUnavailable
from taskito_sqlite.rate_limiter import SqliteRateLimiter

SLOW = RateLimit(rate=0.001, burst=10)


def test_a_file_that_could_not_be_opened_is_opened_as_soon_as_it_can(sqlite_path: Path) -> None:
    limiter = SqliteRateLimiter(StorageConfig(db_path=str(sqlite_path)))
    sqlite_path.symlink_to(sqlite_path)
    with pytest.raises(StorageUnavailable):
        limiter.acquire({"key": (1, SLOW)})
    sqlite_path.unlink()

    assert limiter.acquire({"key": (1, SLOW)})["key"].granted == 1
    limiter.close()
