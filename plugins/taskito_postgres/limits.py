"""Rate limiter and circuit breaker in the database, shared by every worker that uses the schema.

A row is locked while it changes, rows in the order of their keys, so that batches cannot deadlock.
"""

from __future__ import annotations

import json
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
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.base import Base
from taskito_postgres.session import Parameters, Session
from taskito_postgres.sql import NOW

T = TypeVar("T")
Run = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]

OPEN_BUCKETS = f"""
-- A key that was never asked for has a full bucket.
INSERT INTO taskito.rate_limits (key, tokens, rate, burst, refilled_at)
SELECT n.key, n.burst, n.rate, n.burst, {NOW}
  FROM unnest(%(keys)b, %(rates)b, %(bursts)b) AS n(key, rate, burst)
    ON CONFLICT (key) DO NOTHING
"""

LOCK_BUCKETS = """
-- The clock is read after the locks were taken: it never goes back from one who changes a row to the next.
SELECT r.key, r.tokens, r.refilled_at FROM taskito.rate_limits r
 WHERE r.key = ANY (%(keys)b) ORDER BY r.key FOR UPDATE
"""

KEEP_BUCKETS = """
UPDATE taskito.rate_limits r
   SET tokens = n.tokens, rate = n.rate, burst = n.burst, refilled_at = n.refilled_at
  FROM unnest(%(keys)b, %(tokens)b, %(rates)b, %(bursts)b, %(moments)b)
       AS n(key, tokens, rate, burst, refilled_at)
 WHERE r.key = n.key
"""

CLOCK = f"SELECT {NOW}"

OPEN_BREAKERS = """
INSERT INTO taskito.circuit_breakers (task_name, threshold, "window", cooldown)
SELECT n.task, n.threshold, n.span, n.cooldown
  FROM unnest(%(tasks)b, %(thresholds)b, %(windows)b, %(cooldowns)b) AS n(task, threshold, span, cooldown)
    ON CONFLICT (task_name) DO NOTHING
"""

LOCK_BREAKERS = """
SELECT b.task_name, b.state, b.failed_at, b.opened_at, b.probe_at FROM taskito.circuit_breakers b
 WHERE b.task_name = ANY (%(tasks)b) ORDER BY b.task_name FOR UPDATE
"""

KEEP_BREAKERS = """
UPDATE taskito.circuit_breakers b
   SET state = n.state, failed_at = n.failed_at, failures = n.failures, opened_at = n.opened_at,
       probe_at = n.probe_at, threshold = n.threshold, "window" = n.span, cooldown = n.cooldown
  FROM unnest(%(tasks)b, %(states)b, %(failed)b, %(failures)b, %(opened)b, %(probes)b, %(thresholds)b,
              %(windows)b, %(cooldowns)b)
       AS n(task, state, failed_at, failures, opened_at, probe_at, threshold, span, cooldown)
 WHERE b.task_name = n.task
"""

WITHDRAW = """
UPDATE taskito.circuit_breakers SET probe_at = NULL
 WHERE state = 'half_open' AND task_name = ANY (%(tasks)b)
"""

READ = """
SELECT task_name, state, failures, opened_at, threshold, "window", cooldown
  FROM taskito.circuit_breakers ORDER BY task_name
"""

RESET = """
UPDATE taskito.circuit_breakers
   SET state = 'closed', failures = 0, failed_at = '[]', opened_at = NULL, probe_at = NULL
 WHERE task_name = %(task)b RETURNING task_name
"""


class _Door(Base):
    """Connections of its own, opened by the first call."""

    def close(self) -> None:
        if self._connections.is_mine:
            self._ringer.close()
            self._connections.close()

    def _change(self, doing: str, work: Callable[[Run, int], T], lock: Callable[[Run], object]) -> T:
        """Lock rows, read the clock, change them; in one transaction that need not survive a power cut."""

        def transaction(session: Session) -> T:
            run = session.runner(self._statements)
            with session.transaction():
                session.connection.execute(b"SET LOCAL synchronous_commit = off")
                lock(run)
                [(now,)] = run(CLOCK, {"shift": self.clock_shift})
                return work(run, now)

        return self._connections.on_worker(doing, transaction)

    def _read(self, doing: str, statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        text = self._statements[statement]
        return self._connections.on_worker(doing, lambda session: session.rows(text, parameters))


class PostgresRateLimiter(_Door):
    """``RateLimiter`` of the core."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        grants: dict[str, Grant] = {}

        def take(bucket: Bucket, count: int, limit: RateLimit, key: str, now: int) -> Bucket:
            bucket, grants[key] = bucket.take(count, limit, now)
            return bucket

        self._turn("take tokens", wants, take)
        return grants

    def give_back(self, unused: Wants) -> None:
        def put(bucket: Bucket, count: int, limit: RateLimit, key: str, now: int) -> Bucket:
            return bucket.put_back(count, limit, now)

        self._turn("give tokens back", unused, put)

    def _turn(
        self, doing: str, wants: Wants, step: Callable[[Bucket, int, RateLimit, str, int], Bucket]
    ) -> None:
        keys = sorted(wants)
        limits = [wants[key][1] for key in keys]
        named = {
            "keys": Texts(keys),
            "rates": Doubles(limit.rate for limit in limits),
            "bursts": Bigints(limit.burst for limit in limits),
            "shift": self.clock_shift,
        }
        found: dict[str, Bucket] = {}

        def lock(run: Run) -> None:
            run(OPEN_BUCKETS, named)
            found.update({key: Bucket(tokens, at) for key, tokens, at in run(LOCK_BUCKETS, named)})

        def work(run: Run, now: int) -> None:
            changed = [step(found[key], *wants[key], key, now) for key in keys]
            kept = {
                "tokens": Doubles(bucket.tokens for bucket in changed),
                "moments": Bigints(bucket.updated_at for bucket in changed),
            }
            run(KEEP_BUCKETS, named | kept)

        if keys:
            self._change(doing, work, lock)


class PostgresCircuitBreaker(_Door):
    """``CircuitBreaker`` of the core."""

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        answers: dict[str, Admission] = {}

        def step(breaker: Breaker, task: str, now: int) -> Breaker:
            breaker, answers[task] = breaker.admit(tasks[task], now)
            return breaker

        self._turn("ask circuit breakers", tasks, step)
        return answers

    def record(self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]) -> None:
        options = {task: one for task, (_, one) in outcomes.items()}

        def step(breaker: Breaker, task: str, now: int) -> Breaker:
            for succeeded in outcomes[task][0]:
                breaker = breaker.record(succeeded, options[task], now)
            return breaker

        self._turn("tell circuit breakers", options, step)

    def withdraw(self, task_names: Sequence[str]) -> None:
        self._read("withdraw probes", WITHDRAW, {"tasks": Texts(task_names)})

    def read(self) -> list[BreakerRecord]:
        return [
            BreakerRecord(task, BreakerState(state), *rest)
            for task, state, *rest in self._read("read circuit breakers", READ, {})
        ]

    def reset(self, task_name: str) -> bool:
        return bool(self._read("reset a circuit breaker", RESET, {"task": task_name}))

    def _turn(
        self, doing: str, tasks: Mapping[str, BreakerOptions], step: Callable[[Breaker, str, int], Breaker]
    ) -> None:
        names = sorted(tasks)
        named = {
            "tasks": Texts(names),
            "thresholds": Bigints(tasks[name].threshold for name in names),
            "windows": Doubles(tasks[name].window for name in names),
            "cooldowns": Doubles(tasks[name].cooldown for name in names),
        }
        found: dict[str, Breaker] = {}

        def lock(run: Run) -> None:
            run(OPEN_BREAKERS, named)
            for task, state, failed, opened_at, probe_at in run(LOCK_BREAKERS, named):
                found[task] = Breaker(BreakerState(state), tuple(json.loads(failed)), opened_at, probe_at)

        def work(run: Run, now: int) -> None:
            changed = [step(found[name], name, now) for name in names]
            kept = {
                "states": Texts(breaker.state.value for breaker in changed),
                "failed": Texts(json.dumps(breaker.failures) for breaker in changed),
                "failures": Bigints(len(breaker.failures) for breaker in changed),
                "opened": Bigints(breaker.opened_at for breaker in changed),
                "probes": Bigints(breaker.probe_at for breaker in changed),
            }
            run(KEEP_BREAKERS, named | kept)

        if names:
            self._change(doing, work, lock)
