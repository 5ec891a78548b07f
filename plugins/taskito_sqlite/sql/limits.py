"""Token buckets and circuit breakers, each read and stored in one write transaction."""

from __future__ import annotations

BUCKET = """
-- The token bucket of one key.
SELECT tokens, refilled_at FROM rate_limits WHERE key = :key
"""

PUT_BUCKET = """
-- Store the bucket of one key; rate and burst are there for people who read the table.
INSERT INTO rate_limits (key, tokens, rate, burst, refilled_at)
VALUES (:key, :tokens, :rate, :burst, :refilled_at)
ON CONFLICT (key) DO UPDATE SET tokens = excluded.tokens, rate = excluded.rate, burst = excluded.burst,
                                refilled_at = excluded.refilled_at
"""

_BREAKER_COLUMNS = 'task_name, state, failures, opened_at, probe_at, threshold, "window", cooldown'

BREAKERS = f"""
-- The circuit breakers of these tasks, of those that have one.
SELECT {_BREAKER_COLUMNS} FROM circuit_breakers WHERE task_name IN (SELECT value FROM json_each(:tasks))
"""

ALL_BREAKERS = f"""
-- Every circuit breaker, by name.
SELECT {_BREAKER_COLUMNS} FROM circuit_breakers ORDER BY task_name
"""

PUT_BREAKER = f"""
-- Store the circuit breaker of one task.
INSERT INTO circuit_breakers ({_BREAKER_COLUMNS})
VALUES (:task_name, :state, :failures, :opened_at, :probe_at, :threshold, :window, :cooldown)
ON CONFLICT (task_name) DO UPDATE SET
  state = excluded.state, failures = excluded.failures, opened_at = excluded.opened_at,
  probe_at = excluded.probe_at, threshold = excluded.threshold, "window" = excluded."window",
  cooldown = excluded.cooldown
"""

HOT = (BUCKET, PUT_BUCKET, BREAKERS, PUT_BREAKER)
