"""Periodic tasks: declared by workers, fired by compare and swap."""

from __future__ import annotations

from dataclasses import fields

from taskito_core import PeriodicEntry, columns

_ENTRY = tuple(field.name for field in fields(PeriodicEntry))

#: The fields of a PeriodicEntry, then of its PeriodicState.
_COLUMNS = columns.listed((*_ENTRY, "next_run", "last_run", "enabled", "registered_at", "fired"))
_GIVEN = (*_ENTRY, "next_run")

DECLARED_BY_OTHERS = """
-- A row if another app has declared this name lately.
SELECT app FROM periodic_tasks WHERE name = :name AND app <> :app AND registered_at > :forgotten
"""

DECLARE = f"""
-- A new entry begins enabled; a known one keeps its state, and its next run unless its times changed.
INSERT INTO periodic_tasks ({columns.listed(_GIVEN)}, registered_at)
VALUES ({columns.listed(f":{name}" for name in _GIVEN)}, :now)
ON CONFLICT (name) DO UPDATE SET
       next_run = CASE WHEN cron = excluded.cron AND timezone = excluded.timezone THEN next_run
                       ELSE excluded.next_run END,
       fired = CASE WHEN cron = excluded.cron AND timezone = excluded.timezone THEN fired ELSE '' END,
       {columns.listed(f"{name} = excluded.{name}" for name in _ENTRY if name != "name")},
       registered_at = excluded.registered_at
"""

FORGET = """
-- The app's entries that it did not name just now and that no worker has declared lately.
DELETE FROM periodic_tasks
 WHERE app = :app AND registered_at <= :forgotten AND name NOT IN (SELECT value FROM json_each(:names))
"""

DUE = f"""
-- The app's enabled entries that are due, earliest first.
SELECT {_COLUMNS} FROM periodic_tasks
 WHERE app = :app AND enabled AND next_run <= :now ORDER BY next_run, name
"""

FIRE = """
-- Compare and swap: only one worker finds the slot as it was.
UPDATE periodic_tasks
   SET last_run = CASE WHEN :next_run > next_run THEN next_run ELSE last_run END,
       next_run = :next_run, fired = :fired
 WHERE name = :name AND next_run = :expected AND enabled
"""

PERIODIC = f"""
-- Every entry, by name.
SELECT {_COLUMNS} FROM periodic_tasks ORDER BY name
"""

ENABLE = """
-- Pause or resume an entry; its next run stays if :next_run is NULL.
UPDATE periodic_tasks SET enabled = :enabled, next_run = coalesce(:next_run, next_run) WHERE name = :name
"""
