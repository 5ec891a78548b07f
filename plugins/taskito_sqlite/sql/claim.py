"""Claiming: a loose scan of the index ``jobs_claim`` over (queue, lane, priority), then one probe for each.

``DUE*`` find jobs, and the ``CLAIM*`` after each marks the same rows: no other process writes meanwhile.

A claim sends half a dozen of these, so values are bound by number, the same in all of them: ?1 queue,
?2 lane, ?3 priority, ?4 now, ?5 limit, ?6 token, ?7 worker.
"""

from __future__ import annotations

from taskito_core import Claim, columns

#: Condition of a job that can be claimed from ``scheduled_at`` on, until it expires.
CLAIMABLE = "status = 'pending' AND gate IS NULL"
#: Condition of a job that has not expired at ``?4`` (now).
UNEXPIRED = "(expires_at IS NULL OR expires_at > ?4)"
#: Condition of a claimable job that can be claimed at ``?4`` (now).
DUE_NOW = f"scheduled_at <= ?4 AND {UNEXPIRED}"

#: What becomes a Claim. Token and moment are those that CLAIM is about to write.
_CLAIM = columns.listed(Claim._fields, token="?6", claimed_at="?4", due_at="max(scheduled_at, created_at)")

PAUSED_OR_LIMITED = """
-- The queues that are paused, and (with a number) what limits others and what is in their buckets.
SELECT queue, 0 AS limited, NULL, NULL, NULL, NULL, NULL FROM paused_queues
UNION ALL
SELECT queue, 1, concurrency, rate, burst, tokens, refilled_at FROM queue_limits
 WHERE concurrency IS NOT NULL OR rate IS NOT NULL
"""

RUNNING = """
-- How many jobs of a queue are running, counted no further than the limit.
SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_running
                       WHERE status = 'running' AND queue = :queue LIMIT :limit)
"""

PUT_TOKENS = """
-- What is left in the bucket of a queue.
UPDATE queue_limits SET tokens = :tokens, refilled_at = :refilled_at WHERE queue = :queue
"""

NEXT_LANE = f"""
-- The first lane of a queue after this one that holds claimable jobs.
SELECT lane FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane > ?2 ORDER BY lane LIMIT 1
"""

FIRST_PRIORITY = f"""
-- The highest priority in a lane.
SELECT priority FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 ORDER BY priority DESC LIMIT 1
"""

NEXT_PRIORITY = f"""
-- The next lower priority in a lane.
SELECT priority FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND priority < ?3
 ORDER BY priority DESC LIMIT 1
"""

DUE = f"""
-- The due jobs of one lane and priority, as Claims; earliest first, then lower id.
SELECT {_CLAIM}
  FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND priority = ?3 AND {DUE_NOW}
 ORDER BY scheduled_at, id LIMIT ?5
"""

DUE_HEADS = f"""
-- As DUE, only what is needed to merge several lanes.
SELECT scheduled_at, id, lane FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND priority = ?3 AND {DUE_NOW}
 ORDER BY scheduled_at, id LIMIT ?5
"""

CLAIM = f"""
-- Mark the rows that DUE has just returned for the same values as running.
UPDATE jobs SET status = 'running', worker = ?7, token = ?6, claimed_at = ?4
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_claim
                WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND priority = ?3 AND {DUE_NOW}
                ORDER BY scheduled_at, id LIMIT ?5)
"""

DUE_IN_ORDER = f"""
-- As DUE for all priorities from this one down, with priority and due time to merge lanes by. It passes over
-- jobs that are not due one by one, which is cheaper than a step each when nearly every job has a priority of
-- its own.
SELECT {_CLAIM}, priority, scheduled_at
  FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND priority <= ?3 AND {DUE_NOW}
 ORDER BY priority DESC, scheduled_at, id LIMIT ?5
"""

CLAIM_IN_ORDER = """
-- Mark the rows that DUE_IN_ORDER has just returned as running.
UPDATE jobs SET status = 'running', worker = :worker, token = :token, claimed_at = :now
 WHERE id IN (SELECT value FROM json_each(:ids))
"""

NEXT_DUE = f"""
-- When the first job of one lane and priority falls due. A job that has expired never will.
SELECT scheduled_at FROM jobs INDEXED BY jobs_claim
 WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND priority = ?3 AND {UNEXPIRED}
 ORDER BY scheduled_at LIMIT 1
"""

PEEK = f"""
-- When the first job of a lane falls due: one probe per priority, for at most 200 of them.
WITH RECURSIVE steps (priority) AS (
  SELECT (SELECT priority FROM jobs INDEXED BY jobs_claim
           WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2
           ORDER BY priority DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT jobs.priority FROM jobs INDEXED BY jobs_claim
           WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND jobs.priority < steps.priority
           ORDER BY jobs.priority DESC LIMIT 1)
    FROM steps WHERE steps.priority IS NOT NULL LIMIT 200
)
SELECT min((SELECT scheduled_at FROM jobs INDEXED BY jobs_claim
             WHERE {CLAIMABLE} AND queue = ?1 AND lane = ?2 AND jobs.priority = steps.priority
               AND {UNEXPIRED}
             ORDER BY scheduled_at LIMIT 1))
  FROM steps WHERE steps.priority IS NOT NULL
"""

LANES = f"""
-- Each queue with each lane that holds claimable jobs, in this order: one probe of the index for each.
WITH RECURSIVE steps (seq) AS (
  SELECT (SELECT seq FROM jobs INDEXED BY jobs_claim
           WHERE {CLAIMABLE} AND queue >= '' ORDER BY queue, lane LIMIT 1)
  UNION ALL
  SELECT (SELECT seq FROM jobs INDEXED BY jobs_claim
           WHERE {CLAIMABLE} AND (queue, lane) > (here.queue, here.lane) ORDER BY queue, lane LIMIT 1)
    FROM steps JOIN jobs AS here ON here.seq = steps.seq LIMIT 1001
)
SELECT queue, lane FROM steps JOIN jobs ON jobs.seq = steps.seq LIMIT 1000
"""

WORKER_STATE = """
-- Whether a worker is alive, and whether it is marked as waiting; no row: it never registered.
SELECT status = 'alive', waiting FROM workers WHERE worker_id = :worker
"""

SET_WAITING = """
-- Mark whether a worker is to be notified when jobs arrive.
UPDATE workers SET waiting = :waiting WHERE worker_id = :worker
"""

HOT = (
    *(NEXT_LANE, FIRST_PRIORITY, NEXT_PRIORITY, DUE, DUE_HEADS, CLAIM, DUE_IN_ORDER, CLAIM_IN_ORDER),
    *(NEXT_DUE, PEEK, LANES, WORKER_STATE, SET_WAITING),
)
