"""Gates: what keeps a pending job from being claimed, and what opens it.

Dependencies. The process that finishes a job checks its children after the commit, and the process that
stores a child checks its parents after its own commit; LOCK_PARENTS sees to it that of a parent and a child
that pass each other one sees the other. In a transaction of the caller's own no row of others may be touched:
there ``sweep`` is the net.

Slots. A transaction that gives away a slot of a concurrency key holds that key's advisory lock until it has
committed; giving one up needs no lock, because the cascade after it finds the job that is next.
"""

from __future__ import annotations

from taskito_core import messages
from taskito_postgres.sql.clock import NOW
from taskito_postgres.sql.settle import CANCELLED, ENDED

#: Jobs that one CANCEL_DEPENDANTS cancels at most: it must end before the next heartbeat.
MAX_CANCELLED = 10_000
#: Jobs of a key that one PROMOTE takes at most.
MAX_PROMOTED = 2_000

#: The earliest moment a sweep has something to do.
SWEEP_AT = """least(
       (SELECT l.expires_at FROM taskito.jobs_live l
         WHERE l.status = 'pending' AND l.expires_at IS NOT NULL ORDER BY l.expires_at LIMIT 1),
       (SELECT l.scheduled_at FROM taskito.jobs_live l
         WHERE l.gate = 'later' ORDER BY l.scheduled_at LIMIT 1))"""

# ---- dependencies ----

#: A parent of the job l that ended other than complete, and how. One that is stored no more counts.
_FAILED_PARENT = f"""(
       SELECT d.parent_id, coalesce(f.status, '{messages.DELETED}') AS status FROM taskito.job_dependencies d
         LEFT JOIN LATERAL (
              SELECT e.status FROM taskito.jobs_done e WHERE e.id = d.parent_id LIMIT 1) f ON true
        WHERE d.job_id = l.id AND f.status IS DISTINCT FROM 'complete'
          AND (f.status IS NOT NULL
               OR (SELECT true FROM taskito.jobs_live p WHERE p.id = d.parent_id LIMIT 1) IS NULL)
        LIMIT 1)"""

#: The children of the job d that wait for it and are not tolerant.
_STRICT_CHILDREN = """LATERAL (
       SELECT l.id FROM taskito.job_dependencies e
        CROSS JOIN LATERAL (SELECT l.id FROM taskito.jobs_live l
                             WHERE l.id = e.job_id AND l.gate = 'parents' AND NOT l.tolerant LIMIT 1) l
        WHERE e.parent_id = d.id) child"""

CANCEL_DEPENDANTS = f"""
-- Cancel the dependants of these parents that ended other than complete, theirs in turn, and these children
-- if one of their own parents has. Tolerant ones stay. LIMIT ends the descent, too. A row that another
-- transaction changed at that moment is passed over, and a row of NULL says so: run it once more.
WITH RECURSIVE clock AS MATERIALIZED (SELECT {NOW} AS now), first AS (
    SELECT child.id, d.id AS parent, e.status FROM unnest(%(parents)b) AS d(id)
     CROSS JOIN LATERAL (
           SELECT f.status FROM taskito.jobs_done f WHERE f.id = d.id LIMIT 1) e
     CROSS JOIN {_STRICT_CHILDREN}
     WHERE e.status <> 'complete'
    UNION ALL
    SELECT l.id, bad.parent_id, bad.status FROM unnest(%(children)b) AS c(id)
     CROSS JOIN LATERAL (SELECT l.id FROM taskito.jobs_live l
                          WHERE l.id = c.id AND l.gate = 'parents' AND NOT l.tolerant LIMIT 1) l
     CROSS JOIN LATERAL {_FAILED_PARENT} bad
), doomed AS (
    SELECT id, parent, status FROM first
    UNION
    SELECT child.id, d.id, 'cancelled' FROM doomed d CROSS JOIN {_STRICT_CHILDREN}
), picked AS MATERIALIZED (
    SELECT DISTINCT ON (d.id) d.parent, d.status, l.ctid
      FROM (SELECT id, parent, status FROM doomed LIMIT {MAX_CANCELLED}) d
     CROSS JOIN LATERAL (SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = d.id LIMIT 1) l
     ORDER BY d.id, d.parent
), hit AS (
    UPDATE taskito.jobs j
       SET {CANCELLED},
           error = {messages.as_sql(messages.PARENT_FAILED, parent="p.parent", status="p.status")}
      FROM picked p, clock c
     WHERE j.ctid = p.ctid AND NOT j.finished
    RETURNING {ENDED}
)
SELECT id, awaited, key, has_dependants FROM hit
UNION ALL
SELECT NULL, NULL, NULL, NULL FROM picked HAVING count(*) > (SELECT count(*) FROM hit)
"""

OPEN_PARENTS_GATE = f"""
-- Open the gate of the children of these parents, and of these children, whose parents have all finished. A
-- job with a concurrency key goes on to the next gate. Parents are run in the order of their ids, so the last
-- one is checked first: of ten thousand it is the one most likely to be live. Changed by id, so that a row
-- which is marked as awaited meanwhile is not missed; coalesce, so that no index of all gated rows is read
-- instead.
WITH candidate AS (
    SELECT d.job_id AS id FROM unnest(%(parents)b) AS p(id)
     CROSS JOIN LATERAL (SELECT d.job_id FROM taskito.job_dependencies d WHERE d.parent_id = p.id) d
    UNION
    SELECT c.id FROM unnest(%(children)b) AS c(id)
), freed AS MATERIALIZED (
    SELECT l.id FROM candidate c
     CROSS JOIN LATERAL (SELECT l.id, l.tolerant FROM taskito.jobs_live l
                          WHERE l.id = c.id AND l.gate = 'parents' LIMIT 1) l
     WHERE (SELECT true FROM (SELECT d.parent_id FROM taskito.job_dependencies d
                               WHERE d.job_id = l.id ORDER BY d.parent_id DESC) d
             CROSS JOIN LATERAL (SELECT 1 FROM taskito.jobs_live p WHERE p.id = d.parent_id LIMIT 1) live
             LIMIT 1) IS NULL
       AND (l.tolerant OR (SELECT true FROM {_FAILED_PARENT} bad) IS NULL)
)
UPDATE taskito.jobs_live j SET gate = CASE WHEN j.concurrency_key IS NOT NULL THEN 'later' END
 WHERE j.id = ANY (ARRAY(SELECT f.id FROM freed f)) AND coalesce(j.gate, '') = 'parents'
RETURNING j.id, j.queue, j.concurrency_key
"""

ADD_EDGES = """
-- Which job waits for which. An edge that is there already is left as it is.
INSERT INTO taskito.job_dependencies (job_id, parent_id)
SELECT e.job_id, e.parent_id FROM unnest(%(ids)b, %(parents)b) AS e(job_id, parent_id)
    ON CONFLICT DO NOTHING
"""

LOCK_PARENTS = """
-- Meet the transaction that ends one of these parents at this moment. If that one was first, this fails, and
-- sees the end when it is tried again. If this one was first, the settle passes the row over, and sees the
-- edge at its next try.
UPDATE taskito.jobs_live SET awaited = awaited WHERE id = ANY (%(ids)b)
"""

SET_LOCK_TIMEOUT = """
-- How long the rest of the transaction waits for one row.
SELECT set_config('lock_timeout', %(timeout)b, true)
"""

UNRELEASED_CHILDREN = """
-- The net: children whose parents are to be checked, the newest and (true) those after the last seen.
(SELECT l.id, false FROM taskito.jobs_live l WHERE l.gate = 'parents'
  ORDER BY l.gate DESC, l.id DESC LIMIT %(limit)b)
UNION ALL
(SELECT l.id, true FROM taskito.jobs_live l WHERE l.gate = 'parents' AND l.id > %(after)b
  ORDER BY l.gate, l.id LIMIT %(limit)b)
"""

# ---- slots ----

LOCK_KEYS = """
-- Until the commit no other transaction gives away slots of these keys. In ascending order: no deadlocks.
SELECT pg_advisory_xact_lock(k.lock) FROM unnest(%(locks)b) AS k(lock)
"""

PROMOTE = f"""
-- Jobs of these keys that have fallen due now compete for slots.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), due AS MATERIALIZED (
    SELECT l.id FROM clock c CROSS JOIN unnest(%(keys)b) AS k(key)
     CROSS JOIN LATERAL (
           SELECT l.id FROM taskito.jobs_live l
            WHERE l.gate = 'later' AND l.concurrency_key = k.key AND l.scheduled_at <= c.now
              AND (l.expires_at IS NULL OR l.expires_at > c.now)
            ORDER BY l.scheduled_at LIMIT {MAX_PROMOTED}) l
)
UPDATE taskito.jobs_live j SET gate = 'key'
 WHERE j.id = ANY (ARRAY(SELECT d.id FROM due d)) AND coalesce(j.gate, '') = 'later'
"""

#: The jobs that wait at the key of the step s.
_AT_KEY = """SELECT l.ctid, l.id, l.priority, l.scheduled_at, l.concurrency FROM taskito.jobs_live l
             WHERE l.gate = 'key' AND l.concurrency_key = s.key
               AND (l.expires_at IS NULL OR l.expires_at > s.now)"""

#: The first free slot of that key after the one that the step took.
_NEXT_SLOT = """(SELECT g.slot FROM (SELECT generate_series(s.slot + 1, s.slot + 1 + s.count) AS slot) g
          WHERE (SELECT true FROM taskito.jobs_live h
                  WHERE h.concurrency_key = s.key AND h.slot = g.slot AND h.slot IS NOT NULL LIMIT 1) IS NULL
          LIMIT 1)"""

OPEN_KEY_GATE = f"""
-- Give the free slots of these keys to the jobs that are next, one step for each: by priority, age, id, until
-- the next one finds none. Each job says by itself how many slots its key has. A row of NULL: run it once
-- more, as with CANCEL_DEPENDANTS.
WITH RECURSIVE clock AS MATERIALIZED (SELECT {NOW} AS now), taken AS MATERIALIZED (
    SELECT k.key, h.count, c.now, -1::bigint AS slot FROM clock c CROSS JOIN unnest(%(keys)b) AS k(key)
     CROSS JOIN LATERAL (SELECT count(*) FROM taskito.jobs_live h
                          WHERE h.concurrency_key = k.key AND h.slot IS NOT NULL) h
), step AS (
    SELECT s.key, s.count, s.now, 1 AS number, n.ctid, n.id, n.priority, n.scheduled_at, {_NEXT_SLOT} AS slot
      FROM taken s CROSS JOIN LATERAL (
           {_AT_KEY}
            ORDER BY l.priority DESC, l.scheduled_at, l.id LIMIT 1) n
     WHERE s.count < n.concurrency
    UNION ALL
    SELECT s.key, s.count, s.now, s.number + 1, n.ctid, n.id, n.priority, n.scheduled_at, {_NEXT_SLOT}
      FROM step s CROSS JOIN LATERAL (
           ({_AT_KEY}
               AND l.priority = s.priority AND (l.scheduled_at, l.id) > (s.scheduled_at, s.id)
             ORDER BY l.scheduled_at, l.id LIMIT 1)
           UNION ALL
           ({_AT_KEY}
               AND l.priority < s.priority
             ORDER BY l.priority DESC, l.scheduled_at, l.id LIMIT 1)
           LIMIT 1) n
     WHERE s.count + s.number < n.concurrency
), hit AS (
    UPDATE taskito.jobs_live j SET gate = NULL, slot = s.slot
      FROM step s WHERE j.ctid = s.ctid
    RETURNING j.id, j.queue
)
SELECT id, queue FROM hit
UNION ALL
SELECT NULL, NULL FROM step HAVING count(*) > (SELECT count(*) FROM hit)
"""

DROP_EXCESS = f"""
-- Of these new jobs, cancel those that are due and found every slot of their key taken.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), excess AS MATERIALIZED (
    SELECT l.ctid FROM clock c CROSS JOIN unnest(%(ids)b) AS n(id)
     CROSS JOIN LATERAL (
           SELECT l.ctid, l.concurrency_key, l.concurrency FROM taskito.jobs_live l
            WHERE l.id = n.id AND l.gate IN ('key', 'later') AND l.scheduled_at <= c.now LIMIT 1) l
     WHERE l.concurrency <= (SELECT count(*) FROM taskito.jobs_live h
                              WHERE h.concurrency_key = l.concurrency_key AND h.slot IS NOT NULL)
)
UPDATE taskito.jobs j
   SET {CANCELLED},
       error = {messages.as_sql(messages.DROPPED, concurrency="j.concurrency", key="j.concurrency_key")}
  FROM excess e, clock c
 WHERE j.ctid = e.ctid AND NOT j.finished
RETURNING {ENDED}
"""

KEYS_DUE = f"""
-- Keys of which a job has fallen due, and is still behind the gate 'later'.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
SELECT l.concurrency_key FROM clock c CROSS JOIN LATERAL (
       SELECT l.concurrency_key FROM taskito.jobs_live l
        WHERE l.gate = 'later' AND l.scheduled_at <= c.now ORDER BY l.scheduled_at LIMIT %(limit)b) l
"""

KEYS_WITH_FREE_SLOT = """
-- The net: keys after the last seen, and whether a job waits there although a slot is free.
WITH RECURSIVE next AS (
    (SELECT l.concurrency_key AS key, l.concurrency, 1 AS number FROM taskito.jobs_live l
      WHERE l.gate = 'key' AND l.concurrency_key > %(after)b
      ORDER BY l.concurrency_key, l.priority DESC, l.scheduled_at, l.id LIMIT 1)
    UNION ALL
    SELECT f.concurrency_key, f.concurrency, n.number + 1 FROM next n CROSS JOIN LATERAL (
           SELECT l.concurrency_key, l.concurrency FROM taskito.jobs_live l
            WHERE l.gate = 'key' AND l.concurrency_key > n.key
            ORDER BY l.concurrency_key, l.priority DESC, l.scheduled_at, l.id LIMIT 1) f
     WHERE n.number < %(limit)b
)
SELECT n.key, n.concurrency > (SELECT count(*) FROM taskito.jobs_live h
                                WHERE h.concurrency_key = n.key AND h.slot IS NOT NULL)
  FROM next n
"""

# ---- expiry ----

_EXPIRES_AT = """to_char(to_timestamp(j.expires_at / 1000.0) AT TIME ZONE 'UTC',
                      'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')"""

EXPIRE = f"""
-- Cancel pending jobs whose time to start has passed. One that is being claimed is skipped: it starts.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), late AS MATERIALIZED (
    SELECT l.ctid FROM clock c CROSS JOIN LATERAL (
           SELECT l.ctid FROM taskito.jobs_live l
            WHERE l.status = 'pending' AND l.expires_at IS NOT NULL AND l.expires_at <= c.now
            ORDER BY l.expires_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED) l
)
UPDATE taskito.jobs j
   SET {CANCELLED}, error = {messages.as_sql(messages.EXPIRED, moment=_EXPIRES_AT)}
  FROM late l, clock c
 WHERE j.ctid = l.ctid AND NOT j.finished
RETURNING {ENDED}
"""

NEXT_SWEEP = f"""
-- When a sweep has something to do, and the clock.
SELECT {SWEEP_AT}, {NOW}
"""

HOT = (
    *(CANCEL_DEPENDANTS, OPEN_PARENTS_GATE, LOCK_PARENTS, ADD_EDGES, UNRELEASED_CHILDREN, LOCK_KEYS),
    *(PROMOTE, OPEN_KEY_GATE, DROP_EXCESS, KEYS_DUE, KEYS_WITH_FREE_SLOT, EXPIRE, NEXT_SWEEP),
)
