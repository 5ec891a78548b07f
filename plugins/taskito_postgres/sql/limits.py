"""Token buckets and circuit breakers."""

from __future__ import annotations

from taskito_core import CLOCK_PATIENCE
from taskito_postgres.sql.clock import NOW

ADD_BUCKETS = f"""
-- A key that no job has asked for yet has a full bucket. Sorted by key, as all that touch several of them.
INSERT INTO taskito.rate_limits (key, tokens, rate, burst, refilled_at)
SELECT n.key, n.burst, n.rate, n.burst, {NOW}
  FROM unnest(%(keys)b, %(rates)b, %(bursts)b) AS n(key, rate, burst)
    ON CONFLICT (key) DO NOTHING
"""

TAKE_TOKENS = f"""
-- Take tokens, or give them back: that is taking less than none. First the locks, in the order of the keys.
-- Then the clock, which counting the locked rows makes wait for them: from one that changes a bucket to the
-- next it never goes back, unless it was set. The arithmetic is that of ``Bucket`` in the core.
WITH locked AS MATERIALIZED (
    SELECT r.key, r.tokens, r.refilled_at FROM taskito.rate_limits r
     WHERE r.key = ANY (%(keys)b) ORDER BY r.key FOR UPDATE
), clock AS MATERIALIZED (
    SELECT {NOW} AS now, count(*) FROM locked
), filled AS MATERIALIZED (
    SELECT n.key, n.wanted, n.rate, n.burst,
           CASE WHEN l.refilled_at - c.now BETWEEN 0 AND {CLOCK_PATIENCE}
                THEN l.refilled_at ELSE c.now END AS moment,
           least(n.burst, l.tokens + greatest(0, c.now - l.refilled_at)::float8 / 1000 * n.rate) AS tokens
      FROM unnest(%(keys)b, %(wanted)b, %(rates)b, %(bursts)b) AS n(key, wanted, rate, burst)
      JOIN locked l ON l.key = n.key CROSS JOIN clock c
), taken AS MATERIALIZED (
    SELECT *, least(wanted, floor(tokens)::bigint) AS granted FROM filled
)
UPDATE taskito.rate_limits r
   SET tokens = least(t.burst, t.tokens - t.granted), rate = t.rate, burst = t.burst, refilled_at = t.moment
  FROM taken t WHERE r.key = t.key
RETURNING r.key, t.granted, r.tokens, r.refilled_at
"""

BREAKERS = f"""
-- The breakers of these tasks and the time; NULLs for a task that has none yet.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
SELECT n.task, c.now, b.state, b.failures, b.opened_at, b.probe_at, b.threshold, b."window", b.cooldown
  FROM clock c, unnest(%(tasks)b) AS n(task)
  LEFT JOIN taskito.circuit_breakers b ON b.task_name = n.task
"""

ALL_BREAKERS = f"""
-- BREAKERS of all tasks that have one, by name.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
SELECT b.task_name, c.now, b.state, b.failures, b.opened_at, b.probe_at, b.threshold, b."window", b.cooldown
  FROM clock c, taskito.circuit_breakers b ORDER BY b.task_name
"""

ADD_BREAKERS = """
-- First breakers. A task that has one already has no row in the answer.
INSERT INTO taskito.circuit_breakers (task_name, state, failures, opened_at, probe_at, threshold, "window",
                                      cooldown)
SELECT * FROM unnest(%(tasks)b, %(states)b, %(failures)b, %(opened)b, %(probes)b, %(thresholds)b, %(windows)b,
                     %(cooldowns)b)
    ON CONFLICT (task_name) DO NOTHING
RETURNING task_name
"""

SWAP_BREAKERS = """
-- Compare and swap: the state that was decided about must still be there. One that came back to
-- what it was in between is as good.
UPDATE taskito.circuit_breakers b
   SET state = n.state, failures = n.failures, opened_at = n.opened_at, probe_at = n.probe_at,
       threshold = n.threshold, "window" = n.span, cooldown = n.cooldown
  FROM unnest(%(tasks)b, %(states)b, %(failures)b, %(opened)b, %(probes)b, %(thresholds)b, %(windows)b,
              %(cooldowns)b, %(old_states)b, %(old_failures)b, %(old_opened)b, %(old_probes)b)
       AS n(task, state, failures, opened_at, probe_at, threshold, span, cooldown,
            old_state, old_failures, old_opened_at, old_probe_at)
 WHERE b.task_name = n.task AND b.state = n.old_state AND b.failures = n.old_failures
   AND b.opened_at IS NOT DISTINCT FROM n.old_opened_at AND b.probe_at IS NOT DISTINCT FROM n.old_probe_at
RETURNING b.task_name
"""

HOT = (ADD_BUCKETS, TAKE_TOKENS, BREAKERS, ADD_BREAKERS, SWAP_BREAKERS)
