"""The statements about periodic tasks. ``taskito.`` stands for the schema, as in ``sql``."""

from __future__ import annotations

import json
from typing import Any

from taskito_core import PeriodicEntry, PeriodicState
from taskito_postgres.sql import NOW

#: Milliseconds after which an entry that nobody declares is forgotten, or may be taken over.
FORGOTTEN = 10 * 60 * 1000

_COLUMNS = """name, app, task_name, cron, timezone, catch_up, queue, payload, priority, max_retries, timeout,
       result_ttl, metadata, tags, next_run, last_run, enabled, last_registered"""

DECLARE = f"""
-- A new entry begins enabled; a known one keeps its state, and its next run unless its times changed. One
-- that another app declared a moment ago is left alone: no row.
INSERT INTO taskito.periodic_tasks AS p
       (name, app, task_name, cron, timezone, catch_up, queue, payload, priority, max_retries, timeout,
        result_ttl, metadata, tags, next_run, last_registered)
SELECT %(name)b::text, %(app)b::text, %(task_name)b::text, %(cron)b::text, %(timezone)b::text,
       %(catch_up)b::text, %(queue)b::text, %(payload)b::bytea, %(priority)b::bigint, %(max_retries)b::bigint,
       %(timeout)b::float8, %(result_ttl)b::float8, %(metadata)b::text, %(tags)b::text, %(next_run)b::bigint,
       {NOW}
    ON CONFLICT (name) DO UPDATE SET
       next_run = CASE WHEN p.cron = excluded.cron AND p.timezone = excluded.timezone THEN p.next_run
                       ELSE excluded.next_run END,
       app = excluded.app, task_name = excluded.task_name, cron = excluded.cron, timezone = excluded.timezone,
       catch_up = excluded.catch_up, queue = excluded.queue, payload = excluded.payload,
       priority = excluded.priority, max_retries = excluded.max_retries, timeout = excluded.timeout,
       result_ttl = excluded.result_ttl, metadata = excluded.metadata, tags = excluded.tags,
       last_registered = excluded.last_registered
     WHERE p.app = excluded.app OR p.last_registered <= excluded.last_registered - {FORGOTTEN}
RETURNING p.name
"""

FORGET = f"""
DELETE FROM taskito.periodic_tasks
 WHERE app = %(app)b AND last_registered <= {NOW} - {FORGOTTEN} AND name <> ALL (%(names)b)
"""

DUE = f"""
SELECT {_COLUMNS} FROM taskito.periodic_tasks
 WHERE app = %(app)b AND enabled AND next_run <= {NOW} ORDER BY next_run, name
"""

FIRE = """
-- Only one worker finds the slot as it was.
UPDATE taskito.periodic_tasks SET last_run = next_run, next_run = %(next_run)b
 WHERE name = %(name)b AND next_run = %(slot)b AND enabled
RETURNING name
"""

ALL = f"SELECT {_COLUMNS} FROM taskito.periodic_tasks ORDER BY name"

ENABLE = """
UPDATE taskito.periodic_tasks
   SET enabled = %(enabled)b::boolean, next_run = coalesce(%(next_run)b::bigint, next_run)
 WHERE name = %(name)b RETURNING name
"""


def state(row: tuple[Any, ...]) -> PeriodicState:
    """One row as it is read by DUE and ALL."""
    *declared, tags, next_run, last_run, enabled, registered_at = row
    names = ("name", "app", "task_name", "cron", "timezone", "catch_up", "queue", "payload", "priority")
    more = ("max_retries", "timeout", "result_ttl", "metadata")
    values = dict(zip((*names, *more), declared, strict=True))
    entry = PeriodicEntry(**values, tags=tuple(json.loads(tags)))
    return PeriodicState(entry, next_run, last_run, enabled, registered_at)
