"""Storing new jobs, inside a write transaction."""

from __future__ import annotations

from taskito_core import columns

_PLAIN = ("created_at", "scheduled_at", "delayed_at", *(column.name for column in columns.PLAIN))
_FULL = (*_PLAIN, "gate", "expires_at", "expires_from", *(column.name for column in columns.GATED))

ENQUEUE = f"""
-- Insert a plain job. An id that is stored already, live or finished, inserts nothing.
INSERT INTO jobs ({columns.listed(_PLAIN)}, status)
VALUES ({", ".join("?" * len(_PLAIN))}, 'pending')
ON CONFLICT (id) DO NOTHING
"""

ENQUEUE_FULL = f"""
-- Insert a job with a lane, an expiry, keys or parents. Its id must not be stored: see STORED.
INSERT INTO jobs ({columns.listed(_FULL)}, status)
VALUES ({", ".join("?" * len(_FULL))}, 'pending')
"""

STORED = """
-- Which of these ids are stored.
SELECT jobs.id FROM json_each(:ids) AS wanted JOIN jobs ON jobs.id = wanted.value
"""

STATUSES = """
-- The status of each of these jobs that is stored.
SELECT id, status FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
"""

KEY_HOLDER = """
-- The live job that holds a unique key.
SELECT id FROM jobs INDEXED BY jobs_unique WHERE unique_key = :unique_key AND completed_at IS NULL
"""

IS_AT_KEY = """
-- Whether a job waits for a slot of its key.
SELECT gate = 'key' FROM jobs WHERE id = :id
"""

TAKE_WRITE_LOCK = """
-- Changes nothing, but takes the write lock: a transaction that has read first cannot wait for other writers.
UPDATE jobs SET status = status WHERE 0
"""

HOT = (ENQUEUE, STORED, STATUSES, KEY_HOLDER, IS_AT_KEY)
