"""The statements about periodic tasks, one constant each. ``taskito.`` stands for the schema."""

from __future__ import annotations

from taskito_postgres.sql import NOW

#: Milliseconds without a registration after which an entry is nobody's any more.
FRESH = 600_000

_COLUMNS = """name, app, task_name, cron, timezone, catch_up, queue, payload, priority, max_retries, timeout,
       result_ttl, metadata, tags, next_run, last_run, enabled, last_registered"""

DECLARE = f"""
-- Compare and swap: an entry that another app declared not long ago is left as it is, and not returned.
INSERT INTO taskito.periodic_tasks AS p (name, app, task_name, cron, timezone, catch_up, queue, payload,
                                         priority, max_retries, timeout, result_ttl, metadata, tags,
                                         next_run, last_registered)
SELECT %(name)b, %(app)b, %(task_name)b, %(cron)b, %(timezone)b, %(catch_up)b, %(queue)b, %(payload)b,
       %(priority)b, %(max_retries)b::bigint, %(timeout)b::float8, %(result_ttl)b::float8, %(metadata)b::text,
       %(tags)b, %(next_run)b, {NOW}
    ON CONFLICT (name) DO UPDATE
   SET app = excluded.app, task_name = excluded.task_name, cron = excluded.cron, timezone = excluded.timezone,
       catch_up = excluded.catch_up, queue = excluded.queue, payload = excluded.payload,
       priority = excluded.priority, max_retries = excluded.max_retries, timeout = excluded.timeout,
       result_ttl = excluded.result_ttl, metadata = excluded.metadata, tags = excluded.tags,
       last_registered = excluded.last_registered,
       next_run = CASE WHEN (p.cron, p.timezone) = (excluded.cron, excluded.timezone) THEN p.next_run
                       ELSE excluded.next_run END
 WHERE p.app = excluded.app OR p.last_registered <= excluded.last_registered - {FRESH}
RETURNING p.name
"""

FORGET = f"""
DELETE FROM taskito.periodic_tasks
 WHERE app = %(app)b AND name <> ALL (%(names)b) AND last_registered <= {NOW} - {FRESH}
"""

PERIODIC = f"SELECT {_COLUMNS} FROM taskito.periodic_tasks ORDER BY name"

DUE = f"""
SELECT {_COLUMNS} FROM taskito.periodic_tasks
 WHERE app = %(app)b AND enabled AND next_run <= {NOW} ORDER BY next_run, name
"""

FIRE = """
UPDATE taskito.periodic_tasks SET last_run = next_run, next_run = %(next_run)b
 WHERE name = %(name)b AND enabled AND next_run = %(expected)b RETURNING name
"""

ENABLE = """
UPDATE taskito.periodic_tasks
   SET enabled = %(enabled)b::boolean, next_run = coalesce(%(next_run)b::bigint, next_run)
 WHERE name = %(name)b RETURNING name
"""
