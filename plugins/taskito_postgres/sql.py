"""The statements of the hot path, one constant each: produce and settle; those that claim are in ``claims``.

Gates are in ``gates``, what looks is in ``queries``, what keeps workers and the store in order in ``upkeep``.
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

#: What is told of a job j that ended, to those who see to what follows: who awaits it, the key whose place it
#: gave up, whether it has dependants. A scalar subquery, because EXISTS might be planned as a scan.
ENDED = """j.id, j.awaited, CASE WHEN j.slot IS NOT NULL THEN j.concurrency_key END AS key,
          (SELECT true FROM taskito.job_dependencies d WHERE d.parent_id = j.id LIMIT 1) AS has_dependants"""

#: The same of a job that may have got dependants which this statement cannot see.
ENDED_UNSEEN = "j.id, j.awaited, CASE WHEN j.slot IS NOT NULL THEN j.concurrency_key END, true"

#: Says to the rest of the transaction that something is to follow. A claim in it then takes nothing: what
#: follows may open a better job, and so the worker claims after that, in a second round trip.
_SIGNAL = "set_config('taskito_turn.follows', 'yes', true) = 'yes'"
FOLLOWS = "current_setting('taskito_turn.follows', true) = 'yes'"

#: ENDED, with the signal.
_SETTLED = f"""CASE WHEN j.slot IS NOT NULL AND {_SIGNAL} THEN j.concurrency_key END AS key,
          (SELECT {_SIGNAL} FROM taskito.job_dependencies d WHERE d.parent_id = j.id LIMIT 1)
          AS has_dependants"""

#: How a job j is cancelled at c.now, but for its ``error``.
CANCELLED = """finished = true, status = 'cancelled', gate = NULL, completed_at = c.now,
       prune_at = c.now + (least(j.result_ttl, 1e12) * 1000)::bigint"""

#: The earliest moment a sweep has something to do.
SWEEP_AT = """least(
       (SELECT l.expires_at FROM taskito.jobs_live l
         WHERE l.status = 'pending' AND l.expires_at IS NOT NULL ORDER BY l.expires_at LIMIT 1),
       (SELECT l.scheduled_at FROM taskito.jobs_live l
         WHERE l.gate = 'later' ORDER BY l.scheduled_at LIMIT 1))"""

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

ENQUEUE_GATED = f"""
-- ENQUEUE for jobs of which some have more to them: a lane, an expiry, keys or parents. Those with parents
-- or a key begin behind a gate, and what follows opens it. A unique key that is held inserts nothing either.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.jobs_live AS j (id, task_name, queue, priority, payload, created_at, scheduled_at,
                                    max_retries, timeout, result_ttl, metadata, tags, lane, expires_at,
                                    unique_key, tolerant, concurrency_key, concurrency, gate)
SELECT n.id, n.task_name, n.queue, n.priority, n.payload, c.now,
       coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint),
       n.max_retries, n.timeout, n.result_ttl, n.metadata, n.tags, n.lane,
       coalesce(n.expires_at, c.now + (n.expires * 1000)::bigint),
       n.unique_key, n.tolerant, n.concurrency_key, n.concurrency,
       CASE WHEN n.gate = 'parents' THEN 'parents'
            WHEN n.concurrency_key IS NULL THEN NULL
            WHEN n.gate = '' AND coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint) <= c.now
            THEN 'key'
            ELSE 'later' END
  FROM clock c, unnest(%(ids)b, %(task_names)b, %(queues)b, %(priorities)b, %(payloads)b, %(scheduled)b,
                       %(delays)b, %(max_retries)b, %(timeouts)b, %(result_ttls)b, %(metadata)b, %(tags)b,
                       %(lanes)b, %(expire_ats)b, %(expires)b, %(unique_keys)b, %(tolerances)b,
                       %(concurrency_keys)b, %(concurrencies)b, %(gates)b)
       AS n(id, task_name, queue, priority, payload, scheduled_at, delay, max_retries, timeout, result_ttl,
            metadata, tags, lane, expires_at, expires, unique_key, tolerant, concurrency_key, concurrency,
            gate)
    ON CONFLICT DO NOTHING
RETURNING j.id
"""

STANDING = """
-- Of jobs that were not inserted: whether their id is stored, and which live job holds their unique key.
SELECT n.id, n.unique_key,
       coalesce((SELECT true FROM taskito.jobs_live l WHERE l.id = n.id LIMIT 1),
                (SELECT true FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1), false),
       (SELECT h.id FROM taskito.jobs_live h
         WHERE h.unique_key = n.unique_key AND h.unique_key IS NOT NULL LIMIT 1)
  FROM unnest(%(ids)b, %(unique_keys)b) AS n(id, unique_key)
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

SHOUT = """
-- The same to whoever listens, at the commit of the transaction it is said in.
SELECT pg_notify(%(channel)b, t.payload) FROM unnest(%(payloads)b) AS t(payload)
"""

# ---- settle ----

_HELD = """LATERAL (
       SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = o.id AND l.token = o.token LIMIT 1) AS h"""

_COMPLETE = f"""
-- Record results. The token is the fence: a live row has it exactly while the job runs. One UPDATE
-- that moves the row to jobs_done, where it keeps its token. A row that somebody changed after this
-- statement began (say, marked as awaited) is passed over: what was not recorded is sent again, after HOLD.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j
   SET finished = true, status = 'complete', result = o.result, completed_at = c.now,
       started_at = coalesce(o.started_at, j.started_at),
       prune_at = c.now + (least(j.result_ttl, 1e12) * 1000)::bigint
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(results)b, %(started)b) AS o(id, token, result, started_at)
 CROSS JOIN {_HELD}
 WHERE j.ctid = h.ctid AND NOT j.finished
RETURNING """
COMPLETE = f"{_COMPLETE} j.id, j.awaited, {_SETTLED}"

#: The same on a connection that is not ours, and keeps no trace of it.
COMPLETE_WITHIN = f"{_COMPLETE} {ENDED}"

STOP = f"""
-- Attempts that were stopped on request. ``asked``: only those that somebody has asked to cancel, because the
-- outcome says otherwise.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs j
   SET {CANCELLED}, error = o.error, started_at = coalesce(o.started_at, j.started_at)
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(errors)b, %(started)b) AS o(id, token, error, started_at)
 CROSS JOIN {_HELD}
 WHERE j.ctid = h.ctid AND NOT j.finished AND (j.cancel_force IS NOT NULL OR NOT %(asked)b)
RETURNING j.id, j.awaited, {_SETTLED}
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

#: A job that falls due only later leaves its place to the next one of its key.
_WAITING = """
       gate = CASE WHEN {late} AND j.concurrency_key IS NOT NULL THEN 'later' END,
       slot = CASE WHEN {late} THEN NULL ELSE j.slot END"""

#: The key of a job that has just done so, with the signal. (NULL AND x looks at x: so no bare comparison.)
_LEFT = f"CASE WHEN j.gate IS NOT DISTINCT FROM 'later' AND {_SIGNAL} THEN j.concurrency_key END"

RETRY = f"""
-- Failed attempts that another one follows. ``extra`` is the delay in milliseconds. Who must wait gives
-- up the place of its key. Those that were asked to cancel are left for STOP.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), hit AS (
    UPDATE taskito.jobs_live j
       SET status = 'pending', token = NULL, scheduled_at = c.now + o.extra::bigint,
           expires_at = NULL, {_WAITING.format(late="o.extra::bigint > 0")}, {_CHARGED}
      FROM clock c, {_FAILURES}
     CROSS JOIN {_HELD}
     WHERE j.ctid = h.ctid AND j.cancel_force IS NULL
    RETURNING j.id, j.queue, {_LEFT} AS key,
              j.retry_count, j.crashes, j.interruptions, j.worker, c.now,
              o.token, o.charge, o.kind, o.type, o.message, o.traceback
), noted AS ({_NOTED})
SELECT id, queue, key FROM hit
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
    RETURNING j.*, {_SETTLED},
              c.now, o.charge, o.kind, o.type, o.message, o.traceback, o.extra AS reason
), noted AS ({_NOTED}), letter AS (
    INSERT INTO taskito.dead_letter
           (job_id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries,
            crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, failed_at,
            lane, unique_key, concurrency_key, concurrency, expires_at)
    SELECT id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries,
           crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, now,
           lane, unique_key, concurrency_key, concurrency, expires_at FROM hit
        ON CONFLICT (job_id) DO NOTHING
)
SELECT id, awaited, key, has_dependants FROM hit
"""

RELEASE = f"""
-- Claims handed back: pending again, nothing charged, due when they were due before or after a delay in
-- milliseconds. Those that were asked to cancel are left for STOP.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
UPDATE taskito.jobs_live j
   SET status = 'pending', token = NULL, lane = coalesce(o.lane, j.lane),
       scheduled_at = coalesce(c.now + o.delay, j.scheduled_at),
       expires_at = CASE WHEN o.delay IS NULL THEN j.expires_at END, {_WAITING.format(late="o.delay > 0")}
  FROM clock c, unnest(%(ids)b, %(tokens)b, %(lanes)b, %(delays)b) AS o(id, token, lane, delay)
 CROSS JOIN {_HELD}
 WHERE j.ctid = h.ctid AND j.cancel_force IS NULL
RETURNING j.id, j.queue, {_LEFT}
"""

HOLD = """
-- Before outcomes that matched nothing are sent once more: wait for whoever is changing their rows, and let
-- nobody else change them before the commit. What comes after this passes none of them over.
SELECT h.id FROM unnest(%(ids)b, %(tokens)b) AS o(id, token) CROSS JOIN LATERAL (
       SELECT l.id FROM taskito.jobs_live l WHERE l.id = o.id AND l.token = o.token LIMIT 1 FOR UPDATE) AS h
"""

EARLIER = """
-- Of outcomes that matched nothing: those an earlier sending recorded, or complete_in on the task's own
-- connection; of the finished ones also what follows. A rescue writes a row with the same token
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

TELL = """
-- Say which awaited jobs ended: JSON lists of ids, each short enough for a notification.
SELECT pg_notify(%(channel)b, t.ids), set_config('synchronous_commit', 'off', true)
  FROM unnest(%(payloads)b) AS t(ids)
"""

HELD_BY_OTHERS = """
-- Of these jobs, those that another transaction holds: a task's own may be open after complete_in.
WITH free AS MATERIALIZED (
    SELECT l.id FROM taskito.jobs_live l WHERE l.id = ANY (%(ids)b) FOR UPDATE SKIP LOCKED
)
SELECT l.id FROM taskito.jobs_live l WHERE l.id = ANY (%(ids)b) AND l.id <> ALL (ARRAY(SELECT id FROM free))
"""

#: What runs for every job: a test looks at how each is planned.
HOT = (
    *(ENQUEUE, ENQUEUE_ONE, ENQUEUE_GATED, STANDING, FORGET_FINISHED, FORGET_FINISHED_ONE),
    *(COMPLETE, STOP, RETRY, BURY, RELEASE, HOLD, EARLIER, HELD_BY_OTHERS),
)
