"""The statements about what jobs said while they ran. ``taskito.`` stands for the schema, as in ``sql``."""

from __future__ import annotations

PROGRESS = """
-- The newest progress of each. A row that another transaction holds is left as it is: it says the next time.
WITH said AS (
    SELECT l.ctid, p.progress FROM unnest(%(ids)b, %(progress)b) AS p(id, progress)
     CROSS JOIN LATERAL (SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = p.id LIMIT 1
                            FOR UPDATE SKIP LOCKED) l
)
UPDATE taskito.jobs_live j SET progress = s.progress FROM said s WHERE j.ctid = s.ctid
RETURNING j.id
"""

PROGRESS_AFTER = """
-- The same of jobs that have ended meanwhile.
UPDATE taskito.jobs_done j SET progress = p.progress
  FROM unnest(%(ids)b, %(progress)b) AS p(id, progress) WHERE j.id = p.id
"""

LOG = """
-- Lines of jobs that are stored; the same line again changes nothing.
INSERT INTO taskito.task_logs (id, job_id, task_name, token, logged_at, level, message, extra)
SELECT n.id, n.job_id, n.task_name, n.token, n.logged_at, n.level, n.message, n.extra
  FROM unnest(%(ids)b, %(job_ids)b, %(task_names)b, %(tokens)b, %(moments)b, %(levels)b, %(messages)b,
              %(extras)b) AS n(id, job_id, task_name, token, logged_at, level, message, extra)
 WHERE (SELECT true FROM taskito.jobs j WHERE j.id = n.job_id LIMIT 1)
    ON CONFLICT (id) DO NOTHING
"""

LISTENED_TO = """
-- Of these jobs, those that somebody waits for.
SELECT id FROM taskito.jobs_live WHERE id = ANY (%(ids)b) AND awaited
"""

LOGS = """
SELECT id, job_id, task_name, token, logged_at, level, message, extra FROM taskito.task_logs
 WHERE (%(job_id)b::text IS NULL OR job_id = %(job_id)b::text)
   AND (%(task_name)b::text IS NULL OR task_name = %(task_name)b::text)
   AND (%(levels)b::text[] IS NULL OR level = ANY (%(levels)b::text[]))
   AND (%(since)b::bigint IS NULL OR logged_at >= %(since)b::bigint)
   AND (%(after)b::text IS NULL OR id > %(after)b::text)
 ORDER BY id LIMIT %(limit)b
"""

HAS_NEWS = """
SELECT EXISTS (SELECT 1 FROM taskito.task_logs
                WHERE job_id = %(id)b AND (%(after)b::text IS NULL OR id > %(after)b::text))
    OR NOT EXISTS (SELECT 1 FROM taskito.jobs_live WHERE id = %(id)b)
"""
