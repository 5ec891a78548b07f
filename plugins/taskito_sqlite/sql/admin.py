"""What people do with stored jobs and queues: cancel, repeat, delete, pause."""

from __future__ import annotations

from taskito_core import columns

# ---- cancel ----

CANCEL = """
-- End a pending job, gated or not.
UPDATE jobs SET status = 'cancelled', completed_at = :now, error = :error, gate = NULL,
                prune_at = :now + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = :id AND status = 'pending'
RETURNING id
"""

ASK_TO_CANCEL = """
-- Mark a running job for its worker to stop. Once force was said it stays.
UPDATE jobs SET cancel_force = coalesce(max(cancel_force, :force), :force)
 WHERE id = :id AND status = 'running'
RETURNING worker
"""

# ---- repeat ----

ORIGINAL = f"""
-- A finished job: what it was made from, and how it ended.
SELECT {columns.REPEATED_LIST}, status, error
  FROM jobs WHERE id = :id AND completed_at IS NOT NULL
"""

LETTER = f"""
-- The same of a dead job, from its letter: the job itself may be stored no more.
SELECT {columns.REPEATED_LIST}, 'dead', error
  FROM dead_letter WHERE job_id = :id
"""

DROP_LETTER = """
-- The letter of a job that was enqueued again.
DELETE FROM dead_letter WHERE job_id = :id
"""

ADD_REPLAY = """
-- Write down that a job was enqueued again, and how it had ended.
INSERT INTO replay_history (job_id, new_id, replayed_at, status_before, error_before)
VALUES (:id, :new_id, :now, :status, :error)
"""

# ---- delete ----

DELETABLE = """
-- Of these ids, the jobs that have finished, and the letters without a job.
SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(:ids)) AND completed_at IS NOT NULL
UNION
SELECT job_id FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(:ids))
   AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = dead_letter.job_id)
"""

NEEDED = """
-- Of these ids, the parents of live jobs: a child may still ask how they ended.
SELECT DISTINCT edge.parent_id
  FROM json_each(:ids) AS wanted
  JOIN job_dependencies AS edge INDEXED BY job_dependencies_parent ON edge.parent_id = wanted.value
  JOIN jobs AS child ON child.id = edge.job_id
 WHERE child.completed_at IS NULL
"""

#: Condition of a finished job (named ``finished``): no live job depends on it.
_NOT_NEEDED = """NOT EXISTS (
       SELECT 1 FROM job_dependencies AS edge INDEXED BY job_dependencies_parent
         JOIN jobs AS child ON child.id = edge.job_id
        WHERE edge.parent_id = finished.id AND child.completed_at IS NULL)"""

PURGEABLE = f"""
-- Jobs that ended in this state before this moment and that no live job depends on, in no order.
SELECT id FROM jobs AS finished INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = :status AND completed_at < :before AND {_NOT_NEEDED}
 LIMIT :limit
"""

PRUNABLE = f"""
-- Finished jobs whose result_ttl has passed and that no live job depends on, longest first.
SELECT id FROM jobs AS finished INDEXED BY jobs_prune
 WHERE prune_at IS NOT NULL AND prune_at <= :now AND {_NOT_NEEDED}
 ORDER BY prune_at LIMIT :limit
"""

_DELETE_JOBS = """
-- Finished jobs, by id. What follows deletes all that belongs to them.
DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
"""
_DELETE_ERRORS = """
-- Their errors.
DELETE FROM job_errors WHERE job_id IN (SELECT value FROM json_each(:ids))
"""
_DELETE_LETTERS = """
-- Their dead letters.
DELETE FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(:ids))
"""
_DELETE_LOGS = """
-- Their log entries.
DELETE FROM task_logs WHERE job_id IN (SELECT value FROM json_each(:ids))
"""
_DELETE_EDGES = """
-- Their edges to parents.
DELETE FROM job_dependencies WHERE job_id IN (SELECT value FROM json_each(:ids))
"""
_DELETE_EDGES_BELOW = """
-- Their edges to children.
DELETE FROM job_dependencies WHERE parent_id IN (SELECT value FROM json_each(:ids))
"""
_DELETE_REPLAYS = """
-- Their replays.
DELETE FROM replay_history WHERE job_id IN (SELECT value FROM json_each(:ids))
"""

#: One statement per table: all that belongs to these jobs.
DELETE = (
    *(_DELETE_JOBS, _DELETE_ERRORS, _DELETE_LETTERS, _DELETE_LOGS, _DELETE_EDGES, _DELETE_EDGES_BELOW),
    _DELETE_REPLAYS,
)

# ---- queues ----

PAUSE = """
-- From now on nothing is claimed from a queue; no row is added if it was paused.
INSERT OR IGNORE INTO paused_queues (queue, paused_at) VALUES (:queue, :now)
"""

RESUME = """
-- A queue can be claimed from again.
DELETE FROM paused_queues WHERE queue = :queue
"""

PAUSED = """
-- The paused queues and since when, by name.
SELECT queue, paused_at FROM paused_queues ORDER BY queue
"""

HOT = (CANCEL, ASK_TO_CANCEL, ORIGINAL, LETTER, DELETABLE, NEEDED, PURGEABLE, PRUNABLE, *DELETE, PAUSED)
