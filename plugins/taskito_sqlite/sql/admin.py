"""What people do with stored jobs and queues: cancel, repeat, delete, pause."""

from __future__ import annotations

from taskito_core import columns, messages

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

KEEP_PARENTS = """
-- The replay's edges: to the parents of the original whose results it may need. It waits for none of them.
INSERT OR IGNORE INTO job_dependencies (job_id, parent_id, replay_of)
SELECT :new_id, edge.parent_id, edge.replay_of
  FROM job_dependencies AS edge
  JOIN jobs AS parent ON parent.id = edge.parent_id
  JOIN jobs AS original ON original.id = edge.job_id
 WHERE edge.job_id = :id
   AND (parent.status = 'complete' OR original.tolerant AND parent.completed_at IS NOT NULL)
"""

# ---- revive what was cancelled because of it ----

#: Condition of a job (named ``child``) that was cancelled because of a parent: no attempt of it ever began.
_CANCELLED_FOR_PARENT = f"""child.status = 'cancelled' AND child.token IS NULL
   AND child.error LIKE '{messages.PARENT_FAILED.format(parent="%", status="%")}'"""

RETARGET = f"""
-- Such children of the original, or of replays that came to nothing, depend on its newest replay instead.
WITH RECURSIVE tried (id) AS (
  SELECT :id UNION SELECT past.new_id FROM tried JOIN replay_history AS past ON past.job_id = tried.id
)
UPDATE OR REPLACE job_dependencies SET parent_id = :new_id, replay_of = coalesce(replay_of, parent_id)
 WHERE parent_id IN (SELECT id FROM tried)
   AND NOT EXISTS (SELECT 1 FROM jobs AS parent
                    WHERE parent.id = parent_id
                      AND (parent.completed_at IS NULL OR parent.status = 'complete'))
   AND EXISTS (SELECT 1 FROM jobs AS child WHERE child.id = job_id AND {_CANCELLED_FOR_PARENT})
"""

CANCELLED_CHILDREN = f"""
-- Such children of these jobs, with what their error would be now: NULL if no parent of theirs has failed.
SELECT DISTINCT child.id, child.task_name, child.error, (
       SELECT {messages.as_sql(messages.PARENT_FAILED, parent="other.parent_id", status="ended.status")}
         FROM job_dependencies AS other
         JOIN jobs AS ended ON ended.id = other.parent_id
        WHERE other.job_id = child.id AND ended.status IN ('dead', 'cancelled')
        ORDER BY other.parent_id LIMIT 1)
  FROM json_each(:ids) AS wanted
  JOIN job_dependencies AS edge INDEXED BY job_dependencies_parent ON edge.parent_id = wanted.value
  JOIN jobs AS child ON child.id = edge.job_id
 WHERE {_CANCELLED_FOR_PARENT}
 ORDER BY child.id
"""

NAME_OTHER_PARENT = """
-- Why a job stays cancelled: because of another parent.
UPDATE jobs SET error = :error WHERE id = :id AND status = 'cancelled'
"""

REVIVE = """
-- A cancelled job waits for its parents again, with as much time to start as it had. Not if a live job holds
-- its unique key.
UPDATE jobs SET status = 'pending', gate = 'parents', completed_at = NULL, prune_at = NULL, error = NULL,
                expires_at = :now + max(expires_at - created_at, 0)
 WHERE id = :id AND status = 'cancelled'
   AND (unique_key IS NULL OR NOT EXISTS (
        SELECT 1 FROM jobs AS holder
         WHERE holder.unique_key = jobs.unique_key AND holder.completed_at IS NULL))
RETURNING id
"""

FOLLOW_PARENTS = """
-- The parents of this job that have not finished: the first writer after their end goes on with it.
UPDATE jobs SET followed = 1
 WHERE id IN (SELECT parent_id FROM job_dependencies WHERE job_id = :id)
   AND completed_at IS NULL AND followed IS NULL
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

#: Condition of a finished job (named ``finished``): no live job depends on it, and no other that may be run
#: again needs its result.
_NOT_NEEDED = """NOT EXISTS (
       SELECT 1 FROM job_dependencies AS edge INDEXED BY job_dependencies_parent
         JOIN jobs AS child ON child.id = edge.job_id
        WHERE edge.parent_id = finished.id
          AND (child.completed_at IS NULL
               OR child.status <> 'complete' AND (finished.status = 'complete' OR child.tolerant)))"""

PURGEABLE = f"""
-- Jobs that ended in this state before this moment and that no other job needs, in no order.
SELECT id FROM jobs AS finished INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = :status AND completed_at < :before AND {_NOT_NEEDED}
 LIMIT :limit
"""

PRUNABLE = f"""
-- Finished jobs whose result_ttl has passed and that no other job needs, longest first.
SELECT id, status FROM jobs AS finished INDEXED BY jobs_prune
 WHERE prune_at IS NOT NULL AND prune_at <= :now AND {_NOT_NEEDED}
 ORDER BY prune_at LIMIT :limit
"""

OUTLIVED = f"""
-- Jobs without a result_ttl that ended in this state before a moment and that no other job needs. They were
-- made before it too, which is how the index finds them: oldest first.
SELECT id, status FROM jobs AS finished INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = :status AND created_at <= :before AND completed_at <= :before
   AND prune_at IS NULL AND {_NOT_NEEDED}
 ORDER BY created_at LIMIT :limit
"""

OUTLIVED_LOGS = """
-- Lines of job logs that were written before a moment, oldest first.
SELECT id FROM task_logs INDEXED BY task_logs_time WHERE logged_at <= :before ORDER BY logged_at LIMIT :limit
"""

FORGET_LOGS = """
-- Delete these lines.
DELETE FROM task_logs WHERE id IN (SELECT value FROM json_each(:ids))
"""

FORGET_CALLS = """
-- Calls that no other can belong to any more: their time is over, and no pending job stands for them.
DELETE FROM last_calls WHERE key IN (
  SELECT key FROM last_calls INDEXED BY last_calls_until
   WHERE until <= :now AND NOT EXISTS (
         SELECT 1 FROM jobs WHERE jobs.id = last_calls.job_id AND jobs.status = 'pending')
   ORDER BY until LIMIT :limit)
"""

RETENTION = """
-- How long what is kept, in seconds; NULL: for ever.
SELECT finished, dead, logs, metrics FROM retention
"""

RETAIN = """
-- Keep for so long from now on.
UPDATE retention SET finished = :finished, dead = :dead, logs = :logs, metrics = :metrics
"""

ANNOUNCE = """
-- A row the first time only: what is to be said to people.
UPDATE retention SET announced = 1 WHERE NOT announced RETURNING finished, dead, logs, metrics
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

LIMIT_QUEUE = """
-- Limits of a queue. The bucket of a rate that it had keeps its tokens; that of a new one is full.
INSERT INTO queue_limits (queue, concurrency, rate, burst, max_pending, tokens, refilled_at)
VALUES (:queue, :concurrency, :rate, :burst, :max_pending, :burst, :now)
ON CONFLICT (queue) DO UPDATE SET
  concurrency = excluded.concurrency, max_pending = excluded.max_pending,
  tokens = CASE WHEN rate IS NULL OR excluded.rate IS NULL THEN excluded.tokens
                ELSE min(tokens, excluded.burst) END,
  refilled_at = CASE WHEN rate IS NULL THEN excluded.refilled_at ELSE refilled_at END,
  rate = excluded.rate, burst = excluded.burst
"""

UNLIMIT_QUEUE = """
-- A queue has no limits.
DELETE FROM queue_limits WHERE queue = :queue
"""

QUEUE_LIMITS = """
-- The queues that have limits.
SELECT queue, concurrency, rate, burst, max_pending FROM queue_limits ORDER BY queue
"""

HOT = (
    *(CANCEL, ASK_TO_CANCEL, ORIGINAL, LETTER, KEEP_PARENTS, RETARGET, CANCELLED_CHILDREN, NAME_OTHER_PARENT),
    *(REVIVE, FOLLOW_PARENTS, DELETABLE, NEEDED, PURGEABLE, PRUNABLE, OUTLIVED, *DELETE, PAUSED),
    *(OUTLIVED_LOGS, FORGET_LOGS, FORGET_CALLS),
)
