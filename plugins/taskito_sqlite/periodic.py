"""Periodic tasks in the table: declared by workers, fired by compare and swap."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from taskito_core import NewJob, PeriodicEntry, PeriodicState
from taskito_sqlite import produce

#: Milliseconds after which an entry that nobody declares is forgotten, or may be taken over.
FORGOTTEN = 10 * 60 * 1000

_COLUMNS = (
    "name, app, task_name, cron, timezone, catch_up, queue, payload, options, enabled, last_run, next_run, "
    "seen_at"
)

FOREIGN = "SELECT app FROM periodic_tasks WHERE name = ?1 AND app <> ?2 AND seen_at > ?3"

DECLARE = """
-- A new entry begins enabled; a known one keeps its state, and its next run unless its times changed.
INSERT INTO periodic_tasks (name, app, task_name, cron, timezone, catch_up, queue, payload, options, next_run,
                            seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (name) DO UPDATE SET
  next_run = CASE WHEN cron = excluded.cron AND timezone = excluded.timezone THEN next_run
                  ELSE excluded.next_run END,
  app = excluded.app, task_name = excluded.task_name, cron = excluded.cron, timezone = excluded.timezone,
  catch_up = excluded.catch_up, queue = excluded.queue, payload = excluded.payload,
  options = excluded.options, seen_at = excluded.seen_at
"""

FORGET = """
DELETE FROM periodic_tasks
 WHERE app = ?1 AND seen_at <= ?2 AND name NOT IN (SELECT value FROM json_each(?3))
"""

DUE = f"""
SELECT {_COLUMNS} FROM periodic_tasks WHERE app = ?1 AND enabled AND next_run <= ?2 ORDER BY next_run, name
"""

FIRE = """
-- Only one worker finds the slot as it was.
UPDATE periodic_tasks SET last_run = next_run, next_run = ?3 WHERE name = ?1 AND next_run = ?2 AND enabled
"""

ALL = f"SELECT {_COLUMNS} FROM periodic_tasks ORDER BY name"

ENABLE = "UPDATE periodic_tasks SET enabled = ?2, next_run = coalesce(?3, next_run) WHERE name = ?1"


def register(
    connection: sqlite3.Connection, app: str, entries: Sequence[tuple[PeriodicEntry, int]], now: int
) -> list[str]:
    """Declare an app's entries; the names that belong to others."""
    refused = []
    for entry, next_run in entries:
        if connection.execute(FOREIGN, (entry.name, app, now - FORGOTTEN)).fetchone() is not None:
            refused.append(entry.name)
            continue
        options = json.dumps(
            [entry.priority, entry.max_retries, entry.timeout, entry.result_ttl, entry.metadata, entry.tags]
        )
        where = (entry.name, app, entry.task_name, entry.cron, entry.timezone, entry.catch_up, entry.queue)
        connection.execute(DECLARE, (*where, entry.payload, options, next_run, now))
    names = json.dumps([entry.name for entry, _ in entries])
    connection.execute(FORGET, (app, now - FORGOTTEN, names))
    return refused


def due(connection: sqlite3.Connection, app: str, now: int) -> list[PeriodicState]:
    return [_state(row) for row in connection.execute(DUE, (app, now))]


def fire(
    connection: sqlite3.Connection, state: PeriodicState, jobs: Sequence[NewJob], next_run: int, now: int
) -> produce.Stored | None:
    """Move on and store the slots' jobs; None if somebody else did."""
    if not connection.execute(FIRE, (state.entry.name, state.next_run, next_run)).rowcount:
        return None
    return produce.insert_again(connection, jobs, now)


def everything(connection: sqlite3.Connection) -> list[PeriodicState]:
    return [_state(row) for row in connection.execute(ALL)]


def enable(connection: sqlite3.Connection, name: str, enabled: bool, next_run: int | None) -> bool:
    return connection.execute(ENABLE, (name, enabled, next_run)).rowcount == 1


def _state(row: tuple[Any, ...]) -> PeriodicState:
    name, app, task_name, cron, timezone, catch_up, queue, payload, options, *state = row
    enabled, last_run, next_run, seen_at = state
    priority, max_retries, timeout, result_ttl, metadata, tags = json.loads(options)
    entry = PeriodicEntry(
        name=name,
        app=app,
        task_name=task_name,
        cron=cron,
        timezone=timezone,
        catch_up=catch_up,
        queue=queue,
        payload=payload,
        priority=priority,
        max_retries=max_retries,
        timeout=timeout,
        result_ttl=result_ttl,
        metadata=metadata,
        tags=tuple(tags),
    )
    return PeriodicState(entry, next_run, last_run, bool(enabled), seen_at)
