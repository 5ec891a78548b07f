"""The statements about gates, one constant each: what keeps a pending job from being claimed, what opens it.

``taskito.`` stands for the schema, and no statement may depend on statistics, as in ``sql``.

Dependencies. Whoever finishes a job looks at its children after that was committed, and whoever stores a
child looks at its parents after its own commit; TOUCH sees to it that of a parent and a child that pass each
other one sees the other. In a transaction of the caller's own nothing of others may be touched: there
``sweep`` is the net.

Places. Everything that gives a place of a concurrency key away holds that key's advisory lock until it has
committed; giving one up needs no lock, because whoever gave it up looks afterwards who is next.
"""

from __future__ import annotations

from taskito_postgres.sql import CANCELLED, ENDED, NOW, SWEEP_AT

#: Jobs that one DOOM cancels at most: it must end before the next heartbeat.
MAX_DOOMED = 10_000
#: Jobs of a key that one PROMOTE takes at most.
MAX_PROMOTED = 2_000

# ---- dependencies ----

_FAILED_PARENT = """(
       SELECT d.parent_id, coalesce(f.status, 'gone') AS status FROM taskito.job_dependencies d
         LEFT JOIN LATERAL (
              SELECT e.status FROM taskito.jobs_done e WHERE e.id = d.parent_id LIMIT 1) f ON true
        WHERE d.job_id = l.id AND f.status IS DISTINCT FROM 'complete'
          AND (f.status IS NOT NULL
               OR (SELECT true FROM taskito.jobs_live p WHERE p.id = d.parent_id LIMIT 1) IS NULL)
        LIMIT 1)"""

_CHILDREN_OF = """LATERAL (
       SELECT l.id FROM taskito.job_dependencies e
        CROSS JOIN LATERAL (SELECT l.id FROM taskito.jobs_live l
                             WHERE l.id = e.job_id AND l.gate = 'parents' AND NOT l.tolerant LIMIT 1) l
        WHERE e.parent_id = {parent}) child"""

DOOM = f"""
-- Cancel the dependants of these parents that ended other than complete, theirs in turn, and these children
-- if one of their own parents has. Tolerant ones stay. LIMIT ends the descent, too. A row that somebody
-- changed at that moment is passed over, and a row of NULL says so: once more.
WITH RECURSIVE clock AS MATERIALIZED (SELECT {NOW} AS now), first AS (
    SELECT child.id, p.id AS parent, e.status FROM unnest(%(parents)b) AS p(id)
     CROSS JOIN LATERAL (
           SELECT d.status FROM taskito.jobs_done d WHERE d.id = p.id LIMIT 1) e
     CROSS JOIN {_CHILDREN_OF.format(parent="p.id")}
     WHERE e.status <> 'complete'
    UNION ALL
    SELECT l.id, bad.parent_id, bad.status FROM unnest(%(children)b) AS c(id)
     CROSS JOIN LATERAL (SELECT l.id FROM taskito.jobs_live l
                          WHERE l.id = c.id AND l.gate = 'parents' AND NOT l.tolerant LIMIT 1) l
     CROSS JOIN LATERAL {_FAILED_PARENT} bad
), doomed AS (
    SELECT id, parent, status FROM first
    UNION
    SELECT child.id, d.id, 'cancelled' FROM doomed d CROSS JOIN {_CHILDREN_OF.format(parent="d.id")}
), picked AS MATERIALIZED (
    SELECT DISTINCT ON (d.id) d.parent, d.status, l.ctid
      FROM (SELECT id, parent, status FROM doomed LIMIT {MAX_DOOMED}) d
     CROSS JOIN LATERAL (SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = d.id LIMIT 1) l
     ORDER BY d.id, d.parent
), hit AS (
    UPDATE taskito.jobs j
       SET {CANCELLED}, error = 'parent ' || p.parent || ' was ' || p.status
      FROM picked p, clock c
     WHERE j.ctid = p.ctid AND NOT j.finished
    RETURNING {ENDED}
)
SELECT id, awaited, key, has_dependants FROM hit
UNION ALL
SELECT NULL, NULL, NULL, NULL FROM picked HAVING count(*) > (SELECT count(*) FROM hit)
"""

FREE = f"""
-- Let go of the children of these parents, and of these children, whose parents have all finished. A job with
-- a concurrency key goes on to the next gate. Parents are run in the order of their ids, so the last one
-- is looked at first: of ten thousand it is the one most likely to be live. Changed by id, so that a row
-- which somebody marks as awaited meanwhile is not missed; coalesce, so that no index of all gated rows is
-- read instead.
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

DEPEND = """
INSERT INTO taskito.job_dependencies (job_id, parent_id)
SELECT e.job_id, e.parent_id FROM unnest(%(ids)b, %(parents)b) AS e(job_id, parent_id)
    ON CONFLICT DO NOTHING
"""

TOUCH = """
-- Meet whoever ends one of these parents at this moment. If it was first, this fails, and sees the end when
-- it is tried again. If this was first, the settle passes the row over, and sees the edge at its next try.
UPDATE taskito.jobs_live SET awaited = awaited WHERE id = ANY (%(ids)b)
"""

#: So long is waited for whoever holds a parent's row: a settle takes milliseconds, a task's own transaction
#: may take hours, and then the sweep looks at the child.
TOUCH_TIMEOUT = "1s"

PATIENCE = "SELECT set_config('lock_timeout', %(timeout)b, true)"

UNFREED = """
-- The net: children whose parents somebody should look at, the newest and (true) those after the last seen.
(SELECT l.id, false FROM taskito.jobs_live l WHERE l.gate = 'parents'
  ORDER BY l.gate DESC, l.id DESC LIMIT %(limit)b)
UNION ALL
(SELECT l.id, true FROM taskito.jobs_live l WHERE l.gate = 'parents' AND l.id > %(after)b
  ORDER BY l.gate, l.id LIMIT %(limit)b)
"""

# ---- places ----

LOCK_KEYS = """
-- Until the commit nobody else gives away places of these keys. In ascending order: nobody deadlocks.
SELECT pg_advisory_xact_lock(k.lock) FROM unnest(%(locks)b) AS k(lock)
"""

PROMOTE = f"""
-- Jobs of these keys that have fallen due now compete for places.
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

_NEXT_SLOT = """(SELECT g.slot FROM (SELECT generate_series({first}, {last}) AS slot) g
          WHERE (SELECT true FROM taskito.jobs_live h
                  WHERE h.concurrency_key = {key} AND h.slot = g.slot AND h.slot IS NOT NULL LIMIT 1) IS NULL
          LIMIT 1)"""

LET_IN = f"""
-- Give the free places of these keys to those who are next, one step for each: by priority, age, id, until
-- the next one finds none. Each job says by itself how many places its key has. A row of NULL: once more, as
-- with DOOM.
WITH RECURSIVE clock AS MATERIALIZED (SELECT {NOW} AS now), taken AS MATERIALIZED (
    SELECT k.key, h.count, c.now FROM clock c CROSS JOIN unnest(%(keys)b) AS k(key)
     CROSS JOIN LATERAL (SELECT count(*) FROM taskito.jobs_live h
                          WHERE h.concurrency_key = k.key AND h.slot IS NOT NULL) h
), seat AS (
    SELECT t.key, t.count, t.now, 1 AS number, n.ctid, n.id, n.priority, n.scheduled_at,
           {_NEXT_SLOT.format(first="0::bigint", last="t.count", key="t.key")} AS slot
      FROM taken t CROSS JOIN LATERAL (
           SELECT l.ctid, l.id, l.priority, l.scheduled_at, l.concurrency FROM taskito.jobs_live l
            WHERE l.gate = 'key' AND l.concurrency_key = t.key
               AND (l.expires_at IS NULL OR l.expires_at > t.now)
            ORDER BY l.priority DESC, l.scheduled_at, l.id LIMIT 1) n
     WHERE t.count < n.concurrency
    UNION ALL
    SELECT s.key, s.count, s.now, s.number + 1, n.ctid, n.id, n.priority, n.scheduled_at,
           {_NEXT_SLOT.format(first="s.slot + 1", last="s.slot + 1 + s.count", key="s.key")}
      FROM seat s CROSS JOIN LATERAL (
           (SELECT l.ctid, l.id, l.priority, l.scheduled_at, l.concurrency FROM taskito.jobs_live l
             WHERE l.gate = 'key' AND l.concurrency_key = s.key AND l.priority = s.priority
               AND (l.scheduled_at, l.id) > (s.scheduled_at, s.id)
               AND (l.expires_at IS NULL OR l.expires_at > s.now)
             ORDER BY l.scheduled_at, l.id LIMIT 1)
           UNION ALL
           (SELECT l.ctid, l.id, l.priority, l.scheduled_at, l.concurrency FROM taskito.jobs_live l
             WHERE l.gate = 'key' AND l.concurrency_key = s.key AND l.priority < s.priority
               AND (l.expires_at IS NULL OR l.expires_at > s.now)
             ORDER BY l.priority DESC, l.scheduled_at, l.id LIMIT 1)
           LIMIT 1) n
     WHERE s.count + s.number < n.concurrency
), hit AS (
    UPDATE taskito.jobs_live j SET gate = NULL, slot = s.slot
      FROM seat s WHERE j.ctid = s.ctid
    RETURNING j.id, j.queue
)
SELECT id, queue FROM hit
UNION ALL
SELECT NULL, NULL FROM seat HAVING count(*) > (SELECT count(*) FROM hit)
"""

DROP_EXCESS = f"""
-- Of these new jobs, cancel those that are due and found every place of their key taken.
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
       error = 'dropped: all ' || j.concurrency || ' places of ''' || j.concurrency_key || ''' are taken'
  FROM excess e, clock c
 WHERE j.ctid = e.ctid AND NOT j.finished
RETURNING {ENDED}
"""

FALLEN_DUE = f"""
-- Keys of which a job has fallen due, and nobody has looked.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now)
SELECT l.concurrency_key FROM clock c CROSS JOIN LATERAL (
       SELECT l.concurrency_key FROM taskito.jobs_live l
        WHERE l.gate = 'later' AND l.scheduled_at <= c.now ORDER BY l.scheduled_at LIMIT %(limit)b) l
"""

WITH_ROOM = """
-- The net: keys after the last seen, and whether somebody waits there although a place is free.
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

EXPIRE = f"""
-- Cancel pending jobs whose time to start has passed. One that is being claimed is skipped: it starts.
WITH clock AS MATERIALIZED (SELECT {NOW} AS now), late AS MATERIALIZED (
    SELECT l.ctid FROM clock c CROSS JOIN LATERAL (
           SELECT l.ctid FROM taskito.jobs_live l
            WHERE l.status = 'pending' AND l.expires_at IS NOT NULL AND l.expires_at <= c.now
            ORDER BY l.expires_at LIMIT %(limit)b FOR UPDATE SKIP LOCKED) l
)
UPDATE taskito.jobs j
   SET {CANCELLED}, error = 'expired: not started by ' || to_char(
           to_timestamp(j.expires_at / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')
  FROM late l, clock c
 WHERE j.ctid = l.ctid AND NOT j.finished
RETURNING {ENDED}
"""

NEXT_SWEEP = f"SELECT {SWEEP_AT}, {NOW}"

#: What runs for every job with a gate, or with every sweep: a test looks at how each is planned.
HOT = (
    *(DOOM, FREE, TOUCH, DEPEND, UNFREED, LOCK_KEYS, PROMOTE, LET_IN, DROP_EXCESS),
    *(FALLEN_DUE, WITH_ROOM, EXPIRE, NEXT_SWEEP),
)
