"""Storing new jobs. Their columns come from ``taskito_core``, in the order in which it lists them."""

from __future__ import annotations

from collections.abc import Sequence

from taskito_core import columns
from taskito_postgres.sql.clock import NOW

#: How PostgreSQL calls the type of a column.
TYPES = {
    columns.Kind.TEXT: "text",
    columns.Kind.LIST: "text",
    columns.Kind.INTEGER: "int8",
    columns.Kind.REAL: "float8",
    columns.Kind.BOOLEAN: "bool",
    columns.Kind.BYTES: "bytea",
}


#: Condition of a statement: none of these queues has a ceiling, for then what is pending is to be counted.
def _unbounded(queues: str) -> str:
    return f"""(SELECT true FROM taskito.queue_limits q
         WHERE q.max_pending IS NOT NULL AND q.queue = ANY ({queues}) LIMIT 1) IS NULL"""


def _names(some: Sequence[columns.Column], table: str = "") -> str:
    return columns.listed([column.name for column in some], table)


def _parameters(some: Sequence[columns.Column], suffix: str = "") -> str:
    return columns.listed([f"%({column.name})b::{TYPES[column.kind]}{suffix}" for column in some])


_ALL = (*columns.PLAIN, *columns.GATED)

#: What a call may change of a pending job that stands for it.
_CHANGED = tuple(column.name for column in columns.PLAIN if column.name not in ("id", "task_name", "queue"))

ENQUEUE = f"""
-- Store new jobs without a gate; none if one of their queues has a ceiling. An id that is live already
-- inserts nothing; one that has finished is removed by UNDO_FINISHED. The caller sorts by id, so that two
-- senders of one batch cannot deadlock.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.jobs_live AS j
       ({_names(columns.PLAIN)},
       created_at, scheduled_at, delayed_at)
SELECT {_names(columns.PLAIN, "n")},
       c.now, coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint),
       CASE WHEN n.scheduled_at IS NULL AND n.delay > 0 THEN c.now END
  FROM clock c, unnest(
       {_parameters(columns.PLAIN, "[]")},
       %(scheduled_at)b::int8[], %(delay)b::float8[])
       AS n({_names(columns.PLAIN)},
       scheduled_at, delay)
 WHERE {_unbounded("%(queue)b::text[]")}
    ON CONFLICT (id) DO NOTHING
RETURNING j.id
"""

ENQUEUE_ONE = f"""
-- ENQUEUE of one job, the common case: no arrays to pack, and an unpacking less to plan and to run.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.jobs_live AS j
       ({_names(columns.PLAIN)},
       created_at, scheduled_at, delayed_at)
SELECT {_parameters(columns.PLAIN)},
       c.now, coalesce(%(scheduled_at)b::int8, c.now + (%(delay)b::float8 * 1000)::bigint),
       CASE WHEN %(scheduled_at)b::int8 IS NULL AND %(delay)b::float8 > 0 THEN c.now END
  FROM clock c
 WHERE {_unbounded("ARRAY[%(queue)b::text]")}
    ON CONFLICT (id) DO NOTHING
RETURNING j.id
"""

COPY_CLOCK = f"""
-- The clock, and whether a queue of a COPY has a ceiling.
SELECT {NOW}, NOT ({_unbounded("%(queues)b::text[]")})
"""

PENDING = """
-- How many jobs of a queue are pending; those without a gate and those with one are each counted up to the
-- limit. In the order of the index that is meant; || '', as in the other index.
SELECT count(*) FROM (
       (SELECT 1 FROM taskito.jobs_live l
         WHERE l.status = 'pending' AND l.gate IS NULL AND l.queue = %(queue)b
         ORDER BY l.lane, l.priority DESC LIMIT %(limit)b)
       UNION ALL
       (SELECT 1 FROM taskito.jobs_live l
         WHERE (l.gate || '') <> '' AND l.queue = %(queue)b LIMIT %(limit)b)) p
"""

COPY = f"""
-- ENQUEUE of thousands: the fastest way, but an id that is live fails all of it.
COPY taskito.jobs_live
     ({_names(columns.PLAIN)},
     created_at, scheduled_at, delayed_at) FROM STDIN (FORMAT binary)
"""

#: The types of COPY's columns.
COPY_TYPES = (*(TYPES[column.kind] for column in columns.PLAIN), "int8", "int8", "int8")

ENQUEUE_FULL = f"""
-- ENQUEUE of jobs of which some have a lane, an expiry, keys or parents. Those with parents or a concurrency
-- key begin behind a gate, and the cascade opens it. If a live job holds the unique key, nothing is inserted.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
INSERT INTO taskito.jobs_live AS j
       ({_names(_ALL)},
       created_at, scheduled_at, delayed_at, expires_at, expires_from, gate)
SELECT {_names(_ALL, "n")},
       c.now, coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint),
       CASE WHEN n.scheduled_at IS NULL AND n.delay > 0 THEN c.now END,
       coalesce(n.expires_at, c.now + (n.expires * 1000)::bigint),
       CASE WHEN n.expires_at IS NULL AND n.expires IS NOT NULL THEN c.now END,
       CASE WHEN n.gate = 'parents' THEN 'parents'
            WHEN n.concurrency_key IS NULL THEN NULL
            WHEN n.gate = '' AND coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint) <= c.now
            THEN 'key'
            ELSE 'later' END
  FROM clock c, unnest(
       {_parameters(_ALL, "[]")},
       %(scheduled_at)b::int8[], %(delay)b::float8[], %(expires_at)b::int8[], %(expires)b::float8[],
       %(gate)b::text[])
       AS n({_names(_ALL)},
       scheduled_at, delay, expires_at, expires, gate)
    ON CONFLICT DO NOTHING
RETURNING j.id, j.queue, (SELECT q.max_pending FROM taskito.queue_limits q WHERE q.queue = j.queue)
"""

UNDO_FINISHED = """
-- After ENQUEUE, in its transaction: take back rows whose id had finished before, or was just finishing.
-- Only this statement, with a snapshot younger than the insert, can see the latter.
DELETE FROM taskito.jobs_live j WHERE j.id = ANY (ARRAY(
    SELECT n.id FROM unnest(%(id)b::text[]) AS n(id)
     CROSS JOIN LATERAL (SELECT 1 FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1) finished))
RETURNING j.id
"""

UNDO_FINISHED_ONE = """
-- UNDO_FINISHED after ENQUEUE_ONE.
DELETE FROM taskito.jobs_live j
 WHERE j.id = %(id)b AND EXISTS (SELECT 1 FROM taskito.jobs_done d WHERE d.id = %(id)b)
RETURNING j.id
"""

STORED = """
-- Which of these ids are stored, live or finished.
SELECT id FROM taskito.jobs WHERE id = ANY (%(ids)b)
"""

STANDS_FOR = """
-- Of jobs that were not inserted: whether their id is stored, and which live job holds their unique key.
SELECT n.id, n.unique_key,
       coalesce((SELECT true FROM taskito.jobs_live l WHERE l.id = n.id LIMIT 1),
                (SELECT true FROM taskito.jobs_done d WHERE d.id = n.id LIMIT 1), false),
       (SELECT h.id FROM taskito.jobs_live h
         WHERE h.unique_key = n.unique_key AND h.unique_key IS NOT NULL LIMIT 1)
  FROM unnest(%(ids)b, %(unique_keys)b) AS n(id, unique_key)
"""

ADD_CALLS = """
-- A row for each of these keys, so that there is one to lock; sorted, as all that touch several of them.
INSERT INTO taskito.last_calls (key, job_id, call_id, called_at, until)
SELECT n.key, '', '', 0, 0 FROM unnest(%(keys)b) AS n(key) ORDER BY n.key
    ON CONFLICT (key) DO NOTHING
"""

LAST_CALL = f"""
-- The last calls of these keys: the job that stands for them, the call, until when it stands for others; and
-- the clock, read under the locks.
WITH locked AS MATERIALIZED (
    SELECT l.key, l.job_id, l.call_id, l.until FROM taskito.last_calls l
     WHERE l.key = ANY (%(keys)b) ORDER BY l.key FOR UPDATE
), clock AS MATERIALIZED (SELECT {NOW} AS now, count(*) FROM locked)
SELECT l.key, l.job_id, l.call_id, l.until, c.now FROM locked l CROSS JOIN clock c
"""

PUT_CALL = """
-- Note the last calls of keys.
UPDATE taskito.last_calls l SET job_id = n.job_id, call_id = n.call_id, called_at = %(now)b::int8,
       until = n.until
  FROM unnest(%(keys)b::text[], %(ids)b::text[], %(call_ids)b::text[], %(until)b::int8[])
       AS n(key, job_id, call_id, until)
 WHERE l.key = n.key
"""

PUT_OFF = f"""
-- Pending jobs are put off, and are what later calls say. With a concurrency key they wait for a slot
-- anew. Each with the concurrency key that it had. Pending is what has no token: one that is claimed at this
-- moment has one.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), before AS MATERIALIZED (
    SELECT l.id, l.concurrency_key FROM taskito.jobs_live l
     WHERE l.id = ANY (%(standing)b) AND l.token IS NULL ORDER BY l.id FOR UPDATE
)
UPDATE taskito.jobs_live j
   SET {", ".join(f"{name} = n.{name}" for name in _CHANGED)},
       scheduled_at = coalesce(n.scheduled_at, c.now + (n.delay * 1000)::bigint),
       delayed_at = CASE WHEN n.scheduled_at IS NULL AND n.delay > 0 THEN c.now END,
       expires_at = coalesce(n.expires_at, c.now + (n.expires * 1000)::bigint),
       expires_from = CASE WHEN n.expires_at IS NULL AND n.expires IS NOT NULL THEN c.now END,
       concurrency_key = n.concurrency_key, concurrency = n.concurrency, slot = NULL,
       gate = CASE WHEN j.gate = 'parents' THEN j.gate
                   WHEN n.concurrency_key IS NOT NULL THEN 'later' END
  FROM clock c, before b, unnest(
       {_parameters(_ALL, "[]")},
       %(scheduled_at)b::int8[], %(delay)b::float8[], %(expires_at)b::int8[], %(expires)b::float8[],
       %(standing)b::text[])
       AS n({_names(_ALL)},
       scheduled_at, delay, expires_at, expires, standing)
 WHERE b.id = n.standing AND j.id = b.id AND j.token IS NULL
RETURNING j.id, b.concurrency_key
"""

HOT = (
    COPY_CLOCK,
    PENDING,
    ADD_CALLS,
    LAST_CALL,
    PUT_CALL,
    PUT_OFF,
    ENQUEUE,
    ENQUEUE_ONE,
    ENQUEUE_FULL,
    STANDS_FOR,
    UNDO_FINISHED,
    UNDO_FINISHED_ONE,
)
