"""Execution time and memory, added up: one row per task, queue and minute."""

from __future__ import annotations

from taskito_postgres.sql.clock import NOW

RECORD = f"""
-- Add tallies to the current minute of their task and queue. A row that is there is added to under its
-- lock, as it is then: of two writers at once the second waits and finds what the first one wrote.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.task_metrics AS m (task_name, queue, minute, succeeded, failed, total_run, shortest_run,
                                       longest_run, total_wait, peak_memory, histogram)
SELECT t.task_name, t.queue, c.now / 60000 * 60000, t.succeeded, t.failed, t.total_run, t.shortest_run,
       t.longest_run, t.total_wait, t.peak_memory, t.histogram
  FROM clock c, unnest(%(task_names)b, %(queues)b, %(succeeded)b, %(failed)b, %(total_run)b, %(shortest_run)b,
                       %(longest_run)b, %(total_wait)b, %(peak_memory)b, %(histograms)b)
       AS t(task_name, queue, succeeded, failed, total_run, shortest_run,
            longest_run, total_wait, peak_memory, histogram)
    ON CONFLICT (task_name, minute, queue) DO UPDATE
   SET succeeded = m.succeeded + excluded.succeeded, failed = m.failed + excluded.failed,
       total_run = m.total_run + excluded.total_run, total_wait = m.total_wait + excluded.total_wait,
       shortest_run = least(m.shortest_run, excluded.shortest_run),
       longest_run = greatest(m.longest_run, excluded.longest_run),
       peak_memory = greatest(m.peak_memory, excluded.peak_memory),
       histogram = (SELECT json_object_agg(both_of.key, both_of.count)::text FROM (
           SELECT one.key, sum(one.value::bigint) AS count
             FROM (SELECT key, value FROM json_each_text(m.histogram::json)
                   UNION ALL
                   SELECT key, value FROM json_each_text(excluded.histogram::json)) AS one
            GROUP BY one.key) AS both_of)
"""

TALLIES = f"""
-- Every row of the minutes that reach into a period, of one task or (NULL) of all.
SELECT task_name, queue, succeeded, failed, total_run, shortest_run, longest_run, total_wait, peak_memory,
       histogram
  FROM taskito.task_metrics
 WHERE minute > (SELECT {NOW} - %(since)b - 60000)
   AND (%(task_name)b::text IS NULL OR task_name = %(task_name)b::text)
"""

TAKE_AHEAD = f"""
-- Minutes that have not begun, because the clock was set back: deleted here and recorded anew.
DELETE FROM taskito.task_metrics WHERE minute > (SELECT {NOW})
RETURNING task_name, queue, succeeded, failed, total_run, shortest_run, longest_run, total_wait, peak_memory,
          histogram
"""

IS_AHEAD = f"""
-- Whether there are such minutes.
SELECT EXISTS (SELECT 1 FROM taskito.task_metrics WHERE minute > (SELECT {NOW}))
"""

FORGET_TALLIES = f"""
-- A subquery, as in TALLIES, because a clock read anew for every row could not be looked up in the index.
DELETE FROM taskito.task_metrics WHERE minute < (
       SELECT {NOW} - (r.metrics * 1000)::bigint FROM taskito.retention r)
"""

HOT = (RECORD, TAKE_AHEAD, IS_AHEAD, FORGET_TALLIES)
