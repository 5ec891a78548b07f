"""Every statement, one constant each, named after what it does.

Those that run per job or per exchange bind ``?1`` style, because a tuple costs less than a dict. States are
literals: only so are the partial indexes used. INDEXED BY where a worse plan would be an outage.
"""

from __future__ import annotations

JOB_COLUMNS = """
  id, task_name, queue, status, payload, result, error, priority, created_at, scheduled_at, claimed_at,
  started_at, completed_at, retry_count, max_retries, crashes, interruptions, timeout, result_ttl, worker,
  token, metadata, tags
"""

ENQUEUE = """
-- Insert a job; the same id again changes nothing, also if that job has finished.
INSERT INTO jobs (id, task_name, queue, status, priority, created_at, scheduled_at, max_retries, timeout,
                  result_ttl, tags, metadata, payload)
VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id) DO NOTHING
"""

STORED = """
-- Which of these ids are stored.
SELECT jobs.id FROM json_each(?1) AS wanted JOIN jobs ON jobs.id = wanted.value
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
       metadata, ?4
  FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
   AND scheduled_at <= ?4
 ORDER BY scheduled_at, id LIMIT ?5
"""

DUE_HEADS = """
-- As DUE, only what is needed to merge several lanes.
SELECT scheduled_at, id, lane FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
   AND scheduled_at <= ?4
 ORDER BY scheduled_at, id LIMIT ?5
"""

CLAIM = """
-- Mark what DUE has just returned: the same rows, because nobody else writes in this transaction.
UPDATE jobs SET status = 'running', worker = ?7, token = ?6, claimed_at = ?4
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_claim
                WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
                  AND scheduled_at <= ?4
                ORDER BY scheduled_at, id LIMIT ?5)
"""

DUE_IN_ORDER = """
-- As DUE for all priorities from ?3 down, with priority and due time to merge lanes by: passes over what is
-- not due one by one, which is cheaper than a step each when nearly every job has a priority of its own.
SELECT id, ?6, task_name, queue, payload, retry_count, crashes, interruptions, max_retries, timeout,
       metadata, ?4, priority, scheduled_at
  FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority <= ?3
   AND scheduled_at <= ?4
 ORDER BY priority DESC, scheduled_at, id LIMIT ?5
"""

CLAIM_THESE = """
-- Mark what DUE_IN_ORDER has just returned.
UPDATE jobs SET status = 'running', worker = ?2, token = ?3, claimed_at = ?4
 WHERE id IN (SELECT value FROM json_each(?1))
"""

NEXT_DUE = """
-- When the first job of one lane and priority falls due.
SELECT scheduled_at FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL AND queue = ?1 AND lane = ?2 AND priority = ?3
 ORDER BY scheduled_at LIMIT 1
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
 WHERE jobs.status IN ('complete', 'dead')
"""

FAILED_ATTEMPT = """
-- Keep what went wrong in an attempt that is still on the row. Before RETRY or BURY: they raise counters.
INSERT OR IGNORE INTO job_errors (job_id, token, attempt, kind, type, message, traceback, worker, failed_at)
SELECT id, token, retry_count + crashes + interruptions + 1, :kind, :type, :message, :traceback, worker, :now
  FROM jobs WHERE id = :id AND token = :token AND status = 'running'
"""

RETRY = """
-- Put a failed attempt's job back in line for later.
UPDATE jobs SET status = 'pending', token = NULL, slot = NULL, scheduled_at = :due, error = :error,
                started_at = :started_at, retry_count = retry_count + :retry, crashes = crashes + :crash,
                interruptions = interruptions + :interruption
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue
"""

RETRIED_WITH = """
-- Was this very failure recorded earlier? A rescue's row under the same token is another failure.
SELECT 1 FROM job_errors
 WHERE job_id = :id AND token = :token AND kind = :kind AND type = :type AND message = :message
"""

BURY = """
-- End a job as dead.
UPDATE jobs SET status = 'dead', slot = NULL, completed_at = :now, error = :error, started_at = :started_at,
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
-- Hand a claim back as it was, perhaps into another lane.
UPDATE jobs SET status = 'pending', token = NULL, slot = NULL, lane = coalesce(:lane, lane)
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

# ---- workers ----

REGISTER = """
-- Add a worker, alive. It counts as waiting until its first exchange says otherwise.
INSERT INTO workers (worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen,
                     waiting, doorbell, listens)
VALUES (:id, :host, :pid, :app, :queues, :tasks, :procs, :version, :now, :now, 1, :doorbell, :listens)
"""

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

HEARTBEAT = """
-- One beat.
UPDATE workers SET beat = beat + 1, last_seen = ?2 WHERE worker_id = ?1 AND status = 'alive'
"""

PEERS = """
-- The other live workers.
SELECT worker_id, beat, host FROM workers INDEXED BY workers_alive WHERE status = 'alive' AND worker_id <> ?1
"""

RUNS = """
-- What a worker runs, as the store sees it.
SELECT id, token FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND worker = ?1
"""

DECLARE_DEAD = """
-- Only if its beat stands where the rescuer saw it standing.
UPDATE workers SET status = 'dead', waiting = 0, doorbell = NULL
 WHERE worker_id = ?1 AND beat = ?2 AND status = 'alive'
"""

ORPHANS = """
-- Running jobs whose worker is not alive.
SELECT id, token, worker FROM jobs INDEXED BY jobs_running
 WHERE status = 'running'
   AND NOT EXISTS (SELECT 1 FROM workers WHERE worker_id = jobs.worker AND workers.status = 'alive')
"""

RESCUE = """
-- Take a running job back from a worker that is gone.
UPDATE jobs SET status = 'pending', token = NULL, slot = NULL, error = :error,
                interruptions = interruptions + 1
 WHERE id = :id AND token = :token AND status = 'running'
RETURNING queue
"""

UNREGISTER = """
-- A worker takes its leave; also one that was thought dead.
UPDATE workers SET status = 'stopped', waiting = 0, doorbell = NULL WHERE worker_id = ?1
"""

RELEASE_ALL = """
-- Hand back everything a worker still runs.
UPDATE jobs INDEXED BY jobs_running SET status = 'pending', token = NULL, slot = NULL
 WHERE status = 'running' AND worker = ?1
RETURNING queue
"""

FORGET_WORKERS = """
-- Workers gone since before ?1.
DELETE FROM workers WHERE status <> 'alive' AND last_seen <= ?1
"""

# ---- prune: the jobs first, then what belongs to them ----

PRUNE = """
-- Finished jobs whose time to be kept has passed, longest first.
DELETE FROM jobs
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_prune
                WHERE prune_at IS NOT NULL AND prune_at <= ?1 ORDER BY prune_at LIMIT ?2)
RETURNING id
"""

PRUNE_ERRORS = "DELETE FROM job_errors WHERE job_id IN (SELECT value FROM json_each(?1))"
PRUNE_LETTERS = "DELETE FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(?1))"
PRUNE_LOGS = "DELETE FROM task_logs WHERE job_id IN (SELECT value FROM json_each(?1))"
PRUNE_DEPENDENCIES = "DELETE FROM job_dependencies WHERE job_id IN (SELECT value FROM json_each(?1))"
PRUNE_REPLAYS = "DELETE FROM replay_history WHERE job_id IN (SELECT value FROM json_each(?1))"
PRUNE_WITH_JOB = (PRUNE_ERRORS, PRUNE_LETTERS, PRUNE_LOGS, PRUNE_DEPENDENCIES, PRUNE_REPLAYS)

# ---- look ----

GET = f"""
-- Jobs by id.
SELECT {JOB_COLUMNS} FROM jobs WHERE id IN (SELECT value FROM json_each(?1))
"""

WAITED_FOR = """
-- Is it over, and who waits for it?
SELECT completed_at IS NOT NULL, awaited FROM jobs WHERE id = ?1
"""

AWAIT = """
-- Ask to be rung at the end of a job that has not ended.
UPDATE jobs SET awaited = coalesce(awaited || char(10), '') || ?2
 WHERE id = ?1 AND completed_at IS NULL
RETURNING id
"""

MATCHES = """
  (:queue IS NULL OR queue = :queue)
  AND (:task_name IS NULL OR task_name = :task_name)
  AND created_at >= :created_after AND created_at < :created_before
  AND (:finished_after IS NULL OR completed_at >= :finished_after)
  AND (:finished_before IS NULL OR completed_at < :finished_before)
  AND (:error IS NULL OR instr(error, :error) > 0)
  AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value = :tag))
  AND (:metadata IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:metadata) AS want
         WHERE NOT EXISTS (
           SELECT 1
             FROM json_each(CASE WHEN json_valid(jobs.metadata) THEN jobs.metadata ELSE '{}' END) AS have
            WHERE have.key = want.key AND have.value IS want.value
              AND replace(have.type, 'real', 'integer') = replace(want.type, 'real', 'integer'))))
  AND (created_at, id) < (:before_created, :before_id)
"""

LIST_ALL = f"""
-- A page of jobs in any state.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_created WHERE {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_FINISHED = f"""
-- A page of jobs in one finished state.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = :status AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_RUNNING = f"""
-- A page of running jobs: there are never many, so they are sorted.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_PENDING_FEW = f"""
-- A page of pending jobs while they are few: sort them, however much history is younger than they are.
SELECT {JOB_COLUMNS} FROM jobs
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_claim WHERE status = 'pending' AND gate IS NULL
               UNION ALL
               SELECT seq FROM jobs INDEXED BY jobs_gated WHERE gate IS NOT NULL)
   AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

LIST_PENDING_MANY = f"""
-- A page of pending jobs while they are many: a walk back through time meets them soon.
SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_created WHERE status = 'pending' AND {MATCHES}
 ORDER BY created_at DESC, id DESC LIMIT :limit
"""

PENDING_UP_TO = """
-- How many jobs are pending, counted no further than ?1.
SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_claim
                               WHERE status = 'pending' AND gate IS NULL LIMIT ?1))
     + (SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_gated
                               WHERE gate IS NOT NULL LIMIT ?1))
"""

COUNT_LIVE = """
-- Live jobs per queue and state, exactly; each from a small index of its own.
SELECT queue, 'pending', count(*) FROM jobs INDEXED BY jobs_claim
 WHERE status = 'pending' AND gate IS NULL GROUP BY queue
UNION ALL
SELECT queue, 'pending', count(*) FROM jobs INDEXED BY jobs_gated
 WHERE gate IS NOT NULL GROUP BY queue
UNION ALL
SELECT queue, 'running', count(*) FROM jobs INDEXED BY jobs_running WHERE status = 'running' GROUP BY queue
UNION ALL
SELECT queue, 'failed', count(*) FROM jobs INDEXED BY jobs_failed
 WHERE retry_count > 0 AND status = 'pending' GROUP BY queue
"""

COUNT_FINISHED = """
-- Finished jobs of one state per queue, the newest ?2 of them; read from the index alone.
SELECT queue, count(*) FROM (
  SELECT queue FROM jobs INDEXED BY jobs_finished
   WHERE completed_at IS NOT NULL AND status = ?1 ORDER BY created_at DESC LIMIT ?2)
 GROUP BY queue
"""

ERRORS = """
-- What went wrong, oldest first.
SELECT job_id, token, attempt, kind, type, message, traceback, worker, failed_at
  FROM job_errors WHERE job_id = ?1 ORDER BY seq
"""

LETTER_COLUMNS = (
    "job_id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries, "
    "crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, failed_at"
)

LETTERS = f"""
-- Dead letters by job id.
SELECT {LETTER_COLUMNS} FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(?1))
"""

DEAD_LETTERS = f"""
-- A page of the dead letter, newest first.
SELECT {LETTER_COLUMNS} FROM dead_letter
  WHERE (failed_at, job_id) < (?1, ?2) ORDER BY failed_at DESC, job_id DESC LIMIT ?3
"""

WORKERS = """
-- Every worker remembered, alive ones first, then latest seen first.
SELECT worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen, beat, status
  FROM workers ORDER BY status = 'alive' DESC, last_seen DESC, worker_id
"""

#: What runs per batch of jobs: a test forbids these to scan a table.
HOT = (
    *("ENQUEUE", "STORED", "NEXT_LANE", "FIRST_PRIORITY", "NEXT_PRIORITY", "DUE", "DUE_HEADS", "CLAIM"),
    *(
        "DUE_IN_ORDER",
        "CLAIM_THESE",
        "NEXT_DUE",
        "COMPLETE",
        "FINISHED_WITH",
        "FAILED_ATTEMPT",
        "RETRY",
        "RETRIED_WITH",
        "BURY",
    ),
    *("DEAD_LETTER", "RELEASE", "AWAITED", "TOLD", "WORKER", "SET_WAITING", "HEARTBEAT", "RUNS"),
    *("RELEASE_ALL", "DECLARE_DEAD", "RESCUE", "PRUNE", "PRUNE_ERRORS", "PRUNE_LETTERS", "PRUNE_LOGS"),
    *("PRUNE_DEPENDENCIES", "PRUNE_REPLAYS", "GET", "WAITED_FOR", "AWAIT", "ERRORS", "LETTERS"),
    "DEAD_LETTERS",
)
