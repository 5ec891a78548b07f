"""What running jobs report: progress and log entries."""

from __future__ import annotations

SET_PROGRESS = """
-- The newest of each job; ids of the rows that were written. A row that another transaction holds is skipped:
-- it may be a task's own.
WITH said AS MATERIALIZED (
    SELECT l.ctid, n.progress FROM unnest(%(ids)b, %(progress)b) AS n(id, progress)
     CROSS JOIN LATERAL (SELECT l.ctid FROM taskito.jobs_live l
                          WHERE l.id = n.id LIMIT 1 FOR UPDATE SKIP LOCKED) l
), live AS (
    UPDATE taskito.jobs_live j SET progress = s.progress FROM said s WHERE j.ctid = s.ctid RETURNING j.id
), done AS (
    UPDATE taskito.jobs_done j SET progress = n.progress
      FROM (SELECT d.ctid, n.progress FROM unnest(%(ids)b, %(progress)b) AS n(id, progress)
             CROSS JOIN LATERAL (SELECT d.ctid FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1) d) n
     WHERE j.ctid = n.ctid RETURNING j.id
)
SELECT id, set_config('synchronous_commit', 'off', true) FROM live
UNION ALL
SELECT id, set_config('synchronous_commit', 'off', true) FROM done
"""

ADD_LOG = """
-- Entries of jobs that are stored; whose they are, and whether they are awaited.
WITH said AS MATERIALIZED (
    SELECT n.*, j.awaited
      FROM unnest(%(ids)b, %(job_ids)b, %(task_names)b, %(tokens)b, %(moments)b, %(levels)b, %(messages)b,
                  %(extras)b) AS n(id, job_id, task_name, token, logged_at, level, message, extra)
     CROSS JOIN LATERAL (
           (SELECT l.awaited FROM taskito.jobs_live l WHERE l.id = n.job_id)
           UNION ALL
           (SELECT d.awaited FROM taskito.jobs_done d WHERE d.id = n.job_id)
           LIMIT 1) j
), kept AS (
    INSERT INTO taskito.task_logs (id, job_id, task_name, token, logged_at, level, message, extra)
    SELECT id, job_id, task_name, token, logged_at, level, message, extra FROM said
        ON CONFLICT (id) DO NOTHING
)
SELECT job_id, awaited FROM said
"""

LOGS = """
-- By id, which is by time. Planned for the values it is sent with.
SELECT id, job_id, task_name, token, logged_at, level, message, extra FROM taskito.task_logs
 WHERE (%(job_id)b::text IS NULL OR job_id = %(job_id)b::text)
   AND (%(task_name)b::text IS NULL OR task_name = %(task_name)b::text)
   AND (%(levels)b::text[] IS NULL OR level = ANY (%(levels)b::text[]))
   AND (%(since)b::bigint IS NULL OR logged_at >= %(since)b::bigint)
   AND (%(after)b::text IS NULL OR id > %(after)b::text)
 ORDER BY id LIMIT %(limit)b
"""

HAS_LOGS = """
-- Whether this job has an entry after this one.
SELECT 1 FROM taskito.task_logs WHERE job_id = %(id)b AND id > %(after)b LIMIT 1
"""

HOT = (SET_PROGRESS, ADD_LOG, HAS_LOGS)
