"""Reading: jobs, pages, counts, errors, dead letters, workers, and what keeps a job from running."""

from __future__ import annotations

from dataclasses import fields

from taskito_core import WorkerInfo, columns
from taskito_sqlite.sql.claim import CLAIMABLE, DUE_NOW

GET = f"""
-- Jobs by id.
SELECT {columns.JOB_LIST} FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
"""

IDS_BEGINNING = """
-- Ids of jobs and letters from one text up to another, in order.
SELECT id FROM (SELECT id FROM jobs WHERE id >= :first AND id <= :last ORDER BY id LIMIT :limit)
UNION
SELECT job_id FROM (SELECT job_id FROM dead_letter
                     WHERE job_id >= :first AND job_id <= :last ORDER BY job_id LIMIT :limit)
 ORDER BY 1 LIMIT :limit
"""

# ---- pages: newest first, keyset ----

_MATCHES = """
  (:queue IS NULL OR queue = :queue)
  AND (:task_name IS NULL OR task_name = :task_name)
  AND (NOT :failed OR status <> 'pending' OR retry_count > 0)
  AND created_at >= :created_after AND created_at < :created_before
  AND (:finished_after IS NULL OR completed_at >= :finished_after)
  AND (:finished_before IS NULL OR completed_at < :finished_before)
  AND (:error IS NULL OR instr(error, :error) > 0)
  AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value = :tag))
  AND (:metadata IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:metadata) AS want
         WHERE NOT EXISTS (
           SELECT 1
             FROM json_each(CASE WHEN json_valid(jobs.metadata) THEN jobs.metadata ELSE '{}' END) AS have
            WHERE have.key = want.key AND have.value IS want.value
              AND replace(have.type, 'real', 'integer') = replace(want.type, 'real', 'integer'))))
  AND (created_at, id) < (:before_created, :before_id)
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_ALL = f"""
-- A page of jobs in any state.
SELECT {columns.JOB_LIST} FROM jobs INDEXED BY jobs_created WHERE {_MATCHES}
"""

LIST_FINISHED = f"""
-- A page of jobs in one finished state.
SELECT {columns.JOB_LIST} FROM jobs INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = :status AND {_MATCHES}
"""

LIST_RUNNING = f"""
-- A page of running jobs: there are never many, so they are sorted.
SELECT {columns.JOB_LIST} FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND {_MATCHES}
"""

LIST_PENDING_FEW = f"""
-- A page of pending jobs while they are few: sort them, however much history is younger than they are.
SELECT {columns.JOB_LIST} FROM jobs
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_claim WHERE {CLAIMABLE}
               UNION ALL
               SELECT seq FROM jobs INDEXED BY jobs_gated WHERE gate IS NOT NULL)
   AND {_MATCHES}
"""

LIST_PENDING_MANY = f"""
-- A page of pending jobs while they are many: a walk back through time meets them soon.
SELECT {columns.JOB_LIST} FROM jobs INDEXED BY jobs_created WHERE status = 'pending' AND {_MATCHES}
"""

PENDING_UP_TO = f"""
-- How many jobs are pending. Claimable and gated ones are each counted no further than the cap.
SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_claim WHERE {CLAIMABLE} LIMIT :cap))
     + (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_gated WHERE gate IS NOT NULL LIMIT :cap))
"""

# ---- counts ----

COUNT_LIVE = f"""
-- Live jobs per queue and state, exactly; each from a small index of its own.
SELECT queue, 'pending', count(*) FROM jobs INDEXED BY jobs_claim WHERE {CLAIMABLE} GROUP BY queue
UNION ALL
SELECT queue, 'pending', count(*) FROM jobs INDEXED BY jobs_gated WHERE gate IS NOT NULL GROUP BY queue
UNION ALL
SELECT queue, 'running', count(*) FROM jobs INDEXED BY jobs_running WHERE status = 'running' GROUP BY queue
UNION ALL
SELECT queue, 'failed', count(*) FROM jobs INDEXED BY jobs_failed
 WHERE retry_count > 0 AND status = 'pending' GROUP BY queue
"""

COUNT_FINISHED = """
-- Finished jobs of one state per queue, the newest up to the cap (-1: all); read from the index alone.
SELECT queue, count(*) FROM (
  SELECT queue FROM jobs INDEXED BY jobs_finished
   WHERE completed_at IS NOT NULL AND status = :status ORDER BY created_at DESC LIMIT :cap)
 GROUP BY queue
"""

# ---- what belongs to jobs; workers ----

ERRORS = """
-- The errors of a job's failed attempts, oldest first.
SELECT job_id, token, attempt, kind, type, message, traceback, worker, failed_at
  FROM job_errors WHERE job_id = :id ORDER BY seq
"""

LETTERS = f"""
-- Dead letters by job id.
SELECT {columns.LETTER_LIST} FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(:ids))
"""

DEAD_LETTERS = f"""
-- A page of the dead letter, newest first.
SELECT {columns.LETTER_LIST} FROM dead_letter
 WHERE (failed_at, job_id) < (:before, :before_id) ORDER BY failed_at DESC, job_id DESC LIMIT :limit
"""

WORKERS = f"""
-- Every worker that is remembered: alive ones first, then latest seen first.
SELECT {columns.listed((field.name for field in fields(WorkerInfo)), id="worker_id")}
  FROM workers ORDER BY status = 'alive' DESC, last_seen DESC, worker_id
"""

EDGES = """
-- Every dependency in which one of these jobs is child or parent, in no order.
SELECT job_id, parent_id, replay_of FROM job_dependencies
 WHERE job_id IN (SELECT value FROM json_each(:ids))
UNION
SELECT job_id, parent_id, replay_of FROM job_dependencies
 WHERE parent_id IN (SELECT value FROM json_each(:ids))
"""

REPLAYS = """
-- The replays in which a job is the old one or the new one, oldest first, and what became of the new ones
-- (NULL: stored no more).
SELECT replay.job_id, replay.new_id, replay.replayed_at, replay.status_before, replay.error_before,
       jobs.status, jobs.error, jobs.result
  FROM replay_history AS replay LEFT JOIN jobs ON jobs.id = replay.new_id
 WHERE replay.job_id = :id OR replay.new_id = :id ORDER BY replay.replayed_at, replay.new_id
"""

# ---- why a job does not run ----

FACTS = """
-- The lane of a job, how many slots its key has, and whether its queue is paused.
SELECT lane, concurrency, EXISTS (SELECT 1 FROM paused_queues WHERE paused_queues.queue = jobs.queue)
  FROM jobs WHERE id = :id
"""

UNFINISHED_PARENTS = """
-- The parents of a job that have not finished, by id.
SELECT parent.id, parent.status
  FROM job_dependencies AS edge JOIN jobs AS parent ON parent.id = edge.parent_id
 WHERE edge.job_id = :id AND parent.completed_at IS NULL ORDER BY parent.id
"""

SLOT_HOLDERS = """
-- The other jobs that hold slots of a key, by slot.
SELECT id FROM jobs INDEXED BY jobs_slot
 WHERE concurrency_key = :key AND slot IS NOT NULL AND id <> :id ORDER BY slot
"""

AHEAD = f"""
-- How many jobs of the same queue can be claimed now and come before this one; counted no further than the
-- limit. Numbers as in sql.claim, and ?6 the job's due time, ?7 its id.
SELECT count(*) FROM (
  SELECT 1 FROM jobs INDEXED BY jobs_claim
   WHERE {CLAIMABLE} AND queue = ?1 AND {DUE_NOW} AND (-priority, scheduled_at, id) < (-?3, ?6, ?7)
   LIMIT ?5)
"""

HOT = (GET, ERRORS, LETTERS, DEAD_LETTERS)
