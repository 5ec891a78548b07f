"""Recording outcomes. The token is the fence. A finished row keeps its token: so the status is tested too."""

from __future__ import annotations

from taskito_core import columns

_COPIED = columns.listed(columns.COPIED)

COMPLETE = """
-- Record a result. ?1 job, ?2 token, ?3 result, ?4 when it started, ?5 now.
UPDATE jobs SET status = 'complete', result = ?3, error = NULL, started_at = ?4, completed_at = ?5,
                prune_at = ?5 + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = ?1 AND token = ?2 AND status = 'running'
"""

RETRY = """
-- Make the job of a failed attempt pending again, due later. It has started, so it expires no more.
UPDATE jobs SET status = 'pending', token = NULL, scheduled_at = :due, delayed_at = :now, error = :error,
                expires_at = NULL, started_at = :started_at, retry_count = retry_count + :retry,
                crashes = crashes + :crash, interruptions = interruptions + :interruption
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue, concurrency_key
"""

BURY = """
-- End a job as dead.
UPDATE jobs SET status = 'dead', completed_at = :now, error = :error, started_at = :started_at,
                retry_count = retry_count + :retry, crashes = crashes + :crash,
                interruptions = interruptions + :interruption,
                prune_at = :now + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue
"""

RELEASE = """
-- Hand a claim back uncharged, perhaps into another lane. Without a delay (:due is NULL) it is due when it
-- was before; with one it expires no more.
UPDATE jobs SET status = 'pending', token = NULL, lane = coalesce(:lane, lane),
                scheduled_at = coalesce(:due, scheduled_at),
                delayed_at = CASE WHEN :due IS NULL THEN delayed_at ELSE :now END,
                expires_at = CASE WHEN :due IS NULL THEN expires_at END
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue, concurrency_key
"""

STOP = """
-- End a running job as cancelled.
UPDATE jobs SET status = 'cancelled', completed_at = :now, error = :error, started_at = :started_at,
                prune_at = :now + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue
"""

ADD_ERROR = """
-- Keep the error of an attempt that is still on its row. Before RETRY, BURY or RESCUE: they raise counters.
INSERT OR IGNORE INTO job_errors (job_id, token, attempt, kind, type, message, traceback, worker, failed_at)
SELECT id, token, retry_count + crashes + interruptions + 1, :kind, :type, :message, :traceback, worker, :now
  FROM jobs WHERE id = :id AND token = :token AND status = 'running'
"""

ADD_LETTER = f"""
-- Write the dead letter of a job that BURY has just ended.
INSERT OR REPLACE INTO dead_letter
       (job_id, reason, traceback, failed_at, {_COPIED})
SELECT id, :reason, :traceback, completed_at, {_COPIED}
  FROM jobs WHERE id = :id
"""

CANCEL_REQUESTED = """
-- A row if this running attempt was asked to cancel.
SELECT 1 FROM jobs WHERE id = :id AND token = :token AND status = 'running' AND cancel_force IS NOT NULL
"""

ALREADY_FINISHED = """
-- Of these ids, the finished jobs with token and status: an earlier sending may have recorded the outcome.
SELECT jobs.id, jobs.token, jobs.status FROM json_each(:ids) AS wanted JOIN jobs ON jobs.id = wanted.value
 WHERE jobs.completed_at IS NOT NULL
"""

ALREADY_RETRIED = """
-- A row if this very error is kept already. A rescue keeps another one under the same token.
SELECT 1 FROM job_errors
 WHERE job_id = :id AND token = :token AND kind = :kind AND type = :type AND message = :message
"""

HOT = (
    *(COMPLETE, RETRY, BURY, RELEASE, STOP, ADD_ERROR, ADD_LETTER),
    *(CANCEL_REQUESTED, ALREADY_FINISHED, ALREADY_RETRIED),
)
