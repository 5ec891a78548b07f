"""The statements that look, one constant each, named after what it finds. How they bind: see ``sql``."""

from __future__ import annotations

JOB_COLUMNS = """
  id, task_name, queue, status, payload, result, error, priority, created_at, scheduled_at, claimed_at,
  started_at, completed_at, retry_count, max_retries, crashes, interruptions, timeout, result_ttl, worker,
  token, metadata, tags, gate, expires_at, unique_key, concurrency_key, progress,
  cancel_at IS NOT NULL AND status = 'running'
"""

GET = f"""
-- Jobs by id.
SELECT {JOB_COLUMNS} FROM jobs WHERE id IN (SELECT value FROM json_each(?1))
"""

ENDS = """
-- Which of these jobs are stored, and whether it is over with them.
SELECT id, completed_at IS NOT NULL FROM jobs WHERE id IN (SELECT value FROM json_each(?1))
"""

WAITED_FOR = """
-- Is it over, and who waits for it?
SELECT completed_at IS NOT NULL, awaited FROM jobs WHERE id = ?1
"""

AWAIT = """
-- Ask to be rung at the end of a job that has not ended.
UPDATE jobs SET awaited = coalesce(awaited || char(10), '') || ?2
 WHERE id = ?1 AND completed_at IS NULL
RETURNING id
"""

MATCHES = """
  (:queue IS NULL OR queue = :queue)
  AND (:task_name IS NULL OR task_name = :task_name)
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
"""

LIST_ALL = f"""
-- A page of jobs in any state.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_created WHERE {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_FINISHED = f"""
-- A page of jobs in one finished state.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = :status AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_RUNNING = f"""
-- A page of running jobs: there are never many, so they are sorted.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_PENDING_FEW = f"""
-- A page of pending jobs while they are few: sort them, however much history is younger than they are.
SELECT {JOB_COLUMNS} FROM jobs
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_claim WHERE status = 'pending' AND gate IS NULL
               UNION ALL
               SELECT seq FROM jobs INDEXED BY jobs_gated WHERE gate IS NOT NULL)
   AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_PENDING_MANY = f"""
-- A page of pending jobs while they are many: a walk back through time meets them soon.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_created WHERE status = 'pending' AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

PENDING_UP_TO = """
-- How many jobs are pending, counted no further than ?1.
SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_claim
                               WHERE status = 'pending' AND gate IS NULL LIMIT ?1))
     + (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_gated
                               WHERE gate IS NOT NULL LIMIT ?1))
"""

COUNT_LIVE = """
-- Live jobs per queue and state, exactly; each from a small index of its own.
SELECT queue, 'pending', count(*) FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL GROUP BY queue
UNION ALL
SELECT queue, 'pending', count(*) FROM jobs INDEXED BY jobs_gated
 WHERE gate IS NOT NULL GROUP BY queue
UNION ALL
SELECT queue, 'running', count(*) FROM jobs INDEXED BY jobs_running WHERE status = 'running' GROUP BY queue
UNION ALL
SELECT queue, 'failed', count(*) FROM jobs INDEXED BY jobs_failed
 WHERE retry_count > 0 AND status = 'pending' GROUP BY queue
"""

COUNT_FINISHED = """
-- Finished jobs of one state per queue, the newest ?2 of them; read from the index alone.
SELECT queue, count(*) FROM (
  SELECT queue FROM jobs INDEXED BY jobs_finished
   WHERE completed_at IS NOT NULL AND status = ?1 ORDER BY created_at DESC LIMIT ?2)
 GROUP BY queue
"""

ERRORS = """
-- What went wrong, oldest first.
SELECT job_id, token, attempt, kind, type, message, traceback, worker, failed_at
  FROM job_errors WHERE job_id = ?1 ORDER BY seq
"""

LETTER_COLUMNS = (
    "job_id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries, "
    "crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, failed_at"
)

LETTERS = f"""
-- Dead letters by job id.
SELECT {LETTER_COLUMNS} FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(?1))
"""

DEAD_LETTERS = f"""
-- A page of the dead letter, newest first.
SELECT {LETTER_COLUMNS} FROM dead_letter
  WHERE (failed_at, job_id) < (?1, ?2) ORDER BY failed_at DESC, job_id DESC LIMIT ?3
"""

WORKERS = """
-- Every worker remembered, alive ones first, then latest seen first.
SELECT worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen, beat, status
  FROM workers ORDER BY status = 'alive' DESC, last_seen DESC, worker_id
"""

#: What runs per job that somebody waits for or looks up: a test forbids these to scan a table.
HOT = ("GET", "ENDS", "WAITED_FOR", "AWAIT", "ERRORS", "LETTERS", "DEAD_LETTERS")
