"""The rate limiter in the database file, shared by every worker that uses it.

Each call is one write transaction, and reads the clock inside of it: nobody else changes a bucket
meanwhile, and time never goes back from one who changes it to the next.
"""

from __future__ import annotations

import sqlite3

from taskito_core import Bucket, Grant, RateLimit, Wants
from taskito_sqlite.door import Door

BUCKET = """
-- The bucket of one key.
SELECT tokens, updated_at FROM rate_limits WHERE key = ?1
"""

KEEP_BUCKET = """
-- Store the bucket of one key; rate and burst are there for people who look.
INSERT INTO rate_limits (key, tokens, rate, burst, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, rate = excluded.rate, burst = excluded.burst,
                                updated_at = excluded.updated_at
"""

#: What runs for every claim of a limited task: a test forbids these to scan a table.
HOT = ("BUCKET", "KEEP_BUCKET")


class SqliteRateLimiter(Door):
    """``RateLimiter`` of the core."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        """As ``RateLimiter.acquire``; all keys in one transaction."""

        def work(connection: sqlite3.Connection) -> dict[str, Grant]:
            now, grants = self.now(), {}
            for key, (wanted, limit) in wants.items():
                bucket, grants[key] = _bucket(connection, key, limit, now).take(wanted, limit, now)
                _keep(connection, key, bucket, limit)
            return grants

        return self._change(work) if wants else {}

    def give_back(self, unused: Wants) -> None:
        """As ``RateLimiter.give_back``."""

        def work(connection: sqlite3.Connection) -> None:
            now = self.now()
            for key, (count, limit) in unused.items():
                bucket = _bucket(connection, key, limit, now).put_back(count, limit, now)
                _keep(connection, key, bucket, limit)

        if unused:
            self._change(work)


def _bucket(connection: sqlite3.Connection, key: str, limit: RateLimit, now: int) -> Bucket:
    row = connection.execute(BUCKET, (key,)).fetchone()
    return Bucket.full(limit, now) if row is None else Bucket(*row)


def _keep(connection: sqlite3.Connection, key: str, bucket: Bucket, limit: RateLimit) -> None:
    connection.execute(KEEP_BUCKET, (key, bucket.tokens, limit.rate, limit.burst, bucket.refilled_at))
