"""The statements of upkeep, one constant each: a worker's life, the rescue of its jobs, pruning, metrics.

``taskito.`` stands for the schema, and no statement may depend on statistics, as in ``sql``.
"""

from __future__ import annotations

from taskito_postgres.sql import CANCELLED, CLOCK, ENDED, NOW

#: The ``error`` of a job that was cancelled because somebody had asked, when its worker had no better words.
ASKED = "cancelled while running"

REGISTER = f"""
INSERT INTO taskito.workers (worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen)
SELECT %(worker)b, %(host)b, %(pid)b, %(app)b, %(queues)b, %(tasks)b, %(procs)b, %(version)b, now, now
  FROM ({CLOCK} AS now) AS clock
"""

BEAT = f"""
UPDATE taskito.workers SET beat = beat + 1, last_seen = {NOW}
 WHERE worker_id = %(worker)b AND status = 'alive' RETURNING beat
"""

PEERS = "SELECT worker_id, beat, host FROM taskito.workers WHERE status = 'alive' AND worker_id <> %(worker)b"

RUNNING = """
SELECT id, token, cancel_force FROM taskito.jobs_live WHERE status = 'running' AND worker = %(worker)b
"""

DECLARE_DEAD = """
-- Compare and swap: a worker whose beat has moved since it was suspected is alive.
UPDATE taskito.workers w SET status = 'dead', waiting = NULL
  FROM unnest(%(ids)b, %(beats)b) AS s(worker_id, beat)
 WHERE w.worker_id = s.worker_id AND w.beat = s.beat AND w.status = 'alive'
"""

RESCUE = f"""
-- Put back what nobody alive runs, and cancel of it what was asked to stop. Rows that are being settled or
-- rescued at this moment are skipped: whoever holds them decides, and the next rescue looks again.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), lost AS MATERIALIZED (
    SELECT j.ctid, j.token, j.worker, j.cancel_force IS NOT NULL AS asked FROM taskito.jobs_live j
     WHERE j.status = 'running'
       AND NOT EXISTS (SELECT 1 FROM taskito.workers w WHERE w.worker_id = j.worker AND w.status = 'alive')
     FOR UPDATE OF j SKIP LOCKED
), hit AS (
    UPDATE taskito.jobs_live j
       SET status = 'pending', token = NULL, interruptions = j.interruptions + 1, expires_at = NULL
      FROM lost l, clock c WHERE j.ctid = l.ctid AND j.token = l.token AND NOT l.asked
    RETURNING j.id, j.queue, l.token, l.worker, j.retry_count + j.crashes + j.interruptions AS attempt, c.now
), stopped AS (
    UPDATE taskito.jobs j
       SET {CANCELLED}, interruptions = j.interruptions + 1, error = '{ASKED}', token = NULL
      FROM lost l, clock c WHERE j.ctid = l.ctid AND j.token = l.token AND l.asked AND NOT j.finished
    RETURNING {ENDED}, l.token, l.worker, j.retry_count + j.crashes + j.interruptions AS attempt, c.now
), noted AS (
    INSERT INTO taskito.job_errors (job_id, token, attempt, failed_at, kind, type, message, worker)
    SELECT h.id, h.token, h.attempt, h.now, 'interrupted', 'WorkerLost',
           'worker ' || coalesce(h.worker, '?') || ' is gone; the job was taken back from it', h.worker
      FROM (SELECT id, token, worker, attempt, now FROM hit
            UNION ALL SELECT id, token, worker, attempt, now FROM stopped) h
        ON CONFLICT (job_id, token) DO NOTHING
)
SELECT id, queue, NULL AS awaited, NULL AS key, NULL AS has_dependants FROM hit
UNION ALL
SELECT s.id, NULL, s.awaited, s.key, s.has_dependants FROM stopped s
"""

RETIRE = """
UPDATE taskito.workers SET status = 'stopped', waiting = NULL WHERE worker_id = %(worker)b
"""

RELEASE_ALL = f"""
-- Hand back what this worker still runs; what was asked to stop is cancelled instead. What another
-- transaction holds, say a task's own after complete_in, is left to the next rescue.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), held AS MATERIALIZED (
    SELECT j.ctid, j.token, j.cancel_force IS NOT NULL AS asked FROM taskito.jobs_live j
     WHERE j.status = 'running' AND j.worker = %(worker)b FOR UPDATE SKIP LOCKED
), released AS (
    UPDATE taskito.jobs_live j SET status = 'pending', token = NULL
      FROM held h WHERE j.ctid = h.ctid AND j.token = h.token AND NOT h.asked RETURNING j.id, j.queue
), stopped AS (
    UPDATE taskito.jobs j SET {CANCELLED}, error = '{ASKED}', token = NULL
      FROM held h, clock c WHERE j.ctid = h.ctid AND j.token = h.token AND h.asked AND NOT j.finished
    RETURNING {ENDED}
)
SELECT id, queue, NULL AS awaited, NULL AS key, NULL AS has_dependants FROM released
UNION ALL
SELECT s.id, NULL, s.awaited, s.key, s.has_dependants FROM stopped s
"""

#: With a finished job d, all that belongs to it. ``over`` holds the ids; parents of live jobs are not in it.
#: A letter whose job is stored no more is enough to be named.
DELETING = """, errors AS (
    DELETE FROM taskito.job_errors WHERE job_id = ANY (ARRAY(SELECT id FROM over))
), letters AS (
    DELETE FROM taskito.dead_letter WHERE job_id = ANY (ARRAY(SELECT id FROM over))
), edges AS (
    DELETE FROM taskito.job_dependencies WHERE job_id = ANY (ARRAY(SELECT id FROM over))
), edges_below AS (
    DELETE FROM taskito.job_dependencies WHERE parent_id = ANY (ARRAY(SELECT id FROM over))
       AND job_id <> ALL (ARRAY(SELECT id FROM over))
), replays AS (
    DELETE FROM taskito.replay_history WHERE job_id = ANY (ARRAY(SELECT id FROM over))
), logs AS (
    DELETE FROM taskito.task_logs WHERE job_id = ANY (ARRAY(SELECT id FROM over))
), rows AS (
    DELETE FROM taskito.jobs_done WHERE id = ANY (ARRAY(SELECT id FROM over))
)
SELECT id FROM over
"""

#: Condition for a finished job d: no live job depends on it.
UNNEEDED = """(
       SELECT true FROM taskito.job_dependencies e
        CROSS JOIN LATERAL (SELECT 1 FROM taskito.jobs_live l WHERE l.id = e.job_id LIMIT 1) l
        WHERE e.parent_id = d.id LIMIT 1) IS NULL"""

PRUNE = f"""
-- Delete finished jobs whose time is over, oldest first, with what belongs to them.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), over AS MATERIALIZED (
    SELECT d.id FROM taskito.jobs_done d
     WHERE d.prune_at <= (SELECT now FROM clock) AND {UNNEEDED}
     ORDER BY d.prune_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED
){DELETING}"""

FORGET_WORKERS = f"""
-- Only those declared dead or stopped: one that still counts as alive must be seen, to be rescued.
DELETE FROM taskito.workers WHERE status <> 'alive' AND last_seen < {NOW} - 86400000
"""

# ---- metrics ----

RECORD = f"""
-- Add tallies to the current minute of their task and queue. A row that is there is added to under its
-- lock, as it is then: of two writers at once the second waits and finds what the first one wrote.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.task_metrics AS m (task_name, queue, bucket, succeeded, failed, total_run, shortest_run,
                                       longest_run, total_wait, peak_memory, histogram)
SELECT t.task_name, t.queue, c.now / 60000 * 60000, t.succeeded, t.failed, t.total_run, t.shortest_run,
       t.longest_run, t.total_wait, t.peak_memory, t.histogram
  FROM clock c, unnest(%(task_names)b, %(queues)b, %(succeeded)b, %(failed)b, %(total_run)b, %(shortest_run)b,
                       %(longest_run)b, %(total_wait)b, %(peak_memory)b, %(histograms)b)
       AS t(task_name, queue, succeeded, failed, total_run, shortest_run,
            longest_run, total_wait, peak_memory, histogram)
    ON CONFLICT (task_name, bucket, queue) DO UPDATE
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
 WHERE bucket > (SELECT {NOW} - %(since)b - 60000)
   AND (%(task_name)b::text IS NULL OR task_name = %(task_name)b::text)
"""

FORGET_TALLIES = f"""
-- A subquery, as in TALLIES, because a clock read anew for every row could not be looked up in the index.
DELETE FROM taskito.task_metrics WHERE bucket < (SELECT {NOW} - %(kept)b)
"""

#: What runs for every beat or every rescue: a test looks at how each is planned, as with those of ``sql``.
HOT = (BEAT, RUNNING, RESCUE, RELEASE_ALL, PRUNE, RECORD, FORGET_TALLIES)
