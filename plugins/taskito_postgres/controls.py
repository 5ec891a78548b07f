"""The statements by which people intervene, one constant each: cancel, repeat, delete, pause.

``taskito.`` stands for the schema, as in ``sql``.
"""

from __future__ import annotations

from taskito_postgres.queries import JOB_COLUMNS
from taskito_postgres.sql import CANCELLED, ENDED_UNSEEN, NOW
from taskito_postgres.upkeep import DELETING, UNNEEDED

CANCEL = f"""
-- Cancel those that are pending. Found by id and not by place, so that a row which only changed is not
-- missed; one that is claimed first is no longer pending.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j SET {CANCELLED}, error = %(reason)b::text
  FROM clock c
 WHERE j.id = ANY (%(ids)b) AND NOT j.finished AND j.status = 'pending'
RETURNING {ENDED_UNSEEN}
"""

ASK = """
-- Force stays once it was said.
UPDATE taskito.jobs_live SET cancel_force = coalesce(cancel_force, false) OR %(force)b::boolean
 WHERE id = ANY (%(ids)b) AND status = 'running'
RETURNING id, worker
"""

# ---- repeat ----

_REPEATED = """task_name, payload, queue, priority, max_retries, timeout, result_ttl, metadata, tags, lane,
       unique_key, concurrency_key, concurrency, expires_at - created_at"""

FINISHED_ONE = f"""
SELECT {_REPEATED}, status, error FROM taskito.jobs_done WHERE id = %(id)b
"""

TAKE_LETTER = f"""
-- Of two who take the same letter the second waits, and finds none.
DELETE FROM taskito.dead_letter WHERE job_id = %(id)b RETURNING {_REPEATED}, 'dead', error
"""

REMEMBER = f"""
INSERT INTO taskito.replay_history (new_id, job_id, replayed_at, status_before, error_before)
SELECT %(new_id)b, %(id)b, {NOW}, %(status)b, %(error)b::text
    ON CONFLICT (new_id) DO NOTHING
"""

REPLAYS = """
SELECT h.job_id, h.new_id, h.replayed_at, h.status_before, h.error_before, j.status, j.error, j.result
  FROM taskito.replay_history h
  LEFT JOIN LATERAL (SELECT j.status, j.error, j.result FROM taskito.jobs j WHERE j.id = h.new_id LIMIT 1) j
    ON true
 WHERE h.job_id = %(id)b ORDER BY h.replayed_at, h.new_id
"""

# ---- delete ----

DELETE = f"""
-- Finished jobs that no live job depends on, and letters without a job.
WITH over AS MATERIALIZED (
    SELECT d.id FROM unnest(%(ids)b) AS n(id)
     CROSS JOIN LATERAL (SELECT d.id FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1) d
     WHERE {UNNEEDED}
    UNION
    SELECT m.job_id FROM taskito.dead_letter m
     WHERE m.job_id = ANY (%(ids)b)
       AND (SELECT true FROM taskito.jobs j WHERE j.id = m.job_id LIMIT 1) IS NULL
){DELETING}"""

PURGE = f"""
-- The same for jobs that ended in this state before this moment, oldest first.
WITH over AS MATERIALIZED (
    SELECT d.id FROM taskito.jobs_done d
     WHERE d.status = %(status)b AND d.completed_at < %(before)b AND {UNNEEDED}
     ORDER BY d.completed_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED
){DELETING}"""

# ---- queues ----

PAUSE = f"""
INSERT INTO taskito.paused_queues (queue, paused_at) SELECT %(queue)b, {NOW}
    ON CONFLICT (queue) DO NOTHING RETURNING queue
"""

RESUME = "DELETE FROM taskito.paused_queues WHERE queue = %(queue)b RETURNING queue"

PAUSED = "SELECT queue, paused_at FROM taskito.paused_queues ORDER BY queue"

# ---- look ----

EDGES = """
SELECT job_id, parent_id FROM taskito.job_dependencies WHERE job_id = ANY (%(ids)b)
UNION
SELECT job_id, parent_id FROM taskito.job_dependencies WHERE parent_id = ANY (%(ids)b)
"""

FACTS = f"""
-- Everything in one statement, and so of one moment.
SELECT j.lane,
       (SELECT json_agg(json_build_array(p.id, p.status) ORDER BY p.id)
          FROM taskito.job_dependencies e JOIN taskito.jobs_live p ON p.id = e.parent_id
         WHERE e.job_id = j.id)::text,
       EXISTS (SELECT 1 FROM taskito.paused_queues q WHERE q.queue = j.queue),
       j.concurrency,
       (SELECT json_agg(h.id ORDER BY h.slot) FROM taskito.jobs_live h
         WHERE h.concurrency_key = j.concurrency_key AND h.slot IS NOT NULL AND h.id <> j.id)::text,
       (SELECT count(*) FROM (
               SELECT 1 FROM taskito.jobs_live a
                WHERE a.status = 'pending' AND a.gate IS NULL AND a.queue = j.queue
                  AND NOT EXISTS (SELECT 1 FROM taskito.paused_queues q WHERE q.queue = j.queue)
                  AND a.scheduled_at <= c.now AND (a.expires_at IS NULL OR a.expires_at > c.now)
                  AND (a.priority > j.priority
                       OR a.priority = j.priority AND (a.scheduled_at, a.id) < (j.scheduled_at, j.id))
                LIMIT 10000) ahead),
       c.now, f.*
  FROM (SELECT {NOW} AS now) c, taskito.jobs j
 CROSS JOIN LATERAL (SELECT {JOB_COLUMNS} FROM taskito.jobs WHERE id = j.id) f
 WHERE j.id = %(id)b
"""
