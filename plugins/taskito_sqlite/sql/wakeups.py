"""Who waits for what: workers for jobs, callers for the end of a job."""

from __future__ import annotations

LIVE_WORKERS = """
-- Every live worker: whether it waits, the address and the queues of its Wakeups, and its last heartbeat. And
-- (without a worker) the ceilings of queues, because who enqueues asks for both.
SELECT worker_id, waiting, notify_address, notify_queues, last_seen
  FROM workers INDEXED BY workers_alive WHERE status = 'alive'
UNION ALL
SELECT NULL, max_pending, NULL, queue, 0 FROM queue_limits WHERE max_pending IS NOT NULL
"""

SET_ADDRESS = """
-- Store where a worker is notified, and of which queues. It counts as waiting until its next exchange.
UPDATE workers SET notify_address = :address, notify_queues = :queues, waiting = 1 WHERE worker_id = :worker
"""

WORKER_ADDRESS = """
-- Where a live worker is notified.
SELECT notify_address FROM workers
 WHERE worker_id = :worker AND status = 'alive' AND notify_address IS NOT NULL
"""

IS_AWAITED = """
-- Whether a job has ended, and the addresses of those who wait for that, one a line. No row: not stored.
SELECT completed_at IS NOT NULL, awaited FROM jobs WHERE id = :id
"""

AWAIT = """
-- Ask to be notified at the end of a job; no row: it has ended, or is not stored.
UPDATE jobs SET awaited = coalesce(awaited || char(10), '') || :address
 WHERE id = :id AND completed_at IS NULL
RETURNING id
"""

ARE_AWAITED = """
-- Of these jobs: whether each has ended, and whether this address is among those that wait for that.
SELECT id, completed_at IS NOT NULL, instr(coalesce(awaited, ''), :address) > 0 FROM jobs
 WHERE id IN (SELECT value FROM json_each(:ids))
"""

AWAIT_MANY = """
-- Ask to be notified at the end of these jobs; those that have ended are left as they are.
UPDATE jobs SET awaited = coalesce(awaited || char(10), '') || :address
 WHERE id IN (SELECT value FROM json_each(:ids)) AND completed_at IS NULL
   AND instr(coalesce(awaited, ''), :address) = 0
"""

FINISHED_AWAITED = """
-- Finished jobs whose waiters are still to be notified, with the addresses, one a line.
SELECT id, awaited FROM jobs INDEXED BY jobs_awaited
 WHERE awaited IS NOT NULL AND completed_at IS NOT NULL
"""

CLEAR_AWAITED = """
-- Forget the waiters that FINISHED_AWAITED has just returned.
UPDATE jobs SET awaited = NULL
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_awaited
                WHERE awaited IS NOT NULL AND completed_at IS NOT NULL)
"""

ENDED = """
-- Which of these jobs are stored, and whether they have ended.
SELECT id, completed_at IS NOT NULL FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
"""

HOT = (
    SET_ADDRESS,
    WORKER_ADDRESS,
    IS_AWAITED,
    AWAIT,
    ARE_AWAITED,
    AWAIT_MANY,
    FINISHED_AWAITED,
    CLEAR_AWAITED,
    ENDED,
)
