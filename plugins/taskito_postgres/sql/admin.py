"""What people do with jobs and queues: cancel, repeat, delete, pause."""

from __future__ import annotations

from taskito_core import columns, messages
from taskito_postgres.sql.clock import NOW
from taskito_postgres.sql.settle import CANCELLED, ENDED_UNSEEN

CANCEL = f"""
-- Cancel those that are pending. Found by id and not by ctid, so that a row which only changed is not
-- missed; one that is claimed first is no longer pending.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j SET {CANCELLED}, error = %(reason)b::text
  FROM clock c
 WHERE j.id = ANY (%(ids)b) AND NOT j.finished AND j.status = 'pending'
RETURNING {ENDED_UNSEEN}
"""

ASK_TO_CANCEL = """
-- Mark those that run. Force stays once it was said.
UPDATE taskito.jobs_live SET cancel_force = coalesce(cancel_force, false) OR %(force)b::boolean
 WHERE id = ANY (%(ids)b) AND status = 'running'
RETURNING id, worker
"""

# ---- repeat ----

ORIGINAL = f"""
-- A finished job, as what a replay repeats, and how it ended.
SELECT {columns.REPEATED_LIST}, status, error FROM taskito.jobs_done WHERE id = %(id)b
"""

TAKE_LETTER = f"""
-- The same of a dead letter, which is deleted. Of two that take one letter the second waits, and finds none.
DELETE FROM taskito.dead_letter WHERE job_id = %(id)b
RETURNING {columns.REPEATED_LIST}, 'dead', error
"""

ADD_REPLAY = f"""
-- Which job repeats which, and how that had ended.
INSERT INTO taskito.replay_history (new_id, job_id, replayed_at, status_before, error_before)
SELECT %(new_id)b, %(id)b, {NOW}, %(status)b, %(error)b::text
    ON CONFLICT (new_id) DO NOTHING
"""

KEEP_PARENTS = """
-- The replay's edges: to the parents of the original whose results it may need. It waits for none of them.
INSERT INTO taskito.job_dependencies (job_id, parent_id, replay_of)
SELECT %(new_id)b, e.parent_id, e.replay_of
  FROM taskito.job_dependencies e
  JOIN taskito.jobs_done p ON p.id = e.parent_id
  JOIN taskito.jobs_done o ON o.id = e.job_id
 WHERE e.job_id = %(id)b AND (p.status = 'complete' OR o.tolerant)
    ON CONFLICT DO NOTHING
"""

# ---- revive what was cancelled because of it ----

#: Condition of a job c that was cancelled because of a parent: no attempt of it ever began.
_CANCELLED_FOR_PARENT = f"""c.status = 'cancelled' AND c.token IS NULL
   AND c.error ~ '^{messages.PARENT_FAILED.format(parent=".+", status=".+")}$'"""

RETARGET = f"""
-- Such children of the original, or of replays that came to nothing, depend on its newest replay instead.
WITH RECURSIVE tried AS (
    SELECT %(id)b::text AS id
    UNION
    SELECT h.new_id FROM tried t JOIN taskito.replay_history h ON h.job_id = t.id
), old AS (
    DELETE FROM taskito.job_dependencies e
     USING tried t, taskito.jobs_done c
     WHERE e.parent_id = t.id AND e.parent_id <> %(new_id)b AND c.id = e.job_id AND {_CANCELLED_FOR_PARENT}
       AND (SELECT true FROM taskito.jobs p
             WHERE p.id = e.parent_id AND (NOT p.finished OR p.status = 'complete') LIMIT 1) IS NULL
    RETURNING e.job_id, e.parent_id, e.replay_of
)
INSERT INTO taskito.job_dependencies (job_id, parent_id, replay_of)
SELECT job_id, %(new_id)b, coalesce(replay_of, parent_id) FROM old
    ON CONFLICT DO NOTHING
"""

CANCELLED_CHILDREN = f"""
-- Such children of these jobs: what their error would be now (NULL if no parent of theirs has failed), and
-- their unique keys.
SELECT DISTINCT c.id, c.task_name, c.error, (
       SELECT {messages.as_sql(messages.PARENT_FAILED, parent="o.parent_id", status="d.status")}
         FROM taskito.job_dependencies o
         JOIN taskito.jobs_done d ON d.id = o.parent_id
        WHERE o.job_id = c.id AND d.status <> 'complete'
        ORDER BY o.parent_id LIMIT 1), c.unique_key
  FROM unnest(%(ids)b) AS n(id)
  JOIN taskito.job_dependencies e ON e.parent_id = n.id
  JOIN taskito.jobs_done c ON c.id = e.job_id
 WHERE {_CANCELLED_FOR_PARENT}
 ORDER BY c.id
"""

NAME_OTHER_PARENT = """
-- Why jobs stay cancelled: because of another parent.
UPDATE taskito.jobs_done d SET error = n.error
  FROM unnest(%(ids)b, %(errors)b) AS n(id, error)
 WHERE d.id = n.id AND d.status = 'cancelled'
"""

REVIVE = f"""
-- Cancelled jobs wait for their parents again, with as much time to start as they had. Not if a live job
-- holds their unique key.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j
   SET finished = false, status = 'pending', gate = 'parents', completed_at = NULL, prune_at = NULL,
       error = NULL, expires_at = CASE WHEN j.expires_at IS NOT NULL
                                       THEN c.now + greatest(j.expires_at - j.created_at, 0) END
  FROM clock c
 WHERE j.id = ANY (%(ids)b) AND j.finished AND j.status = 'cancelled'
   AND (j.unique_key IS NULL
        OR (SELECT true FROM taskito.jobs_live l WHERE l.unique_key = j.unique_key LIMIT 1) IS NULL)
RETURNING j.id, c.now
"""

# ---- delete ----

#: Condition for a finished job d: no live job depends on it.
_NOT_AWAITED = """(
       SELECT true FROM taskito.job_dependencies e
        CROSS JOIN LATERAL (SELECT 1 FROM taskito.jobs_live l WHERE l.id = e.job_id LIMIT 1) l
        WHERE e.parent_id = d.id LIMIT 1) IS NULL"""
#: Besides, no other that may be run again needs its result.
_NOT_NEEDED = f"""{_NOT_AWAITED} AND (
       SELECT true FROM taskito.job_dependencies e
        CROSS JOIN LATERAL (
              SELECT c.status, c.tolerant FROM taskito.jobs_done c WHERE c.id = e.job_id LIMIT 1) c
        WHERE e.parent_id = d.id AND c.status <> 'complete' AND (d.status = 'complete' OR c.tolerant)
        LIMIT 1) IS NULL"""

#: With the finished jobs whose ids are in ``over``, all that belongs to them. Parents of live jobs are not in
#: it. A letter whose job is stored no more is enough to be named.
_DELETED = """, errors AS (
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
SELECT id, status FROM over
"""

DELETE = f"""
-- Finished jobs that no live job depends on, and letters without a job.
WITH over AS MATERIALIZED (
    SELECT d.id, d.status FROM unnest(%(ids)b) AS n(id)
     CROSS JOIN LATERAL (SELECT d.id, d.status FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1) d
     WHERE {_NOT_AWAITED}
    UNION
    SELECT m.job_id, 'dead' FROM taskito.dead_letter m
     WHERE m.job_id = ANY (%(ids)b)
       AND (SELECT true FROM taskito.jobs j WHERE j.id = m.job_id LIMIT 1) IS NULL
){_DELETED}"""

PURGE = f"""
-- Jobs that ended in this state before this moment, oldest first, with what belongs to them.
WITH over AS MATERIALIZED (
    SELECT d.id, d.status FROM taskito.jobs_done d
     WHERE d.status = %(status)b AND d.completed_at < %(before)b AND {_NOT_NEEDED}
     ORDER BY d.completed_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED
){_DELETED}"""


def _over(locking: str) -> str:
    """For WITH: the finished jobs that are kept no longer, by a time of their own or the retention."""
    return f"""clock AS MATERIALIZED (SELECT {NOW} AS now), over AS MATERIALIZED (
    SELECT o.id, o.status FROM (
           SELECT own.* FROM (
                  SELECT d.id, d.status FROM taskito.jobs_done d
                   WHERE d.prune_at <= (SELECT now FROM clock) AND {_NOT_NEEDED}
                   ORDER BY d.prune_at LIMIT %(limit)b {locking}) own
           UNION ALL
           SELECT old.* FROM clock c CROSS JOIN taskito.retention r CROSS JOIN LATERAL (VALUES
                  ('complete', r.finished), ('cancelled', r.finished), ('dead', r.dead)) AS k(status, kept)
            CROSS JOIN LATERAL (
                  SELECT d.id, d.status FROM taskito.jobs_done d
                   WHERE d.completed_at <= c.now - (k.kept * 1000)::bigint AND d.status = k.status
                     AND d.prune_at IS NULL AND {_NOT_NEEDED}
                   ORDER BY d.completed_at LIMIT %(limit)b {locking}) old) o
     LIMIT %(limit)b
)"""


PRUNE = f"""
-- Finished jobs that are not kept any longer, each kind oldest first, with what belongs to them.
WITH {_over("FOR UPDATE SKIP LOCKED")}{_DELETED}"""

OUTLIVED = f"""
-- What PRUNE would delete.
WITH {_over("")}
SELECT id, status FROM over
"""

OUTLIVED_LOGS = f"""
-- Lines of job logs that are not kept any longer, oldest first.
SELECT l.id FROM taskito.task_logs l
 WHERE l.logged_at <= (SELECT {NOW} - (r.logs * 1000)::bigint FROM taskito.retention r)
 ORDER BY l.logged_at LIMIT %(limit)b
"""

FORGET_LOGS = f"""
-- Delete what OUTLIVED_LOGS finds.
DELETE FROM taskito.task_logs WHERE id = ANY (ARRAY(
    SELECT l.id FROM taskito.task_logs l
     WHERE l.logged_at <= (SELECT {NOW} - (r.logs * 1000)::bigint FROM taskito.retention r)
     ORDER BY l.logged_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED))
"""

FORGET_CALLS = f"""
-- Calls that no other can belong to any more: their time is over, and no pending job stands for them.
DELETE FROM taskito.last_calls WHERE key = ANY (ARRAY(
    SELECT l.key FROM taskito.last_calls l
     WHERE l.until <= (SELECT {NOW}) AND (
           SELECT true FROM taskito.jobs_live j
            WHERE j.id = l.job_id AND j.token IS NULL LIMIT 1) IS NULL
     ORDER BY l.until LIMIT %(limit)b FOR UPDATE SKIP LOCKED))
"""

RETENTION = """
-- How long what is kept, in seconds; NULL: for ever.
SELECT finished, dead, logs, metrics FROM taskito.retention
"""

RETAIN = """
-- Keep for so long from now on.
UPDATE taskito.retention
   SET finished = %(finished)b::float8, dead = %(dead)b::float8, logs = %(logs)b::float8,
       metrics = %(metrics)b::float8
RETURNING 1
"""

ANNOUNCE = """
-- A row the first time only: what is to be said to people.
UPDATE taskito.retention SET announced = true WHERE NOT announced RETURNING finished, dead, logs, metrics
"""

# ---- queues ----

PAUSE = f"""
-- No row: it was paused before.
INSERT INTO taskito.paused_queues (queue, paused_at) SELECT %(queue)b, {NOW}
    ON CONFLICT (queue) DO NOTHING RETURNING queue
"""

RESUME = """
-- No row: it was not paused.
DELETE FROM taskito.paused_queues WHERE queue = %(queue)b RETURNING queue
"""

PAUSED = """
-- The paused queues, by name.
SELECT queue, paused_at FROM taskito.paused_queues ORDER BY queue
"""

LIMIT_QUEUE = f"""
-- Limits of a queue. The bucket of a rate that it had keeps its tokens; that of a new one is full.
INSERT INTO taskito.queue_limits AS q (queue, concurrency, rate, burst, max_pending, tokens, refilled_at)
SELECT %(queue)b::text, %(concurrency)b::int8, %(rate)b::float8, %(burst)b::int8, %(max_pending)b::int8,
       %(burst)b::int8, {NOW}
    ON CONFLICT (queue) DO UPDATE SET
       concurrency = excluded.concurrency, max_pending = excluded.max_pending,
       tokens = CASE WHEN q.rate IS NULL OR excluded.rate IS NULL THEN excluded.tokens
                     ELSE least(q.tokens, excluded.burst) END,
       refilled_at = CASE WHEN q.rate IS NULL THEN excluded.refilled_at ELSE q.refilled_at END,
       rate = excluded.rate, burst = excluded.burst
RETURNING 1
"""

UNLIMIT_QUEUE = """
-- A queue has no limits.
DELETE FROM taskito.queue_limits WHERE queue = %(queue)b RETURNING 1
"""

QUEUE_LIMITS = """
-- The queues that have limits.
SELECT queue, concurrency, rate, burst, max_pending FROM taskito.queue_limits ORDER BY queue
"""

HOT = (PRUNE, FORGET_LOGS, FORGET_CALLS)
