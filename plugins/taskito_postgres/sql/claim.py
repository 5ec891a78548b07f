"""Finding work for a worker: claim, when the next job falls due, and which workers wait."""

from __future__ import annotations

from taskito_core import Claim, columns
from taskito_postgres.sql.clock import NOW
from taskito_postgres.sql.gates import SWEEP_AT
from taskito_postgres.sql.settle import CASCADES

#: Deeper than this, the steps from priority to priority cost more than reading in order: CLAIM_IN_ORDER.
MAX_STEPS = 100

#: A job j waits for nothing but its time and a worker: what the index jobs_live_claim holds.
OPEN = "j.status = 'pending' AND j.gate IS NULL"
#: Its time to start has not passed at c.now.
IN_TIME = "(j.expires_at IS NULL OR j.expires_at > c.now)"
#: It may be claimed at c.now, by a worker that wants its queue and lane.
CLAIMABLE = f"{OPEN} AND j.scheduled_at <= c.now AND {IN_TIME}"

#: Condition of a wanted queue w.
_NOT_PAUSED = "(SELECT true FROM taskito.paused_queues q WHERE q.queue = w.queue LIMIT 1) IS NULL"
#: No wanted queue has limits, but for those whose limits this transaction has locked and observes.
_OBSERVED = """(SELECT true FROM taskito.queue_limits q
           WHERE q.queue = ANY (%(queues)b) AND (q.concurrency IS NOT NULL OR q.rate IS NOT NULL)
             AND q.queue <> ALL (%(limited)b) LIMIT 1) IS NULL"""

_WORKER_CLOCK = f"""
clock AS MATERIALIZED (
    -- No row, and so nothing below, unless this worker is alive and nothing is to be done before.
    SELECT {NOW} AS now FROM taskito.workers
     WHERE worker_id = %(worker)b AND status = 'alive' AND ({CASCADES}) IS NOT TRUE
       AND {_OBSERVED}
)"""

_PRESENT = f"""
{_WORKER_CLOCK}, present AS (
    -- Which (lane, priority) the wanted queues have pending jobs in, found by stepping over the index
    -- from one to the next: one descent for each, however many jobs it has.
    SELECT w.rank, w.queue, f.lane, f.priority, 1 AS step
      FROM clock CROSS JOIN unnest(%(queues)b) WITH ORDINALITY AS w(queue, rank)
     CROSS JOIN LATERAL (
           SELECT j.lane, j.priority FROM taskito.jobs_live j
            WHERE {OPEN} AND j.queue = w.queue
            ORDER BY j.lane, j.priority DESC LIMIT 1) f
     WHERE {_NOT_PAUSED}
    UNION ALL
    SELECT p.rank, p.queue, n.lane, n.priority, p.step + 1
      FROM present p CROSS JOIN LATERAL (
           (SELECT j.lane, j.priority FROM taskito.jobs_live j
             WHERE {OPEN} AND j.queue = p.queue AND j.lane = p.lane AND j.priority < p.priority
             ORDER BY j.priority DESC LIMIT 1)
           UNION ALL
           (SELECT j.lane, j.priority FROM taskito.jobs_live j
             WHERE {OPEN} AND j.queue = p.queue AND j.lane > p.lane
             ORDER BY j.lane, j.priority DESC LIMIT 1)
           LIMIT 1) n
     WHERE p.step < {MAX_STEPS}
)
"""

# A row that another transaction changed after this statement began is not where it was
# locked, as far as this statement sees: it is left for the next claim.
_TAKE = f"""
UPDATE taskito.jobs_live j
   SET status = 'running', worker = %(worker)b, token = %(token)b, claimed_at = c.now
  FROM picked p, clock c
 WHERE j.ctid = p.ctid
RETURNING {columns.listed(Claim._fields, "j", due_at="greatest(j.scheduled_at, j.created_at)")}, p.position"""

CLAIM = f"""
-- Take the best due jobs: one probe per wanted queue and priority, in serving order, each locking no
-- more than it needs. Only where several lanes share a priority must they be merged by age first, and
-- then some rows are locked in vain until the commit. Rows come in any order, each with its position.
WITH RECURSIVE {_PRESENT}, wanted AS (
    SELECT rank, queue, priority, array_agg(lane) AS lanes
      FROM present WHERE lane = '' OR lane = ANY (%(tasks)b)
     GROUP BY rank, queue, priority ORDER BY rank, priority DESC
), picked AS MATERIALIZED (
    SELECT row_number() OVER () AS position, l.ctid
      FROM clock c CROSS JOIN wanted w CROSS JOIN LATERAL (
           SELECT one.ctid FROM (
                  SELECT j.ctid FROM taskito.jobs_live j
                   WHERE {CLAIMABLE}
                     AND j.queue = w.queue AND j.lane = w.lanes[1] AND j.priority = w.priority
                     AND cardinality(w.lanes) = 1
                   ORDER BY j.scheduled_at, j.id LIMIT %(limit)b FOR UPDATE SKIP LOCKED) one
           UNION ALL
           (SELECT many.ctid FROM unnest(w.lanes) AS a(lane) CROSS JOIN LATERAL (
                  SELECT j.ctid, j.id, j.scheduled_at FROM taskito.jobs_live j
                   WHERE {CLAIMABLE}
                     AND j.queue = w.queue AND j.lane = a.lane AND j.priority = w.priority
                     AND cardinality(w.lanes) > 1
                   ORDER BY j.scheduled_at, j.id LIMIT %(limit)b FOR UPDATE SKIP LOCKED) many
            ORDER BY many.scheduled_at, many.id LIMIT %(limit)b)) l
     LIMIT %(limit)b
)
{_TAKE}
"""

CLAIM_CAPPED = f"""
-- CLAIM where of some lanes at most so many may be taken. Those are probed apart, each no further than its
-- cap, and merged with the others: a few rows are locked in vain until the commit.
WITH RECURSIVE {_PRESENT}, wanted AS (
    SELECT rank, queue, priority, array_agg(lane) AS lanes
      FROM present WHERE (lane = '' OR lane = ANY (%(tasks)b)) AND lane <> ALL (%(capped)b)
     GROUP BY rank, queue, priority ORDER BY rank, priority DESC
), free AS MATERIALIZED (
    SELECT w.rank, w.priority, l.*
      FROM clock c CROSS JOIN wanted w CROSS JOIN LATERAL (
           SELECT many.* FROM unnest(w.lanes) AS a(lane) CROSS JOIN LATERAL (
                  SELECT j.ctid, j.id, j.scheduled_at FROM taskito.jobs_live j
                   WHERE {CLAIMABLE}
                     AND j.queue = w.queue AND j.lane = a.lane AND j.priority = w.priority
                   ORDER BY j.scheduled_at, j.id LIMIT %(limit)b FOR UPDATE SKIP LOCKED) many
            ORDER BY many.scheduled_at, many.id LIMIT %(limit)b) l
     LIMIT %(limit)b
), rationed AS MATERIALIZED (
    SELECT l.* FROM clock c CROSS JOIN unnest(%(capped)b, %(caps)b) AS a(lane, cap) CROSS JOIN LATERAL (
           SELECT w.rank, w.priority, one.* FROM (
                  SELECT p.rank, p.queue, p.priority FROM present p
                   WHERE p.lane = a.lane AND (a.lane = '' OR a.lane = ANY (%(tasks)b))
                   ORDER BY p.rank, p.priority DESC) w
            CROSS JOIN LATERAL (
                  SELECT j.ctid, j.id, j.scheduled_at FROM taskito.jobs_live j
                   WHERE {CLAIMABLE}
                     AND j.queue = w.queue AND j.lane = a.lane AND j.priority = w.priority
                   ORDER BY j.scheduled_at, j.id LIMIT least(a.cap, %(limit)b) FOR UPDATE SKIP LOCKED) one
            LIMIT least(a.cap, %(limit)b)) l
), picked AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY m.rank, m.priority DESC, m.scheduled_at, m.id) AS position, m.ctid
      FROM (SELECT * FROM free UNION ALL SELECT * FROM rationed) m
     ORDER BY position LIMIT %(limit)b
)
{_TAKE}, j.lane
"""

CLAIM_IN_ORDER = f"""
-- CLAIM for queues with very many different priorities: read each lane in order. Slower where many jobs of
-- high priority are not due yet. Respects caps, too.
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT {NOW} AS now FROM taskito.workers
     WHERE worker_id = %(worker)b AND status = 'alive' AND {_OBSERVED}
), lanes AS (
    SELECT w.rank, w.queue, f.lane
      FROM clock CROSS JOIN unnest(%(queues)b) WITH ORDINALITY AS w(queue, rank)
     CROSS JOIN LATERAL (
           SELECT j.lane FROM taskito.jobs_live j
            WHERE {OPEN} AND j.queue = w.queue ORDER BY j.lane LIMIT 1) f
     WHERE {_NOT_PAUSED}
    UNION ALL
    SELECT l.rank, l.queue, n.lane
      FROM lanes l CROSS JOIN LATERAL (
           SELECT j.lane FROM taskito.jobs_live j
            WHERE {OPEN} AND j.queue = l.queue AND j.lane > l.lane
            ORDER BY j.lane LIMIT 1) n
), found AS MATERIALIZED (
    SELECT l.rank, l.lane, d.*, coalesce(a.cap, %(limit)b) AS cap
      FROM clock c CROSS JOIN lanes l
      LEFT JOIN LATERAL (
           SELECT least(a.cap, %(limit)b) AS cap FROM unnest(%(capped)b, %(caps)b) AS a(lane, cap)
            WHERE a.lane = l.lane LIMIT 1) a ON true
     CROSS JOIN LATERAL (
           SELECT j.ctid, j.id, j.priority, j.scheduled_at FROM taskito.jobs_live j
            WHERE {CLAIMABLE} AND j.queue = l.queue AND j.lane = l.lane
            ORDER BY j.priority DESC, j.scheduled_at, j.id
            LIMIT coalesce(a.cap, %(limit)b) FOR UPDATE SKIP LOCKED) d
     WHERE l.lane = '' OR l.lane = ANY (%(tasks)b)
), picked AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY f.rank, f.priority DESC, f.scheduled_at, f.id) AS position, f.ctid
      FROM (SELECT found.*, row_number() OVER (
                   PARTITION BY lane ORDER BY rank, priority DESC, scheduled_at, id) AS number FROM found) f
     WHERE f.number <= f.cap
     ORDER BY position LIMIT %(limit)b
)
{_TAKE}, j.lane
"""

WORKER_STATE = f"""
-- The clock, whether this worker is alive, whether it is marked as waiting, and which queues have limits (as
-- JSON; NULL: none). The last statement of its transaction, and so the one that says whether the commit waits
-- for the disk. Where a standby must confirm commits it always does: a claim that a promotion undoes would be
-- run twice.
SELECT {NOW}, coalesce(w.status = 'alive', false), w.waiting,
       CASE WHEN %(lazily)b AND current_setting('synchronous_standby_names') = ''
            THEN set_config('synchronous_commit', 'off', true) END,
       (SELECT json_agg(q.queue) FROM taskito.queue_limits q
         WHERE q.concurrency IS NOT NULL OR q.rate IS NOT NULL)::text
  FROM (VALUES (1)) AS one LEFT JOIN taskito.workers w ON w.worker_id = %(worker)b
"""

NEXT_DUE = f"""
-- The earliest moment one of the wanted pending jobs is or falls due, how deep the steps went, and when
-- a sweep has something to do.
WITH RECURSIVE {_PRESENT}
SELECT min(h.scheduled_at), max(p.step), {SWEEP_AT}
  FROM clock c CROSS JOIN present p CROSS JOIN LATERAL (
       SELECT j.scheduled_at FROM taskito.jobs_live j
        WHERE {OPEN} AND {IN_TIME} AND j.queue = p.queue AND j.lane = p.lane AND j.priority = p.priority
        ORDER BY j.scheduled_at LIMIT 1) h
 WHERE p.lane = '' OR p.lane = ANY (%(tasks)b)
"""

PEEK = f"""
-- When the earliest claimable job of each of these lanes falls due, stepping from priority to priority.
WITH RECURSIVE clock AS MATERIALIZED (SELECT {NOW} AS now), present AS (
    SELECT q.queue, a.lane, f.priority
      FROM unnest(%(queues)b) AS q(queue) CROSS JOIN unnest(%(lanes)b) AS a(lane)
     CROSS JOIN LATERAL (
           SELECT j.priority FROM taskito.jobs_live j
            WHERE {OPEN} AND j.queue = q.queue AND j.lane = a.lane
            ORDER BY j.priority DESC LIMIT 1) f
     WHERE (SELECT true FROM taskito.paused_queues s WHERE s.queue = q.queue LIMIT 1) IS NULL
    UNION ALL
    SELECT p.queue, p.lane, n.priority
      FROM present p CROSS JOIN LATERAL (
           SELECT j.priority FROM taskito.jobs_live j
            WHERE {OPEN} AND j.queue = p.queue AND j.lane = p.lane AND j.priority < p.priority
            ORDER BY j.priority DESC LIMIT 1) n
)
SELECT p.lane, min(h.scheduled_at)
  FROM clock c CROSS JOIN present p CROSS JOIN LATERAL (
       SELECT j.scheduled_at FROM taskito.jobs_live j
        WHERE {OPEN} AND {IN_TIME} AND j.queue = p.queue AND j.lane = p.lane AND j.priority = p.priority
        ORDER BY j.scheduled_at LIMIT 1) h
 GROUP BY p.lane
"""

LANES = f"""
-- Each queue with each lane that holds claimable jobs, in this order: one descent of the index for each.
WITH RECURSIVE steps AS (
    (SELECT j.queue, j.lane FROM taskito.jobs_live j
      WHERE {OPEN} AND j.queue >= '' ORDER BY j.queue, j.lane LIMIT 1)
    UNION ALL
    SELECT n.queue, n.lane
      FROM steps s CROSS JOIN LATERAL (
           SELECT j.queue, j.lane FROM taskito.jobs_live j
            WHERE {OPEN} AND (j.queue, j.lane) > (s.queue, s.lane)
            ORDER BY j.queue, j.lane LIMIT 1) n
)
SELECT queue, lane FROM steps LIMIT 1000
"""

SET_WAITING = """
-- Which queues this worker waits for (NULL: none). NOTIFY_WORKERS reads it.
UPDATE taskito.workers SET waiting = %(waiting)b
 WHERE worker_id = %(worker)b AND status = 'alive' AND waiting IS DISTINCT FROM %(waiting)b
"""

LOCK_LIMITS = f"""
-- The limits of these queues, and the clock. One worker at a time claims from a queue that has some; without
-- waiting, for that one may stand still: then locked is false, and nothing else is told.
WITH locked AS MATERIALIZED (
    SELECT q.queue, q.concurrency, q.rate, q.burst, q.tokens, q.refilled_at FROM taskito.queue_limits q
     WHERE q.queue = ANY (%(queues)b) AND (q.concurrency IS NOT NULL OR q.rate IS NOT NULL)
     ORDER BY q.queue FOR UPDATE SKIP LOCKED
), clock AS MATERIALIZED (SELECT {NOW} AS now, count(*) FROM locked)
SELECT q.queue, l.queue IS NOT NULL AS locked, l.concurrency, l.rate, l.burst, l.tokens, l.refilled_at, c.now
  FROM clock c CROSS JOIN taskito.queue_limits q LEFT JOIN locked l ON l.queue = q.queue
 WHERE q.queue = ANY (%(queues)b) AND (q.concurrency IS NOT NULL OR q.rate IS NOT NULL)
"""

RUNNING = """
-- How many jobs of these queues are running. After LOCK_LIMITS, so that it sees all who were before.
SELECT l.queue, count(*) FROM taskito.jobs_live l
 WHERE l.status = 'running' AND l.queue = ANY (%(queues)b) GROUP BY l.queue
"""

PUT_TOKENS = """
-- What is left in the bucket of a queue.
UPDATE taskito.queue_limits SET tokens = %(tokens)b::float8, refilled_at = %(refilled_at)b
 WHERE queue = %(queue)b
"""

HOT = (
    LOCK_LIMITS,
    RUNNING,
    PUT_TOKENS,
    CLAIM,
    CLAIM_CAPPED,
    CLAIM_IN_ORDER,
    WORKER_STATE,
    NEXT_DUE,
    PEEK,
    LANES,
    SET_WAITING,
)
