"""What people do with jobs and queues: cancel, repeat, delete, pause."""

from __future__ import annotations

from taskito_core import columns
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

# ---- delete ----

#: Condition for a finished job d: no live job depends on it.
_NOT_NEEDED = """(
       SELECT true FROM taskito.job_dependencies e
        CROSS JOIN LATERAL (SELECT 1 FROM taskito.jobs_live l WHERE l.id = e.job_id LIMIT 1) l
        WHERE e.parent_id = d.id LIMIT 1) IS NULL"""

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
SELECT id FROM over
"""

DELETE = f"""
-- Finished jobs that no live job depends on, and letters without a job.
WITH over AS MATERIALIZED (
    SELECT d.id FROM unnest(%(ids)b) AS n(id)
     CROSS JOIN LATERAL (SELECT d.id FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1) d
     WHERE {_NOT_NEEDED}
    UNION
    SELECT m.job_id FROM taskito.dead_letter m
     WHERE m.job_id = ANY (%(ids)b)
       AND (SELECT true FROM taskito.jobs j WHERE j.id = m.job_id LIMIT 1) IS NULL
){_DELETED}"""

PURGE = f"""
-- Jobs that ended in this state before this moment, oldest first, with what belongs to them.
WITH over AS MATERIALIZED (
    SELECT d.id FROM taskito.jobs_done d
     WHERE d.status = %(status)b AND d.completed_at < %(before)b AND {_NOT_NEEDED}
     ORDER BY d.completed_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED
){_DELETED}"""

PRUNE = f"""
-- Finished jobs that are not wanted any more, oldest first, with what belongs to them.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), over AS MATERIALIZED (
    SELECT d.id FROM taskito.jobs_done d
     WHERE d.prune_at <= (SELECT now FROM clock) AND {_NOT_NEEDED}
     ORDER BY d.prune_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED
){_DELETED}"""

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

HOT = (PRUNE,)
