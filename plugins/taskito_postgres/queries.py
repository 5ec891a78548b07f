"""The statements that look, one constant each. ``taskito.`` stands for the schema, as in ``sql``.

They are planned for the values they are sent with, so a filter that is NULL costs nothing.
"""

from __future__ import annotations

JOB_COLUMNS = (
    "id, task_name, queue, status, payload, result, error, priority, created_at, scheduled_at, "
    "claimed_at, started_at, completed_at, retry_count, max_retries, crashes, interruptions, timeout, "
    "result_ttl, worker, token, metadata, tags, gate, expires_at, unique_key, concurrency_key, progress, "
    "(status = 'running' AND cancel_force IS NOT NULL) AS cancel_asked"
)

GET = f"SELECT {JOB_COLUMNS} FROM taskito.jobs WHERE id = ANY (%(ids)b)"

KNOWN = "SELECT id FROM taskito.jobs WHERE id = ANY (%(ids)b)"

_MATCHING = """
   AND (%(before)b::bigint IS NULL OR (created_at, id) < (%(before)b::bigint, %(before_id)b::text))
   AND (%(statuses)b::text[] IS NULL OR status = ANY (%(statuses)b::text[]))
   AND (%(queue)b::text IS NULL OR queue = %(queue)b::text)
   AND (%(task_name)b::text IS NULL OR task_name = %(task_name)b::text)
   AND (%(created_after)b::bigint IS NULL OR created_at >= %(created_after)b::bigint)
   AND (%(created_before)b::bigint IS NULL OR created_at < %(created_before)b::bigint)
   AND (%(finished_after)b::bigint IS NULL OR completed_at >= %(finished_after)b::bigint)
   AND (%(finished_before)b::bigint IS NULL OR completed_at < %(finished_before)b::bigint)
   AND (%(error)b::text IS NULL OR strpos(error, %(error)b::text) > 0)
   AND (%(tag)b::text IS NULL OR EXISTS (
        SELECT 1 FROM json_array_elements(tags::json) t(tag) WHERE t.tag::text = %(tag)b::text))
   AND (%(metadata)b::text IS NULL OR metadata IS NOT NULL AND
        regexp_replace(metadata, %(refused)b, %(shown)b, 'gi')::jsonb @> %(metadata)b::jsonb)
 ORDER BY created_at DESC, id DESC LIMIT %(limit)b
"""

LIST_JOBS = f"""
-- One page, newest first, by keyset. Three lists that each have an index in this order, merged: were
-- pending and running in one, every claim would have to move the job in that index.
(SELECT {JOB_COLUMNS} FROM taskito.jobs_live WHERE %(pending)b AND status = 'pending' {_MATCHING})
UNION ALL
(SELECT {JOB_COLUMNS} FROM taskito.jobs_live WHERE %(running)b AND status = 'running' {_MATCHING})
UNION ALL
(SELECT {JOB_COLUMNS} FROM taskito.jobs_done WHERE %(finished)b {_MATCHING})
 ORDER BY created_at DESC, id DESC LIMIT %(limit)b
"""

COUNT_LIVE = """
SELECT queue, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'running'),
       count(*) FILTER (WHERE status = 'pending' AND retry_count > 0)
  FROM taskito.jobs_live GROUP BY queue
"""

COUNT_DONE = """
-- Each status up to the cap; the rows past it are not even read.
SELECT 'complete', queue, count(*)
  FROM (SELECT queue FROM taskito.jobs_done WHERE status = 'complete' LIMIT %(cap)b) c GROUP BY queue
UNION ALL
SELECT 'dead', queue, count(*)
  FROM (SELECT queue FROM taskito.jobs_done WHERE status = 'dead' LIMIT %(cap)b) d GROUP BY queue
UNION ALL
SELECT 'cancelled', queue, count(*)
  FROM (SELECT queue FROM taskito.jobs_done WHERE status = 'cancelled' LIMIT %(cap)b) x GROUP BY queue
"""

COUNT_DONE_EXACTLY = "SELECT status, queue, count(*) FROM taskito.jobs_done GROUP BY status, queue"

ERRORS = """
SELECT job_id, token, attempt, kind, type, message, traceback, worker, failed_at
  FROM taskito.job_errors WHERE job_id = %(id)b ORDER BY attempt, failed_at
"""

LETTER_COLUMNS = (
    "job_id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries, "
    "crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, failed_at"
)

LETTERS = f"SELECT {LETTER_COLUMNS} FROM taskito.dead_letter WHERE job_id = ANY (%(ids)b)"

DEAD_LETTERS = f"""
SELECT {LETTER_COLUMNS} FROM taskito.dead_letter
 WHERE %(before)b::bigint IS NULL OR (failed_at, job_id) < (%(before)b::bigint, %(before_id)b::text)
 ORDER BY failed_at DESC, job_id DESC LIMIT %(limit)b
"""

WORKERS = """
SELECT worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen, beat, status
  FROM taskito.workers ORDER BY status <> 'alive', last_seen DESC, worker_id
"""

AWAIT = """
-- Ask whoever finishes this job to say so. Skips a row that is held: it may be by a task's own transaction.
-- Commits lazily, so that the row is free again at once: a claim passes over a row that is held.
UPDATE taskito.jobs_live SET awaited = true
 WHERE ctid = (SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = %(id)b AND NOT l.awaited
                 FOR UPDATE SKIP LOCKED)
RETURNING set_config('synchronous_commit', 'off', true)
"""

IS_AWAITED = """
-- Whether it is known that somebody waits for this job's end; no row: it has ended.
SELECT awaited FROM taskito.jobs_live WHERE id = %(id)b
"""

IS_LIVE = "SELECT EXISTS (SELECT 1 FROM taskito.jobs_live WHERE id = %(id)b)"

SERVER = "SELECT current_setting('server_version')"
