"""A worker's life, and what becomes of the jobs of one that is gone."""

from __future__ import annotations

from taskito_core import messages
from taskito_postgres.sql.clock import NOW
from taskito_postgres.sql.settle import CANCELLED, ENDED

#: Milliseconds for which a worker that stopped or died is remembered.
WORKERS_KEPT = 86_400_000

REGISTER = f"""
-- A new worker, alive. An id that is there already is an error.
INSERT INTO taskito.workers (worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen)
SELECT %(worker)b, %(host)b, %(pid)b, %(app)b, %(queues)b, %(tasks)b, %(procs)b, %(version)b, c.now, c.now
  FROM (SELECT {NOW} AS now) AS c
"""

HEARTBEAT = f"""
-- No row: the worker was declared dead, or has stopped.
UPDATE taskito.workers SET beat = beat + 1, last_seen = {NOW}
 WHERE worker_id = %(worker)b AND status = 'alive' RETURNING beat
"""

PEERS = """
-- The other workers that count as alive, and how far their beats are.
SELECT worker_id, beat, host FROM taskito.workers WHERE status = 'alive' AND worker_id <> %(worker)b
"""

RUNNING = """
-- What this worker runs, as the store knows it, and which of it was asked to cancel (NULL: not).
SELECT id, token, cancel_force FROM taskito.jobs_live WHERE status = 'running' AND worker = %(worker)b
"""

WAITS_FOR = """
-- What this session waits for, since when it does what it does, and for how many seconds.
SELECT wait_event, state_change, extract(epoch FROM clock_timestamp() - state_change)::float8,
       current_setting('synchronous_standby_names')
  FROM pg_stat_activity WHERE pid = %(pid)b AND state = 'active' AND wait_event IS NOT NULL
"""

DECLARE_DEAD = """
-- Compare and swap: a worker whose beat has moved since it was suspected is alive.
UPDATE taskito.workers w SET status = 'dead', waiting = NULL
  FROM unnest(%(ids)b, %(beats)b) AS s(worker_id, beat)
 WHERE w.worker_id = s.worker_id AND w.beat = s.beat AND w.status = 'alive'
"""

RESCUE = f"""
-- Put back what no live worker runs, and cancel of it what was asked to cancel. Rows that are being settled
-- or rescued at this moment are skipped: the transaction that holds them decides, and the next rescue looks
-- again. Rows (id, queue, ...): put back; (id, NULL, what the cascade needs): cancelled.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), lost AS MATERIALIZED (
    SELECT j.ctid, j.token, j.worker, j.cancel_force IS NOT NULL AS asked,
           {messages.as_sql(messages.WORKER_LOST, worker="coalesce(j.worker, '?')")} AS message
      FROM taskito.jobs_live j
     WHERE j.status = 'running'
       AND NOT EXISTS (SELECT 1 FROM taskito.workers w WHERE w.worker_id = j.worker AND w.status = 'alive')
     FOR UPDATE OF j SKIP LOCKED
), hit AS (
    UPDATE taskito.jobs_live j
       SET status = 'pending', token = NULL, interruptions = j.interruptions + 1, expires_at = NULL,
           error = '{messages.WORKER_LOST_TYPE}: ' || l.message
      FROM lost l, clock c WHERE j.ctid = l.ctid AND j.token = l.token AND NOT l.asked
    RETURNING j.id, j.queue, l.token, l.worker, l.message,
              j.retry_count + j.crashes + j.interruptions AS attempt, c.now
), stopped AS (
    UPDATE taskito.jobs j
       SET {CANCELLED}, interruptions = j.interruptions + 1, error = '{messages.CANCELLED_WHILE_RUNNING}',
           token = NULL
      FROM lost l, clock c WHERE j.ctid = l.ctid AND j.token = l.token AND l.asked AND NOT j.finished
    RETURNING {ENDED}, l.token, l.worker, l.message,
              j.retry_count + j.crashes + j.interruptions AS attempt, c.now
), errors AS (
    INSERT INTO taskito.job_errors (job_id, token, attempt, failed_at, kind, type, message, worker)
    SELECT h.id, h.token, h.attempt, h.now, 'interrupted', '{messages.WORKER_LOST_TYPE}', h.message, h.worker
      FROM (SELECT id, token, worker, message, attempt, now FROM hit
            UNION ALL SELECT id, token, worker, message, attempt, now FROM stopped) h
        ON CONFLICT (job_id, token) DO NOTHING
)
SELECT id, queue, NULL AS awaited, NULL AS key, NULL AS has_dependants FROM hit
UNION ALL
SELECT s.id, NULL, s.awaited, s.key, s.has_dependants FROM stopped s
"""

END_FROZEN = """
-- End the sessions whose process stands still in the middle of a transaction: the server waits for its next
-- statement, and nobody else gets that transaction's rows and keys. Only sessions that bear our mark; one
-- that copies waits for its client all the time. Rows (pid, seconds, NULL: this role may not end it).
SELECT f.pid, f.seconds, CASE WHEN pg_has_role(f.usesysid, 'USAGE') THEN pg_terminate_backend(f.pid) END
  FROM (SELECT a.pid, a.usesysid, extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS seconds
          FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.classid::bigint = %(mark)b AND l.objid::bigint = %(schema)b
           AND a.state = 'active' AND a.wait_event = 'ClientRead' AND a.xact_start IS NOT NULL
           AND strpos(a.query, 'COPY ') = 0) AS f
 WHERE f.seconds >= %(seconds)b
"""

STILL_THERE = """
-- Which of these sessions have not ended yet.
SELECT pid FROM pg_stat_activity WHERE pid = ANY (%(pids)b)
"""

UNREGISTER = """
-- The worker has stopped. What it still runs is for RELEASE_ALL.
UPDATE taskito.workers SET status = 'stopped', waiting = NULL WHERE worker_id = %(worker)b
"""

RELEASE_ALL = f"""
-- Hand back what this worker still runs; what was asked to cancel is cancelled instead. What another
-- transaction holds, say a task's own after complete_in, is left to the next rescue. Rows as in RESCUE.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), held AS MATERIALIZED (
    SELECT j.ctid, j.token, j.cancel_force IS NOT NULL AS asked FROM taskito.jobs_live j
     WHERE j.status = 'running' AND j.worker = %(worker)b FOR UPDATE SKIP LOCKED
), released AS (
    UPDATE taskito.jobs_live j SET status = 'pending', token = NULL
      FROM held h WHERE j.ctid = h.ctid AND j.token = h.token AND NOT h.asked RETURNING j.id, j.queue
), stopped AS (
    UPDATE taskito.jobs j SET {CANCELLED}, error = '{messages.CANCELLED_WHILE_RUNNING}', token = NULL
      FROM held h, clock c WHERE j.ctid = h.ctid AND j.token = h.token AND h.asked AND NOT j.finished
    RETURNING {ENDED}
)
SELECT id, queue, NULL AS awaited, NULL AS key, NULL AS has_dependants FROM released
UNION ALL
SELECT s.id, NULL, s.awaited, s.key, s.has_dependants FROM stopped s
"""

FORGET_WORKERS = f"""
-- Only those declared dead or stopped: one that still counts as alive must be seen, to be rescued.
DELETE FROM taskito.workers WHERE status <> 'alive' AND last_seen < {NOW} - {WORKERS_KEPT}
"""

HOT = (HEARTBEAT, RUNNING, RESCUE, RELEASE_ALL)
