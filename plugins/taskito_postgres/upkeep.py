"""The statements of upkeep, one constant each: a worker's life, the rescue of its jobs, and pruning.

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
       SET {CANCELLED}, interruptions = j.interruptions + 1, error = '{ASKED}'
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
    UPDATE taskito.jobs j SET {CANCELLED}, error = '{ASKED}'
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

#: What runs for every beat or every rescue: a test looks at how each is planned, as with those of ``sql``.
HOT = (BEAT, RUNNING, RESCUE, RELEASE_ALL, PRUNE)
