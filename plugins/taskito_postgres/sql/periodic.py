"""Periodic tasks: which there are, which app declares them, and which slot fires next."""

from __future__ import annotations

from dataclasses import fields

from taskito_core import PeriodicEntry, columns
from taskito_postgres.sql.clock import NOW

#: Milliseconds without a registration after which an entry no longer belongs to its app.
FORGOTTEN_AFTER = 600_000

ENTRY_COLUMNS = columns.listed(field.name for field in fields(PeriodicEntry))
_STATE_COLUMNS = f"{ENTRY_COLUMNS}, next_run, last_run, enabled, registered_at, fired"

DECLARE = f"""
-- Compare and swap: an entry that another app declared not long ago is left as it is, and not returned. An
-- entry whose times changed fires next when its new ones say so.
INSERT INTO taskito.periodic_tasks AS p (name, app, task_name, cron, timezone, catch_up, queue, payload,
                                         priority, max_retries, timeout, result_ttl, metadata, tags,
                                         next_run, registered_at)
SELECT %(name)b, %(app)b, %(task_name)b, %(cron)b, %(timezone)b, %(catch_up)b, %(queue)b, %(payload)b,
       %(priority)b, %(max_retries)b::bigint, %(timeout)b::float8, %(result_ttl)b::float8, %(metadata)b::text,
       %(tags)b, %(next_run)b, {NOW}
    ON CONFLICT (name) DO UPDATE
   SET app = excluded.app, task_name = excluded.task_name, cron = excluded.cron, timezone = excluded.timezone,
       catch_up = excluded.catch_up, queue = excluded.queue, payload = excluded.payload,
       priority = excluded.priority, max_retries = excluded.max_retries, timeout = excluded.timeout,
       result_ttl = excluded.result_ttl, metadata = excluded.metadata, tags = excluded.tags,
       registered_at = excluded.registered_at,
       next_run = CASE WHEN (p.cron, p.timezone) = (excluded.cron, excluded.timezone) THEN p.next_run
                       ELSE excluded.next_run END,
       fired = CASE WHEN (p.cron, p.timezone) = (excluded.cron, excluded.timezone) THEN p.fired ELSE '' END
 WHERE p.app = excluded.app OR p.registered_at <= excluded.registered_at - {FORGOTTEN_AFTER}
RETURNING p.name
"""

FORGET = f"""
-- Entries that this app declares no more, and that no worker of an older version has declared lately.
DELETE FROM taskito.periodic_tasks
 WHERE app = %(app)b AND name <> ALL (%(names)b) AND registered_at <= {NOW} - {FORGOTTEN_AFTER}
"""

PERIODIC = f"""
-- Every entry, by name.
SELECT {_STATE_COLUMNS} FROM taskito.periodic_tasks ORDER BY name
"""

DUE = f"""
-- Entries of this app whose slot has come, earliest first.
SELECT {_STATE_COLUMNS} FROM taskito.periodic_tasks
 WHERE app = %(app)b AND enabled AND next_run <= {NOW} ORDER BY next_run, name
"""

FIRE = """
-- Compare and swap: of all that fire one slot, one gets a row.
UPDATE taskito.periodic_tasks
   SET last_run = CASE WHEN %(next_run)b > next_run THEN next_run ELSE last_run END,
       next_run = %(next_run)b, fired = %(fired)b
 WHERE name = %(name)b AND enabled AND next_run = %(expected)b RETURNING name
"""

ENABLE = """
-- Pause or resume; next_run stays as it is if none is given. No row: there is no such entry.
UPDATE taskito.periodic_tasks
   SET enabled = %(enabled)b::boolean, next_run = coalesce(%(next_run)b::bigint, next_run)
 WHERE name = %(name)b RETURNING name
"""
