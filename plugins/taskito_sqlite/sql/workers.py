"""A worker's life, and taking back what a worker that is gone still runs."""

from __future__ import annotations

REGISTER = """
-- Add a worker, alive. It counts as waiting until its first exchange says otherwise.
INSERT INTO workers (worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen,
                     waiting, notify_address, notify_queues)
VALUES (:worker, :host, :pid, :app, :queues, :tasks, :procs, :version, :now, :now,
        1, :notify_address, :notify_queues)
"""

HEARTBEAT = """
-- One heartbeat; changes no row of a worker that was declared dead.
UPDATE workers SET beat = beat + 1, last_seen = :now WHERE worker_id = :worker AND status = 'alive'
"""

PEERS = """
-- The other live workers.
SELECT worker_id, beat, host FROM workers INDEXED BY workers_alive
 WHERE status = 'alive' AND worker_id <> :worker
"""

RUNNING = """
-- What a worker runs as the store sees it; cancel_force is NULL for a job that was not asked to cancel.
SELECT id, token, cancel_force
  FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND worker = :worker
"""

DECLARE_DEAD = """
-- Compare and swap: a worker whose beat has moved since it was suspected is alive.
UPDATE workers SET status = 'dead', waiting = 0, notify_address = NULL
 WHERE worker_id = :worker AND beat = :beat AND status = 'alive'
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
RETURNING queue, cancel_force
"""

UNREGISTER = """
-- A worker stops; also one that was declared dead.
UPDATE workers SET status = 'stopped', waiting = 0, notify_address = NULL WHERE worker_id = :worker
"""

RELEASE_ALL = """
-- Hand back everything a worker still runs.
UPDATE jobs INDEXED BY jobs_running SET status = 'pending', token = NULL
 WHERE status = 'running' AND worker = :worker
RETURNING queue, id, cancel_force
"""

FORGET_WORKERS = """
-- Only workers that were declared dead or stopped: one that counts as alive must be seen, to be rescued.
DELETE FROM workers WHERE status <> 'alive' AND last_seen <= :before
"""

HOT = (HEARTBEAT, RUNNING, RELEASE_ALL, DECLARE_DEAD, RESCUE)
