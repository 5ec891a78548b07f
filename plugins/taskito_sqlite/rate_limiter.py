"""The rate limiter in the database file, shared by every worker that uses it.

Each call is one write transaction, and reads the clock inside of it: no other process changes a bucket
meanwhile, and time never goes back from one change to the next.
"""

from __future__ import annotations

import sqlite3

from taskito_core import Bucket, Grant, RateLimit, Wants
from taskito_sqlite.base import Base
from taskito_sqlite.sql import limits as sql


class SqliteRateLimiter(Base):
    """``RateLimiter`` of the core. Writes need not survive a power cut: nothing that it allowed does."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        """As ``RateLimiter.acquire``; all keys in one transaction."""

        def work(connection: sqlite3.Connection) -> dict[str, Grant]:
            now, grants = self.now(), {}
            for key, (wanted, limit) in wants.items():
                bucket, grants[key] = _bucket(connection, key, limit, now).take(wanted, limit, now)
                _put(connection, key, bucket, limit)
            return grants

        return self._write(work, durable=False) if wants else {}

    def give_back(self, unused: Wants) -> None:
        """As ``RateLimiter.give_back``."""

        def work(connection: sqlite3.Connection) -> None:
            now = self.now()
            for key, (count, limit) in unused.items():
                bucket = _bucket(connection, key, limit, now).put_back(count, limit, now)
                _put(connection, key, bucket, limit)

        if unused:
            self._write(work, durable=False)


def _bucket(connection: sqlite3.Connection, key: str, limit: RateLimit, now: int) -> Bucket:
    row = connection.execute(sql.BUCKET, {"key": key}).fetchone()
    return Bucket.full(limit, now) if row is None else Bucket(*row)


def _put(connection: sqlite3.Connection, key: str, bucket: Bucket, limit: RateLimit) -> None:
    values = {"key": key, "rate": limit.rate, "burst": limit.burst, **bucket._asdict()}
    connection.execute(sql.PUT_BUCKET, values)
