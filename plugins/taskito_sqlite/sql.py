"""The statements of the hot path, one constant each, named after what it does: produce, claim and settle.

Those that look are in ``queries``, those that keep workers and the store in order in ``upkeep``. In all
three, what runs per job or per exchange binds ``?1`` style, because a tuple costs less than a dict. States
are literals: only so are the partial indexes used. INDEXED BY where a worse plan would be an outage.
"""

from __future__ import annotations

ENQUEUE_WHOLE = """
-- Insert a job of which more is said than ENQUEUE takes.
INSERT INTO jobs (id, task_name, queue, status, priority, created_at, scheduled_at, max_retries, timeout,
                  result_ttl, tags, metadata, payload, lane, gate, expires_at, unique_key, concurrency_key,
                  places, replay_of)
VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
"""

ENQUEUE = """
-- Insert a job; the same id again changes nothing, also if that job has finished.
INSERT INTO jobs (id, task_name, queue, status, priority, created_at, scheduled_at, max_retries, timeout,
                  result_ttl, tags, metadata, payload)
VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id) DO NOTHING
"""

WRITE_NOTHING = """
-- Takes the write lock, and nothing else.
UPDATE jobs SET status = status WHERE 0
"""

STORED = """
-- Which of these ids are stored.
SELECT jobs.id FROM json_each(?1) AS wanted JOIN jobs ON jobs.id = wanted.value
"""

PAUSED = """
-- Queues nothing is claimed from.
SELECT queue FROM paused_queues
"""

# ---- claim: a loose index scan over (queue, lane, priority), then one probe each ----

NEXT_LANE = """
-- The first lane of a queue after this one that holds claimable jobs.
SELECT lane FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane > ?2 ORDER BY lane LIMIT 1
"""

FIRST_PRIORITY = """
-- The highest priority in a lane.
SELECT priority FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 ORDER BY priority DESC LIMIT 1
"""

NEXT_PRIORITY = """
-- The next lower priority in a lane.
SELECT priority FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority < ?3
 ORDER BY priority DESC LIMIT 1
"""

DUE = """
-- The best due jobs of one lane and priority, in the order and shape of a Claim. ?6 is the token and ?4 the
-- moment of the claim that CLAIM is about to write.
SELECT id, ?6, task_name, queue, payload, retry_count, crashes, interruptions, max_retries, timeout,
       metadata, ?4, max(scheduled_at, created_at)
  FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
   AND scheduled_at <= ?4 AND (expires_at IS NULL OR expires_at > ?4)
 ORDER BY scheduled_at, id LIMIT ?5
"""

DUE_HEADS = """
-- As DUE, only what is needed to merge several lanes.
SELECT scheduled_at, id, lane FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
   AND scheduled_at <= ?4 AND (expires_at IS NULL OR expires_at > ?4)
 ORDER BY scheduled_at, id LIMIT ?5
"""

CLAIM = """
-- Mark what DUE has just returned: the same rows, because nobody else writes in this transaction.
UPDATE jobs SET status = 'running', worker = ?7, token = ?6, claimed_at = ?4
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_claim
                WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
                  AND scheduled_at <= ?4 AND (expires_at IS NULL OR expires_at > ?4)
                ORDER BY scheduled_at, id LIMIT ?5)
"""

DUE_IN_ORDER = """
-- As DUE for all priorities from ?3 down, with priority and due time to merge lanes by: passes over what is
-- not due one by one, which is cheaper than a step each when nearly every job has a priority of its own.
SELECT id, ?6, task_name, queue, payload, retry_count, crashes, interruptions, max_retries, timeout,
       metadata, ?4, max(scheduled_at, created_at), priority, scheduled_at
  FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority <= ?3
   AND scheduled_at <= ?4 AND (expires_at IS NULL OR expires_at > ?4)
 ORDER BY priority DESC, scheduled_at, id LIMIT ?5
"""

CLAIM_THESE = """
-- Mark what DUE_IN_ORDER has just returned.
UPDATE jobs SET status = 'running', worker = ?2, token = ?3, claimed_at = ?4
 WHERE id IN (SELECT value FROM json_each(?1))
"""

NEXT_DUE = """
-- When the first job of one lane and priority falls due. What has expired by ?4 never will.
SELECT scheduled_at FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
   AND (expires_at IS NULL OR expires_at > ?4)
 ORDER BY scheduled_at LIMIT 1
"""

EARLIEST = """
-- When the first job of a lane falls due: one look per priority.
WITH RECURSIVE steps (priority) AS (
  SELECT (SELECT priority FROM jobs INDEXED BY jobs_claim
           WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2
           ORDER BY priority DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT jobs.priority FROM jobs INDEXED BY jobs_claim
           WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2
             AND jobs.priority < steps.priority
           ORDER BY jobs.priority DESC LIMIT 1)
    FROM steps WHERE steps.priority IS NOT NULL LIMIT 200
)
SELECT min((SELECT scheduled_at FROM jobs INDEXED BY jobs_claim
             WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2
               AND jobs.priority = steps.priority AND (expires_at IS NULL OR expires_at > ?3)
             ORDER BY scheduled_at LIMIT 1))
  FROM steps WHERE steps.priority IS NOT NULL
"""

# ---- settle: the token is the fence; a finished row keeps it, so the status is part of the condition ----

COMPLETE = """
-- Record a result.
UPDATE jobs SET status = 'complete', result = ?3, started_at = ?4, completed_at = ?5,
                prune_at = ?5 + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = ?1 AND token = ?2 AND status = 'running'
"""

FINISHED_WITH = """
-- Of these ids, the finished ones with their token and status.
SELECT jobs.id, jobs.token, jobs.status FROM json_each(?1) AS wanted JOIN jobs ON jobs.id = wanted.value
 WHERE jobs.completed_at IS NOT NULL
"""

FAILED_ATTEMPT = """
-- Keep what went wrong in an attempt that is still on the row. Before RETRY or BURY: they raise counters.
INSERT OR IGNORE INTO job_errors (job_id, token, attempt, kind, type, message, traceback, worker, failed_at)
SELECT id, token, retry_count + crashes + interruptions + 1, :kind, :type, :message, :traceback, worker, :now
  FROM jobs WHERE id = :id AND token = :token AND status = 'running'
"""

RETRY = """
-- Put a failed attempt's job back in line for later. It was started, so it expires no more.
UPDATE jobs SET status = 'pending', token = NULL, scheduled_at = :due, error = :error, expires_at = NULL,
                started_at = :started_at, retry_count = retry_count + :retry, crashes = crashes + :crash,
                interruptions = interruptions + :interruption
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue, concurrency_key
"""

RETRIED_WITH = """
-- Was this very failure recorded earlier? A rescue's row under the same token is another failure.
SELECT 1 FROM job_errors
 WHERE job_id = :id AND token = :token AND kind = :kind AND type = :type AND message = :message
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

DEAD_LETTER = """
-- The self-contained letter of a job that BURY has just ended.
INSERT OR REPLACE INTO dead_letter
       (job_id, task_name, queue, reason, error, traceback, priority, retry_count, max_retries, crashes,
        interruptions, timeout, result_ttl, metadata, tags, options, created_at, failed_at, payload)
SELECT id, task_name, queue, :reason, error, :traceback, priority, retry_count, max_retries, crashes,
       interruptions, timeout, result_ttl, metadata, tags, options, created_at, completed_at, payload
  FROM jobs WHERE id = :id
"""

RELEASE = """
-- Hand a claim back as it was, perhaps into another lane, perhaps for later.
UPDATE jobs SET status = 'pending', token = NULL, lane = coalesce(:lane, lane),
                scheduled_at = coalesce(:due, scheduled_at),
                expires_at = CASE WHEN :due IS NULL THEN expires_at END
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue, concurrency_key
"""

STOP = """
-- End a running job as cancelled, because somebody asked for it.
UPDATE jobs SET status = 'cancelled', completed_at = :now, error = :error, started_at = :started_at,
                prune_at = :now + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue
"""

AWAITED = """
-- Finished jobs whose waiters are to be told.
SELECT id, awaited FROM jobs INDEXED BY jobs_awaited
 WHERE awaited IS NOT NULL AND completed_at IS NOT NULL
"""

TOLD = """
-- Forget the waiters that AWAITED returned.
UPDATE jobs SET awaited = NULL
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_awaited
                WHERE awaited IS NOT NULL AND completed_at IS NOT NULL)
"""

# ---- who waits for what ----

WORKER = """
-- Is it alive, and marked as waiting?
SELECT status = 'alive', waiting FROM workers WHERE worker_id = ?1
"""

SET_WAITING = """
-- Say whether a worker is to be rung when jobs arrive.
UPDATE workers SET waiting = ?2 WHERE worker_id = ?1
"""

SET_DOORBELL = """
-- Where a worker hears, and of which queues.
UPDATE workers SET doorbell = ?2, listens = ?3, waiting = 1 WHERE worker_id = ?1
"""

LISTENERS = """
-- Every live worker: who it is, whether it waits, where it hears of what, and when it last beat.
SELECT worker_id, waiting, doorbell, listens, last_seen
  FROM workers INDEXED BY workers_alive WHERE status = 'alive'
"""

#: What runs per batch of jobs: a test forbids these to scan a table.
HOT = (
    *("ENQUEUE", "STORED", "NEXT_LANE", "FIRST_PRIORITY", "NEXT_PRIORITY", "DUE", "DUE_HEADS", "CLAIM"),
    *(
        "DUE_IN_ORDER",
        "CLAIM_THESE",
        "NEXT_DUE",
        "EARLIEST",
        "PAUSED",
        "COMPLETE",
        "FINISHED_WITH",
        "FAILED_ATTEMPT",
        "RETRY",
    ),
    *("RETRIED_WITH", "BURY", "DEAD_LETTER", "RELEASE", "STOP", "AWAITED", "TOLD", "WORKER"),
    "SET_WAITING",
)
