"""The statements of upkeep, one constant each: a worker's life, the rescue of its jobs, pruning, metrics.

How they bind: see ``sql``.
"""

from __future__ import annotations

REGISTER = """
-- Add a worker, alive. It counts as waiting until its first exchange says otherwise.
INSERT INTO workers (worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen,
                     waiting, doorbell, listens)
VALUES (:id, :host, :pid, :app, :queues, :tasks, :procs, :version, :now, :now, 1, :doorbell, :listens)
"""

HEARTBEAT = """
-- One beat.
UPDATE workers SET beat = beat + 1, last_seen = ?2 WHERE worker_id = ?1 AND status = 'alive'
"""

PEERS = """
-- The other live workers.
SELECT worker_id, beat, host FROM workers INDEXED BY workers_alive WHERE status = 'alive' AND worker_id <> ?1
"""

RUNS = """
-- What a worker runs, as the store sees it, and what it was asked to cancel of that, with force or without.
SELECT id, token, CASE WHEN cancel_at IS NOT NULL THEN cancel_force END
  FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND worker = ?1
"""

DECLARE_DEAD = """
-- Only if its beat stands where the rescuer saw it standing.
UPDATE workers SET status = 'dead', waiting = 0, doorbell = NULL
 WHERE worker_id = ?1 AND beat = ?2 AND status = 'alive'
"""

ORPHANS = """
-- Running jobs whose worker is not alive.
SELECT id, token, worker FROM jobs INDEXED BY jobs_running
 WHERE status = 'running'
   AND NOT EXISTS (SELECT 1 FROM workers WHERE worker_id = jobs.worker AND workers.status = 'alive')
"""

RESCUE = """
-- Take a running job back from a worker that is gone.
UPDATE jobs SET status = 'pending', token = NULL, error = :error, expires_at = NULL,
                interruptions = interruptions + 1
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue, cancel_at
"""

UNREGISTER = """
-- A worker takes its leave; also one that was thought dead.
UPDATE workers SET status = 'stopped', waiting = 0, doorbell = NULL WHERE worker_id = ?1
"""

RELEASE_ALL = """
-- Hand back everything a worker still runs.
UPDATE jobs INDEXED BY jobs_running SET status = 'pending', token = NULL
 WHERE status = 'running' AND worker = ?1
RETURNING queue, id, cancel_at
"""

FORGET_WORKERS = """
-- Workers gone since before ?1.
DELETE FROM workers WHERE status <> 'alive' AND last_seen <= ?1
"""

# ---- metrics: read, merged in Python, and put back, in one write transaction ----

TALLY_COLUMNS = """
  task_name, queue, succeeded, failed, ran_sum, ran_min, ran_max, waited_sum, peak_memory, histogram
"""

TALLY = f"""
-- What one minute of a task and queue holds so far.
SELECT {TALLY_COLUMNS} FROM task_metrics WHERE task_name = ?1 AND queue = ?2 AND period = ?3
"""

PUT_TALLY = """
-- In place of what TALLY returned.
INSERT OR REPLACE INTO task_metrics
       (task_name, queue, period, succeeded, failed, ran_sum, ran_min, ran_max, waited_sum, peak_memory,
        histogram)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
"""

TALLIES = f"""
-- Every row of the minutes that began after ?1.
SELECT {TALLY_COLUMNS} FROM task_metrics INDEXED BY task_metrics_period WHERE period > ?1
"""

TALLIES_OF_TASK = f"""
-- The same of one task.
SELECT {TALLY_COLUMNS} FROM task_metrics WHERE task_name = ?2 AND period > ?1
"""

FORGET_TALLIES = """
-- Minutes that began before ?1.
DELETE FROM task_metrics WHERE period < ?1
"""

#: What runs per beat, per rescue or per batch of jobs: a test forbids these to scan a table.
HOT = (
    *("HEARTBEAT", "RUNS", "RELEASE_ALL", "DECLARE_DEAD", "RESCUE"),
    *("TALLY", "PUT_TALLY", "TALLIES", "TALLIES_OF_TASK", "FORGET_TALLIES"),
)
