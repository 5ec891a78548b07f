"""Recording how attempts ended. The token is the fence: a live row has it exactly while the job runs."""

from __future__ import annotations

from taskito_core import columns
from taskito_postgres.sql.clock import NOW

#: Of a job j that ended, what the cascade needs: whether its end is awaited, the key whose slot it gave up,
#: whether it has dependants. A scalar subquery, because EXISTS might be planned as a scan.
ENDED = """j.id, j.awaited, CASE WHEN j.slot IS NOT NULL THEN j.concurrency_key END AS key,
          (SELECT true FROM taskito.job_dependencies d WHERE d.parent_id = j.id LIMIT 1) AS has_dependants"""

#: ENDED of a job that may have got dependants which the statement cannot see.
ENDED_UNSEEN = "j.id, j.awaited, CASE WHEN j.slot IS NOT NULL THEN j.concurrency_key END, true"

#: When the time of its own is over of a job j that ends at c.now; NULL: it has none.
PRUNE_AT = "c.now + (CASE WHEN j.result_ttl IS NOT NULL THEN least(j.result_ttl, 1e12) END * 1000)::bigint"

#: How a job j is cancelled at c.now, but for its ``error``.
CANCELLED = f"""finished = true, status = 'cancelled', gate = NULL, completed_at = c.now,
       prune_at = {PRUNE_AT}"""

#: Tells the rest of the transaction that a cascade follows. A claim in it then takes nothing: the cascade
#: may open a better job, and so the worker claims after it, in a second round trip.
_SIGNAL = "set_config('taskito_exchange.cascades', 'yes', true) = 'yes'"
CASCADES = "current_setting('taskito_exchange.cascades', true) = 'yes'"

#: ENDED, with the signal.
_ENDED_SIGNALLED = f"""CASE WHEN j.slot IS NOT NULL AND {_SIGNAL} THEN j.concurrency_key END AS key,
          (SELECT {_SIGNAL} FROM taskito.job_dependencies d WHERE d.parent_id = j.id LIMIT 1)
          AS has_dependants"""

#: The rows that the outcomes o are about, if their tokens are still on them.
_FENCED = """LATERAL (
       SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = o.id AND l.token = o.token LIMIT 1) AS h"""

_COMPLETE = f"""
-- Record results. One UPDATE that moves the row to jobs_done, where it keeps its token. A row that another
-- transaction changed after this statement began is passed over: what was not recorded is sent again, after
-- LOCK_ROWS.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j
   SET finished = true, status = 'complete', result = o.result, error = NULL, completed_at = c.now,
       started_at = coalesce(o.started_at, j.started_at),
       prune_at = {PRUNE_AT}
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(results)b, %(started)b) AS o(id, token, result, started_at)
 CROSS JOIN {_FENCED}
 WHERE j.ctid = h.ctid AND NOT j.finished
RETURNING """
COMPLETE = f"""{_COMPLETE}j.id, j.awaited, {_ENDED_SIGNALLED}
"""

#: COMPLETE on the caller's connection, which keeps no trace of it.
COMPLETE_EXTERNAL = f"""{_COMPLETE}{ENDED}
"""

STOP = f"""
-- Attempts that stopped because their job was asked to cancel. With ``requested`` only those of jobs that
-- were asked: the outcomes are retries and releases, which RETRY and RELEASE left out for that reason.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j
   SET {CANCELLED}, error = o.error, started_at = coalesce(o.started_at, j.started_at)
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(errors)b, %(started)b) AS o(id, token, error, started_at)
 CROSS JOIN {_FENCED}
 WHERE j.ctid = h.ctid AND NOT j.finished AND (j.cancel_force IS NOT NULL OR NOT %(requested)b)
RETURNING j.id, j.awaited, {_ENDED_SIGNALLED}
"""

# ---- failed attempts ----

_FAILURES = """%(ids)b, %(tokens)b, %(charges)b, %(kinds)b, %(types)b, %(messages)b, %(tracebacks)b,
               %(summaries)b, %(started)b"""
_FAILURE = "id, token, charge, kind, type, message, traceback, summary, started_at"

_CHARGED = """
       retry_count = j.retry_count + (o.charge = 'retry_count')::int,
       crashes = j.crashes + (o.charge = 'crashes')::int,
       interruptions = j.interruptions + (o.charge = 'interruptions')::int,
       error = o.summary, started_at = coalesce(o.started_at, j.started_at)"""

_WITH_ERROR = """
    INSERT INTO taskito.job_errors (job_id, token, attempt, failed_at, kind, type, message, traceback, worker)
    SELECT h.id, h.token, h.retry_count + h.crashes + h.interruptions + (h.charge = '')::int, h.now,
           h.kind, h.type, h.message, h.traceback, h.worker FROM hit h
        ON CONFLICT (job_id, token) DO NOTHING"""

#: A job that falls due only later leaves its slot to the next one of its key.
_BEHIND_GATE = """gate = CASE WHEN o.delay > 0 AND j.concurrency_key IS NOT NULL THEN 'later' END,
       slot = CASE WHEN o.delay > 0 THEN NULL ELSE j.slot END"""

#: The key of a job that has just done so, with the signal. (NULL AND x evaluates x: so no bare comparison.)
_LEFT_KEY = f"CASE WHEN j.gate IS NOT DISTINCT FROM 'later' AND {_SIGNAL} THEN j.concurrency_key END"

RETRY = f"""
-- Failed attempts that another one follows, due after a delay in milliseconds. A job that must wait gives up
-- the slot of its key. Jobs that were asked to cancel are left for STOP.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), hit AS (
    UPDATE taskito.jobs_live j
       SET status = 'pending', token = NULL, scheduled_at = c.now + o.delay, delayed_at = c.now,
       expires_at = NULL,
       {_BEHIND_GATE}, {_CHARGED}
      FROM clock c, unnest({_FAILURES}, %(delays)b) AS o({_FAILURE}, delay)
     CROSS JOIN {_FENCED}
     WHERE j.ctid = h.ctid AND j.cancel_force IS NULL
    RETURNING j.id, j.queue, {_LEFT_KEY} AS key,
              j.retry_count, j.crashes, j.interruptions, j.worker, c.now,
              o.token, o.charge, o.kind, o.type, o.message, o.traceback
), errors AS ({_WITH_ERROR}
)
SELECT id, queue, key FROM hit
"""

BURY = f"""
-- Attempts that were the last, into the dead letter.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), hit AS (
    UPDATE taskito.jobs j
       SET finished = true, status = 'dead', completed_at = c.now,
           prune_at = {PRUNE_AT}, {_CHARGED}
      FROM clock c, unnest({_FAILURES}, %(reasons)b) AS o({_FAILURE}, reason)
     CROSS JOIN {_FENCED}
     WHERE j.ctid = h.ctid AND NOT j.finished
    RETURNING j.*, {_ENDED_SIGNALLED},
              c.now, o.charge, o.kind, o.type, o.message, o.traceback, o.reason
), errors AS ({_WITH_ERROR}
), letters AS (
    INSERT INTO taskito.dead_letter (job_id, reason, traceback, failed_at,
       {columns.listed(columns.COPIED)})
    SELECT id, reason, traceback, now,
       {columns.listed(columns.COPIED)} FROM hit
        ON CONFLICT (job_id) DO NOTHING
)
SELECT id, awaited, key, has_dependants FROM hit
"""

RELEASE = f"""
-- Claims handed back: pending again, nothing charged, due when they were due before or after a delay in
-- milliseconds. Jobs that were asked to cancel are left for STOP.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs_live j
   SET status = 'pending', token = NULL, lane = coalesce(o.lane, j.lane),
       scheduled_at = coalesce(c.now + o.delay, j.scheduled_at),
       delayed_at = CASE WHEN o.delay IS NULL THEN j.delayed_at ELSE c.now END,
       expires_at = CASE WHEN o.delay IS NULL THEN j.expires_at END,
       {_BEHIND_GATE}
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(lanes)b, %(delays)b) AS o(id, token, lane, delay)
 CROSS JOIN {_FENCED}
 WHERE j.ctid = h.ctid AND j.cancel_force IS NULL
RETURNING j.id, j.queue, {_LEFT_KEY}
"""

# ---- outcomes that matched no row ----

LOCK_ROWS = """
-- Before outcomes that matched nothing are sent once more: wait for the transactions that are changing their
-- rows, and let no other change them before the commit. The statements after this pass none of them over.
SELECT h.id FROM unnest(%(ids)b, %(tokens)b) AS o(id, token) CROSS JOIN LATERAL (
       SELECT l.id FROM taskito.jobs_live l WHERE l.id = o.id AND l.token = o.token LIMIT 1 FOR UPDATE) AS h
"""

ALREADY_RECORDED = """
-- Of outcomes that matched nothing: those that an earlier sending recorded, or complete_in on the task's own
-- connection; of the finished ones also what the cascade needs. A rescue writes a row with the same token
-- too, so an error must also say the same. A retry of a job that was asked to cancel has become its end.
SELECT o.id, found.awaited, found.key,
       (SELECT true FROM taskito.job_dependencies d WHERE d.parent_id = o.id LIMIT 1)
  FROM unnest(%(ids)b, %(tokens)b, %(statuses)b, %(kinds)b, %(types)b, %(messages)b)
       AS o(id, token, status, kind, type, message)
 CROSS JOIN LATERAL (
       (SELECT d.awaited, CASE WHEN d.slot IS NOT NULL THEN d.concurrency_key END AS key
          FROM taskito.jobs_done d
         WHERE d.id = o.id AND d.token = o.token
           AND (d.status = o.status OR o.status = 'pending' AND d.status = 'cancelled') LIMIT 1)
       UNION ALL
       (SELECT false, NULL FROM taskito.job_errors e
         WHERE e.job_id = o.id AND e.token = o.token AND o.status = 'pending'
           AND e.kind = o.kind AND e.type = o.type AND e.message = o.message LIMIT 1)) AS found
"""

LOCKED_BY_OTHERS = """
-- Of these jobs, those that another transaction holds: a task's own may be open after complete_in.
WITH free AS MATERIALIZED (
    SELECT l.id FROM taskito.jobs_live l WHERE l.id = ANY (%(ids)b) FOR UPDATE SKIP LOCKED
)
SELECT l.id FROM taskito.jobs_live l WHERE l.id = ANY (%(ids)b) AND l.id <> ALL (ARRAY(SELECT id FROM free))
"""

HOT = (COMPLETE, STOP, RETRY, BURY, RELEASE, LOCK_ROWS, ALREADY_RECORDED, LOCKED_BY_OTHERS)
