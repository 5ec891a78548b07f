"""The statements of the hot path, one constant each: produce, claim and settle.

Those that look are in ``queries``, those that keep workers and the store in order in ``upkeep``.
``taskito.`` stands for the schema; ``Statements`` puts the real one in, once per statement. States
are literals, because a partial index is no use to a statement that was planned without knowing them.

No statement may depend on statistics: those of jobs_live often say "empty", and are then used for
the next million rows. So rows are found by LATERAL with a LIMIT, or = ANY of an array, which leave only
the index, and what was found is changed by its ctid. A join on id could be turned round, into
a scan of everything.
"""

from __future__ import annotations

from taskito_postgres.location import quoted

#: Milliseconds since the epoch. clock_timestamp(), because a user's transaction may be hours old.
NOW = "(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + %(shift)b)"


class Statements(dict[str, bytes]):
    """The constants with their schema filled in: ``statements[sql.CLAIM]``."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self._prefix = f"{quoted(schema)}."

    def __missing__(self, text: str) -> bytes:
        statement = self[text] = text.replace("taskito.", self._prefix).encode()
        return statement


CLOCK = f"SELECT {NOW}"

# ---- produce ----

ENQUEUE = f"""
-- Store new jobs. An id that is live already inserts nothing; one that has finished is
-- caught by FORGET_FINISHED. Sorted by id, so that two senders of one batch cannot deadlock.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.jobs_live AS j (id, task_name, queue, priority, payload, created_at, scheduled_at,
                                    max_retries, timeout, result_ttl, metadata, tags)
SELECT n.id, n.task_name, n.queue, n.priority, n.payload, c.now,
       coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint),
       n.max_retries, n.timeout, n.result_ttl, n.metadata, n.tags
  FROM clock c, unnest(%(ids)b, %(task_names)b, %(queues)b, %(priorities)b, %(payloads)b, %(scheduled)b,
                       %(delays)b, %(max_retries)b, %(timeouts)b, %(result_ttls)b, %(metadata)b, %(tags)b)
       AS n(id, task_name, queue, priority, payload, scheduled_at,
            delay, max_retries, timeout, result_ttl, metadata, tags)
    ON CONFLICT (id) DO NOTHING
RETURNING j.id
"""

ENQUEUE_ONE = f"""
-- The same for one job, the common case: no arrays to pack, and an unpacking less to plan and to run.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.jobs_live AS j (id, task_name, queue, priority, payload, created_at, scheduled_at,
                                    max_retries, timeout, result_ttl, metadata, tags)
SELECT %(id)b, %(task_name)b, %(queue)b, %(priority)b, %(payload)b, c.now,
       coalesce(%(scheduled_at)b::bigint, c.now + (%(delay)b::float8 * 1000)::bigint),
       %(retries)b::bigint, %(timeout)b::float8, %(result_ttl)b::float8,
       %(metadata_text)b::text, %(tags_text)b
  FROM clock c
    ON CONFLICT (id) DO NOTHING
RETURNING j.id
"""

COPY = """
COPY taskito.jobs_live (id, task_name, queue, priority, payload, created_at, scheduled_at,
                        max_retries, timeout, result_ttl, metadata, tags) FROM STDIN (FORMAT binary)
"""
COPY_TYPES = (
    "text",
    "text",
    "text",
    "int8",
    "bytea",
    "int8",
    "int8",
    "int8",
    "float8",
    "float8",
    "text",
    "text",
)

FORGET_FINISHED = """
-- After ENQUEUE, in its transaction: take back rows whose id had finished before, or was just
-- finishing. Only this statement, with a snapshot younger than the insert, can see the latter.
DELETE FROM taskito.jobs_live j WHERE j.id = ANY (ARRAY(
    SELECT n.id FROM unnest(%(ids)b) AS n(id)
     CROSS JOIN LATERAL (SELECT 1 FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1) finished))
RETURNING j.id
"""

FORGET_FINISHED_ONE = """
-- The same for ENQUEUE_ONE.
DELETE FROM taskito.jobs_live j
 WHERE j.id = %(id)b AND EXISTS (SELECT 1 FROM taskito.jobs_done d WHERE d.id = %(id)b)
RETURNING j.id
"""

RING = """
-- Tell the workers that wait for these queues; nobody waits: nothing is sent, nothing is written.
-- The commit may be lazy: a wakeup may be lost. Whoever rings does not ring itself.
SELECT pg_notify(%(channel)b, q.queue), set_config('synchronous_commit', 'off', true)
  FROM unnest(%(queues)b) AS q(queue)
 WHERE EXISTS (SELECT 1 FROM taskito.workers w
                WHERE w.status = 'alive' AND w.waiting IS NOT NULL AND w.waiting::jsonb ? q.queue
                  AND w.worker_id <> %(worker)b
                  AND w.last_seen > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 60000)
"""

# ---- claim ----

#: Deeper than this, the steps from priority to priority cost more than reading in order: CLAIM_IN_ORDER.
MAX_STEPS = 100

_PRESENT = f"""
clock AS MATERIALIZED (
    -- No row, and so nothing below, unless this worker is alive.
    SELECT {NOW} AS now FROM taskito.workers WHERE worker_id = %(worker)b AND status = 'alive'
), present AS (
    -- Which (lane, priority) the wanted queues have pending jobs in, found by stepping over the index
    -- from one to the next: one descent for each, however many jobs it has.
    SELECT w.rank, w.queue, f.lane, f.priority, 1 AS step
      FROM clock CROSS JOIN unnest(%(queues)b) WITH ORDINALITY AS w(queue, rank)
     CROSS JOIN LATERAL (
           SELECT j.lane, j.priority FROM taskito.jobs_live j
            WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = w.queue
            ORDER BY j.lane, j.priority DESC LIMIT 1) f
    UNION ALL
    SELECT p.rank, p.queue, n.lane, n.priority, p.step + 1
      FROM present p CROSS JOIN LATERAL (
           (SELECT j.lane, j.priority FROM taskito.jobs_live j
             WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = p.queue
               AND j.lane = p.lane AND j.priority < p.priority
             ORDER BY j.priority DESC LIMIT 1)
           UNION ALL
           (SELECT j.lane, j.priority FROM taskito.jobs_live j
             WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = p.queue AND j.lane > p.lane
             ORDER BY j.lane, j.priority DESC LIMIT 1)
           LIMIT 1) n
     WHERE p.step < {MAX_STEPS}
)
"""

# A row that another transaction changed after this statement began is not at the place that was
# locked, as far as this statement sees: it is left for the next claim.
_TAKE = """
UPDATE taskito.jobs_live j
   SET status = 'running', worker = %(worker)b, token = %(token)b, claimed_at = c.now
  FROM picked p, clock c
 WHERE j.ctid = p.ctid
RETURNING j.id, j.token, j.task_name, j.queue, j.payload, j.retry_count, j.crashes, j.interruptions,
          j.max_retries, j.timeout, j.metadata, j.claimed_at, greatest(j.scheduled_at, j.created_at), p.place
"""

CLAIM = f"""
-- Take the best due jobs: one probe per wanted queue and priority, in serving order, each locking no
-- more than it needs. Only where several lanes share a priority must they be merged by age first, and
-- then some rows are locked in vain until the commit.
WITH RECURSIVE {_PRESENT}, wanted AS (
    SELECT rank, queue, priority, array_agg(lane) AS lanes
      FROM present WHERE lane = '' OR lane = ANY (%(tasks)b)
     GROUP BY rank, queue, priority ORDER BY rank, priority DESC
), picked AS MATERIALIZED (
    SELECT row_number() OVER () AS place, l.ctid
      FROM clock c CROSS JOIN wanted w CROSS JOIN LATERAL (
           SELECT one.ctid FROM (
                  SELECT j.ctid FROM taskito.jobs_live j
                   WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = w.queue AND j.lane = w.lanes[1]
                     AND j.priority = w.priority AND j.scheduled_at <= c.now AND cardinality(w.lanes) = 1
                   ORDER BY j.scheduled_at, j.id LIMIT %(limit)b FOR UPDATE SKIP LOCKED) one
           UNION ALL
           (SELECT many.ctid FROM unnest(w.lanes) AS a(lane) CROSS JOIN LATERAL (
                  SELECT j.ctid, j.id, j.scheduled_at FROM taskito.jobs_live j
                   WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = w.queue AND j.lane = a.lane
                     AND j.priority = w.priority AND j.scheduled_at <= c.now AND cardinality(w.lanes) > 1
                   ORDER BY j.scheduled_at, j.id LIMIT %(limit)b FOR UPDATE SKIP LOCKED) many
            ORDER BY many.scheduled_at, many.id LIMIT %(limit)b)) l
     LIMIT %(limit)b
)
{_TAKE}"""

CLAIM_IN_ORDER = f"""
-- The same for queues with very many different priorities: read each lane in order. Slower where
-- many jobs of high priority are not due yet.
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT {NOW} AS now FROM taskito.workers WHERE worker_id = %(worker)b AND status = 'alive'
), lanes AS (
    SELECT w.rank, w.queue, f.lane
      FROM clock CROSS JOIN unnest(%(queues)b) WITH ORDINALITY AS w(queue, rank)
     CROSS JOIN LATERAL (
           SELECT j.lane FROM taskito.jobs_live j
            WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = w.queue ORDER BY j.lane LIMIT 1) f
    UNION ALL
    SELECT l.rank, l.queue, n.lane
      FROM lanes l CROSS JOIN LATERAL (
           SELECT j.lane FROM taskito.jobs_live j
            WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = l.queue AND j.lane > l.lane
            ORDER BY j.lane LIMIT 1) n
), picked AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY l.rank, d.priority DESC, d.scheduled_at, d.id) AS place, d.ctid
      FROM clock c CROSS JOIN lanes l CROSS JOIN LATERAL (
           SELECT j.ctid, j.id, j.priority, j.scheduled_at FROM taskito.jobs_live j
            WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = l.queue AND j.lane = l.lane
              AND j.scheduled_at <= c.now
            ORDER BY j.priority DESC, j.scheduled_at, j.id LIMIT %(limit)b FOR UPDATE SKIP LOCKED) d
     WHERE l.lane = '' OR l.lane = ANY (%(tasks)b)
     ORDER BY place LIMIT %(limit)b
)
{_TAKE}"""

LOOK = f"""
-- The clock, whether this worker is alive, and whether it is marked as waiting. The last statement of its
-- transaction, and so the place to say whether the commit waits for the disk.
SELECT {NOW}, coalesce(w.status = 'alive', false), w.waiting,
       CASE WHEN %(lazily)b THEN set_config('synchronous_commit', 'off', true) END
  FROM (VALUES (1)) AS one LEFT JOIN taskito.workers w ON w.worker_id = %(worker)b
"""

DUE = f"""
-- The earliest moment one of the wanted pending jobs is or falls due, and how deep the steps went.
WITH RECURSIVE {_PRESENT}
SELECT min(h.scheduled_at), max(p.step)
  FROM present p CROSS JOIN LATERAL (
       SELECT j.scheduled_at FROM taskito.jobs_live j
        WHERE j.status = 'pending' AND j.gate IS NULL AND j.queue = p.queue AND j.lane = p.lane
          AND j.priority = p.priority
        ORDER BY j.scheduled_at LIMIT 1) h
 WHERE p.lane = '' OR p.lane = ANY (%(tasks)b)
"""

MARK = """
-- Say which queues this worker waits for (NULL: none), to those who RING.
UPDATE taskito.workers SET waiting = %(waiting)b
 WHERE worker_id = %(worker)b AND status = 'alive' AND waiting IS DISTINCT FROM %(waiting)b
"""

# ---- settle ----

_HELD = """LATERAL (
       SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = o.id AND l.token = o.token LIMIT 1) AS h"""

COMPLETE = f"""
-- Record results. The token is the fence: a live row has it exactly while the job runs. One UPDATE
-- that moves the row to jobs_done, where it keeps its token. A row that somebody changed after this
-- statement began (say, marked as awaited) is passed over: what was not recorded is sent once more.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j
   SET finished = true, status = 'complete', result = o.result, completed_at = c.now,
       started_at = coalesce(o.started_at, j.started_at),
       prune_at = c.now + (least(j.result_ttl, 1e12) * 1000)::bigint
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(results)b, %(started)b) AS o(id, token, result, started_at)
 CROSS JOIN {_HELD}
 WHERE j.ctid = h.ctid AND NOT j.finished
RETURNING j.id, j.awaited
"""

_FAILURES = """unnest(%(ids)b, %(tokens)b, %(charges)b, %(kinds)b, %(types)b, %(messages)b, %(tracebacks)b,
               %(summaries)b, %(started)b, %(extras)b)
            AS o(id, token, charge, kind, type, message, traceback, summary, started_at, extra)"""

_CHARGED = """
       retry_count = j.retry_count + (o.charge = 'retry_count')::int,
       crashes = j.crashes + (o.charge = 'crashes')::int,
       interruptions = j.interruptions + (o.charge = 'interruptions')::int,
       error = o.summary, started_at = coalesce(o.started_at, j.started_at)"""

_NOTED = """
INSERT INTO taskito.job_errors (job_id, token, attempt, failed_at, kind, type, message, traceback, worker)
    SELECT h.id, h.token, h.retry_count + h.crashes + h.interruptions + (h.charge = '')::int, h.now,
           h.kind, h.type, h.message, h.traceback, h.worker FROM hit h
    ON CONFLICT (job_id, token) DO NOTHING"""

RETRY = f"""
-- Failed attempts that another one follows. ``extra`` is the delay in milliseconds.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), hit AS (
    UPDATE taskito.jobs_live j
       SET status = 'pending', token = NULL, scheduled_at = c.now + o.extra::bigint, {_CHARGED}
      FROM clock c, {_FAILURES}
     CROSS JOIN {_HELD}
     WHERE j.ctid = h.ctid
    RETURNING j.id, j.queue, j.retry_count, j.crashes, j.interruptions, j.worker, c.now,
              o.token, o.charge, o.kind, o.type, o.message, o.traceback
), noted AS ({_NOTED})
SELECT id, queue FROM hit
"""

BURY = f"""
-- Attempts that were the last, into the dead letter. ``extra`` is the reason.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), hit AS (
    UPDATE taskito.jobs j
       SET finished = true, status = 'dead', completed_at = c.now,
           prune_at = c.now + (least(j.result_ttl, 1e12) * 1000)::bigint, {_CHARGED}
      FROM clock c, {_FAILURES}
     CROSS JOIN {_HELD}
     WHERE j.ctid = h.ctid AND NOT j.finished
    RETURNING j.*, c.now, o.charge, o.kind, o.type, o.message, o.traceback, o.extra AS reason
), noted AS ({_NOTED}), letter AS (
    INSERT INTO taskito.dead_letter
           (job_id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries,
            crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, failed_at)
    SELECT id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries,
           crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, now FROM hit
        ON CONFLICT (job_id) DO NOTHING
)
SELECT id, awaited FROM hit
"""

RELEASE = f"""
-- Claims handed back: pending again, due when they were due before, nothing charged.
UPDATE taskito.jobs_live j SET status = 'pending', token = NULL, lane = coalesce(o.lane, j.lane)
  FROM unnest(%(ids)b, %(tokens)b, %(lanes)b) AS o(id, token, lane)
 CROSS JOIN {_HELD}
 WHERE j.ctid = h.ctid
RETURNING j.id, j.queue
"""

EARLIER = """
-- Of outcomes that matched nothing: those an earlier sending recorded. A rescue writes a row with the
-- same token too, so an error must also say the same.
SELECT o.id
  FROM unnest(%(ids)b, %(tokens)b, %(statuses)b, %(kinds)b, %(types)b, %(messages)b)
       AS o(id, token, status, kind, type, message)
 CROSS JOIN LATERAL (
       (SELECT 1 FROM taskito.jobs_done d
         WHERE d.id = o.id AND d.token = o.token AND d.status = o.status LIMIT 1)
       UNION ALL
       (SELECT 1 FROM taskito.job_errors e
         WHERE e.job_id = o.id AND e.token = o.token AND o.status = 'pending'
           AND e.kind = o.kind AND e.type = o.type AND e.message = o.message LIMIT 1)) AS found
"""

TELL = """
-- Say which awaited jobs ended: JSON lists of ids, each short enough for a notification.
SELECT pg_notify(%(channel)b, t.ids), set_config('synchronous_commit', 'off', true)
  FROM unnest(%(payloads)b) AS t(ids)
"""

#: What runs for every job or every wakeup: a test looks at how each is planned.
HOT = (
    *(ENQUEUE, ENQUEUE_ONE, FORGET_FINISHED, FORGET_FINISHED_ONE, CLAIM, CLAIM_IN_ORDER, LOOK, DUE, MARK),
    *(COMPLETE, RETRY, BURY, RELEASE, EARLIER),
)
