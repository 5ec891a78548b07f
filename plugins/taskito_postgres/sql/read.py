"""Reading jobs, dead letters, workers and what is known of them.

Filters that are NULL match everything. They are planned for the values they are sent with, so that such a
filter costs nothing.
"""

from __future__ import annotations

from dataclasses import fields

from taskito_core import WorkerInfo, columns
from taskito_postgres.sql.claim import CLAIMABLE
from taskito_postgres.sql.clock import NOW

JOB_COLUMNS = columns.JOB_LIST
LETTER_COLUMNS = columns.LETTER_LIST

#: Jobs that FACTS counts ahead of one at most.
MAX_AHEAD = 10_000

GET = f"""
-- These jobs, in any order; an id that is not stored has no row.
SELECT {JOB_COLUMNS} FROM taskito.jobs WHERE id = ANY (%(ids)b)
"""

IDS_BEGINNING = """
-- Ids of jobs and letters that begin with a text, in order. In the order of any locale they come next after
-- the text, but for some that it takes for nearly the same: the ends of the indexes are never read.
SELECT id
  FROM ((SELECT id FROM taskito.jobs_live WHERE id >= %(prefix)b::text ORDER BY id LIMIT %(limit)b + 100)
        UNION
        (SELECT id FROM taskito.jobs_done WHERE id >= %(prefix)b::text ORDER BY id LIMIT %(limit)b + 100)
        UNION
        (SELECT job_id FROM taskito.dead_letter
          WHERE job_id >= %(prefix)b::text ORDER BY job_id LIMIT %(limit)b + 100)) AS found (id)
 WHERE starts_with(id, %(prefix)b::text) ORDER BY id LIMIT %(limit)b
"""

_MATCHING = """
   AND (%(before)b::bigint IS NULL OR (created_at, id) < (%(before)b::bigint, %(before_id)b::text))
   AND (%(statuses)b::text[] IS NULL OR status = ANY (%(statuses)b::text[]))
   AND (%(queue)b::text IS NULL OR queue = %(queue)b::text)
   AND (%(task_name)b::text IS NULL OR task_name = %(task_name)b::text)
   AND (NOT %(failed)b::boolean OR status <> 'pending' OR retry_count > 0)
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
-- Per queue: pending, running, and pending again after a failure.
SELECT queue, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'running'),
       count(*) FILTER (WHERE status = 'pending' AND retry_count > 0)
  FROM taskito.jobs_live GROUP BY queue
"""

COUNT_FINISHED = """
-- Per status and queue. Each status up to the cap; the rows past it are not even read.
SELECT 'complete', queue, count(*)
  FROM (SELECT queue FROM taskito.jobs_done WHERE status = 'complete' LIMIT %(cap)b) c GROUP BY queue
UNION ALL
SELECT 'dead', queue, count(*)
  FROM (SELECT queue FROM taskito.jobs_done WHERE status = 'dead' LIMIT %(cap)b) d GROUP BY queue
UNION ALL
SELECT 'cancelled', queue, count(*)
  FROM (SELECT queue FROM taskito.jobs_done WHERE status = 'cancelled' LIMIT %(cap)b) x GROUP BY queue
"""

COUNT_FINISHED_EXACTLY = """
-- COUNT_FINISHED without a cap: reads every row.
SELECT status, queue, count(*) FROM taskito.jobs_done GROUP BY status, queue
"""

ERRORS = """
-- The failed attempts of a job, oldest first.
SELECT job_id, token, attempt, kind, type, message, traceback, worker, failed_at
  FROM taskito.job_errors WHERE job_id = %(id)b ORDER BY attempt, failed_at
"""

LETTERS = f"""
-- These letters, in any order.
SELECT {LETTER_COLUMNS} FROM taskito.dead_letter WHERE job_id = ANY (%(ids)b)
"""

DEAD_LETTERS = f"""
-- One page, newest first, by keyset.
SELECT {LETTER_COLUMNS} FROM taskito.dead_letter
 WHERE %(before)b::bigint IS NULL OR (failed_at, job_id) < (%(before)b::bigint, %(before_id)b::text)
 ORDER BY failed_at DESC, job_id DESC LIMIT %(limit)b
"""

_WORKER_COLUMNS = columns.listed([field.name for field in fields(WorkerInfo)], id="worker_id")

WORKERS = f"""
-- Those alive first, then the others, each by when they were last seen.
SELECT {_WORKER_COLUMNS}
  FROM taskito.workers ORDER BY status <> 'alive', last_seen DESC, worker_id
"""

EDGES = """
-- Edges that begin or end at one of these jobs, each once.
SELECT job_id, parent_id, replay_of FROM taskito.job_dependencies WHERE job_id = ANY (%(ids)b)
UNION
SELECT job_id, parent_id, replay_of FROM taskito.job_dependencies WHERE parent_id = ANY (%(ids)b)
"""

REPLAYS = """
-- The replays in which a job is the old one or the new one, oldest first, and what became of the new ones
-- (NULL: stored no more).
SELECT h.job_id, h.new_id, h.replayed_at, h.status_before, h.error_before, j.status, j.error, j.result
  FROM taskito.replay_history h
  LEFT JOIN LATERAL (SELECT j.status, j.error, j.result FROM taskito.jobs j WHERE j.id = h.new_id LIMIT 1) j
    ON true
 WHERE h.job_id = %(id)b OR h.new_id = %(id)b ORDER BY h.replayed_at, h.new_id
"""

FACTS = f"""
-- Why a job does or does not run. Everything in one statement, and so of one moment. Lists are JSON.
SELECT this.lane,
       (SELECT json_agg(json_build_array(p.id, p.status) ORDER BY p.id)
          FROM taskito.job_dependencies e JOIN taskito.jobs_live p ON p.id = e.parent_id
         WHERE e.job_id = this.id)::text,
       EXISTS (SELECT 1 FROM taskito.paused_queues q WHERE q.queue = this.queue),
       this.concurrency,
       (SELECT json_agg(h.id ORDER BY h.slot) FROM taskito.jobs_live h
         WHERE h.concurrency_key = this.concurrency_key AND h.slot IS NOT NULL AND h.id <> this.id)::text,
       (SELECT count(*) FROM (
               SELECT 1 FROM taskito.jobs_live j
                WHERE {CLAIMABLE} AND j.queue = this.queue
                  AND NOT EXISTS (SELECT 1 FROM taskito.paused_queues q WHERE q.queue = this.queue)
                  AND (j.priority > this.priority
                       OR j.priority = this.priority
                          AND (j.scheduled_at, j.id) < (this.scheduled_at, this.id))
                LIMIT {MAX_AHEAD}) ahead),
       c.now, f.*
  FROM (SELECT {NOW} AS now) c, taskito.jobs this
 CROSS JOIN LATERAL (SELECT {JOB_COLUMNS} FROM taskito.jobs WHERE id = this.id) f
 WHERE this.id = %(id)b
"""

SERVER = """
-- The server's version.
SELECT current_setting('server_version')
"""
