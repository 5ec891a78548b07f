"""Storing new jobs, inside a write transaction."""

from __future__ import annotations

from taskito_core import columns

_PLAIN = ("created_at", "scheduled_at", "delayed_at", *(column.name for column in columns.PLAIN))
#: What a call may change of a pending job that stands for it.
_CHANGED = tuple(column.name for column in columns.PLAIN if column.name not in ("id", "task_name", "queue"))
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
-- Which of these ids are stored; and (with a number) the ceilings of queues.
SELECT jobs.id, NULL FROM json_each(:ids) AS wanted JOIN jobs ON jobs.id = wanted.value
UNION ALL
SELECT queue, max_pending FROM queue_limits WHERE max_pending IS NOT NULL
"""

STATUSES = """
-- The status of each of these jobs that is stored.
SELECT id, status FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
"""

KEY_HOLDER = """
-- The live job that holds a unique key.
SELECT id FROM jobs INDEXED BY jobs_unique WHERE unique_key = :unique_key AND completed_at IS NULL
"""

LAST_CALL = """
-- The job that stands for the calls of a key, the call that was last, and until when it stands for others.
SELECT job_id, call_id, until FROM last_calls WHERE key = :key
"""

PUT_CALL = """
-- Note the last call of a key.
INSERT OR REPLACE INTO last_calls (key, job_id, call_id, called_at, until)
VALUES (:key, :job_id, :call_id, :now, :until)
"""

PUT_OFF = f"""
-- A pending job is put off, and is what a later call says. With a concurrency key it waits for a slot anew.
UPDATE jobs SET {", ".join(f"{name} = :{name}" for name in _CHANGED)},
       scheduled_at = :scheduled_at, delayed_at = :delayed_at, expires_at = :expires_at,
       expires_from = :expires_from, concurrency_key = :concurrency_key, concurrency = :concurrency,
       slot = NULL,
       gate = CASE WHEN gate = 'parents' THEN gate WHEN :concurrency_key IS NOT NULL THEN 'later' END
 WHERE id = :id AND status = 'pending'
RETURNING queue
"""

KEY_OF = """
-- The concurrency key of a pending job.
SELECT concurrency_key FROM jobs WHERE id = :id AND status = 'pending'
"""

PENDING = """
-- How many jobs of a queue are pending, counted no further than the limit.
SELECT count(*) FROM (
  SELECT 1 FROM jobs INDEXED BY jobs_claim WHERE status = 'pending' AND gate IS NULL AND queue = :queue
  UNION ALL
  SELECT 1 FROM jobs INDEXED BY jobs_gated WHERE gate IS NOT NULL AND queue = :queue
  LIMIT :limit)
"""

IS_AT_KEY = """
-- Whether a job waits for a slot of its key.
SELECT gate = 'key' FROM jobs WHERE id = :id
"""

TAKE_WRITE_LOCK = """
-- Changes nothing, but takes the write lock: a transaction that has read first cannot wait for other writers.
UPDATE jobs SET status = status WHERE 0
"""

HOT = (
    ENQUEUE,
    STORED,
    PENDING,
    STATUSES,
    KEY_HOLDER,
    IS_AT_KEY,
    LAST_CALL,
    PUT_CALL,
    PUT_OFF,
    KEY_OF,
)
