"""Rate limiter and circuit breaker in the database file, shared by every worker that uses it.

Each call is one write transaction: nobody else changes a bucket or a breaker meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from taskito_core import (
    Admission,
    Breaker,
    BreakerOptions,
    BreakerRecord,
    BreakerState,
    Bucket,
    Grant,
    RateLimit,
    Wants,
)
from taskito_sqlite.base import Base

T = TypeVar("T")

BUCKET = "SELECT tokens, updated_at FROM rate_limits WHERE key = ?1"

KEEP_BUCKET = """
INSERT INTO rate_limits (key, tokens, rate, burst, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, rate = excluded.rate, burst = excluded.burst,
                                updated_at = excluded.updated_at
"""

BREAKER = "SELECT state, failures, opened_at, probe_at FROM circuit_breakers WHERE task_name = ?1"

KEEP_BREAKER = """
INSERT INTO circuit_breakers (task_name, state, failures, opened_at, probe_at, threshold, "window", cooldown)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (task_name) DO UPDATE SET
  state = excluded.state, failures = excluded.failures, opened_at = excluded.opened_at,
  probe_at = excluded.probe_at, threshold = excluded.threshold, "window" = excluded."window",
  cooldown = excluded.cooldown
"""

BREAKERS = """
SELECT task_name, state, failures, opened_at, threshold, "window", cooldown
  FROM circuit_breakers ORDER BY task_name
"""

WITHDRAW = """
UPDATE circuit_breakers SET probe_at = NULL
 WHERE state = 'half_open' AND task_name IN (SELECT value FROM json_each(?1))
"""

RESET = """
UPDATE circuit_breakers SET state = 'closed', failures = '[]', opened_at = NULL, probe_at = NULL
 WHERE task_name = ?1
"""


class _Door(Base):
    """Its own connection to the file, opened by the first call and migrated as the storage's is."""

    def close(self) -> None:
        if not self._database.foreign:
            self._current = False
            self._database.close()

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Not for ever: after a power cut nothing runs that these would have to remember.
        return self._write(work, durable=False)


class SqliteRateLimiter(_Door):
    """``RateLimiter`` of the core."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        def work(connection: sqlite3.Connection) -> dict[str, Grant]:
            now, grants = self.now(), {}
            for key, (wanted, limit) in wants.items():
                bucket, grants[key] = _bucket(connection, key, limit, now).take(wanted, limit, now)
                _keep(connection, key, bucket, limit)
            return grants

        return self._change(work)

    def give_back(self, unused: Wants) -> None:
        def work(connection: sqlite3.Connection) -> None:
            now = self.now()
            for key, (count, limit) in unused.items():
                bucket = _bucket(connection, key, limit, now).put_back(count, limit, now)
                _keep(connection, key, bucket, limit)

        self._change(work)


class SqliteCircuitBreaker(_Door):
    """``CircuitBreaker`` of the core."""

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        def work(connection: sqlite3.Connection) -> dict[str, Admission]:
            now, answers = self.now(), {}
            for task, options in tasks.items():
                breaker, answers[task] = _breaker(connection, task).admit(options, now)
                _keep_breaker(connection, task, breaker, options)
            return answers

        return self._change(work)

    def withdraw(self, task_names: Sequence[str]) -> None:
        names = json.dumps(list(task_names))
        self._change(lambda connection: connection.execute(WITHDRAW, (names,)))

    def record(self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            now = self.now()
            for task, (seen, options) in outcomes.items():
                breaker = _breaker(connection, task)
                for succeeded in seen:
                    breaker = breaker.record(succeeded, options, now)
                _keep_breaker(connection, task, breaker, options)

        self._change(work)

    def read(self) -> list[BreakerRecord]:
        def work(connection: sqlite3.Connection) -> list[BreakerRecord]:
            return [
                BreakerRecord(task, BreakerState(state), len(json.loads(failures)), *rest)
                for task, state, failures, *rest in connection.execute(BREAKERS)
            ]

        return self._read(work)

    def reset(self, task_name: str) -> bool:
        return self._change(lambda connection: connection.execute(RESET, (task_name,)).rowcount == 1)


def _bucket(connection: sqlite3.Connection, key: str, limit: RateLimit, now: int) -> Bucket:
    row = connection.execute(BUCKET, (key,)).fetchone()
    return Bucket.full(limit, now) if row is None else Bucket(*row)


def _keep(connection: sqlite3.Connection, key: str, bucket: Bucket, limit: RateLimit) -> None:
    connection.execute(KEEP_BUCKET, (key, bucket.tokens, limit.rate, limit.burst, bucket.updated_at))


def _breaker(connection: sqlite3.Connection, task: str) -> Breaker:
    row: tuple[Any, ...] | None = connection.execute(BREAKER, (task,)).fetchone()
    if row is None:
        return Breaker()
    state, failures, opened_at, probe_at = row
    return Breaker(BreakerState(state), tuple(json.loads(failures)), opened_at, probe_at)


def _keep_breaker(
    connection: sqlite3.Connection, task: str, breaker: Breaker, options: BreakerOptions
) -> None:
    state = (breaker.state, json.dumps(breaker.failures), breaker.opened_at, breaker.probe_at)
    connection.execute(KEEP_BREAKER, (task, *state, options.threshold, options.window, options.cooldown))
