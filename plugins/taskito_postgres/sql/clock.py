"""The store's clock: milliseconds since the epoch, as the server sees them. And what if it was set back.

``by`` is how far, and ``ahead`` what the clock would show if it had not been. What has happened cannot be
later than now, so a row that says so was written by the clock of before: it moves back by as much. A moment
that somebody named stays, unless it was named then and had come. Rows that others hold are left for the next
time.
"""

from __future__ import annotations

#: clock_timestamp(), because the transaction of a caller may be hours old.
NOW = "(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + %(shift)b)"

CLOCK = f"""
-- The store's clock.
SELECT {NOW}
"""

# ---- a clock that was set back ----

SEE_CLOCK = f"""
-- At each heartbeat: how far the clock has come. If it was set back and nobody has dealt with that yet, what
-- it would show by now, as far as the worker knows (expected): that tells best by how much. Waits for nobody.
UPDATE taskito.clock SET latest = c.latest FROM (
       SELECT k.ctid AS tid, greatest(k.latest, n.now, CASE WHEN k.latest > n.now + %(swing)b
                                                           THEN %(expected)b::bigint END) AS latest
         FROM taskito.clock k CROSS JOIN (SELECT {NOW} AS now) n FOR UPDATE OF k SKIP LOCKED) c
 WHERE clock.ctid = c.tid
"""

CLOCK_AHEAD = f"""
-- The latest moment that the clock has shown, by a heartbeat or by a row; whether moving is under way; now.
SELECT greatest(k.latest, (SELECT l.created_at FROM taskito.jobs_live l WHERE l.status = 'pending'
                            ORDER BY l.created_at DESC LIMIT 1)), k.unfinished, {NOW}
  FROM taskito.clock k
"""

LOCK_CLOCK = """
-- One worker at a time moves rows. No row: another is at it.
SELECT 1 FROM taskito.clock FOR UPDATE SKIP LOCKED
"""

CLOCK_SET_BACK = """
-- Write down that rows are being moved, or (unfinished is false) that all are.
UPDATE taskito.clock SET latest = CASE WHEN %(unfinished)b THEN latest ELSE %(now)b END,
       set_back_at = CASE WHEN unfinished THEN set_back_at ELSE %(now)b END,
       set_back_by = CASE WHEN unfinished THEN set_back_by ELSE %(by)b END, unfinished = %(unfinished)b
"""


def _set_back(*names: str) -> str:
    """For SET: what has happened by the clock of before."""
    return ", ".join(
        f"{name} = CASE WHEN {name} > %(now)b THEN least({name} - %(by)b, %(now)b) ELSE {name} END"
        for name in names
    )


#: Condition of a live job that says what cannot be: that something happened later than now.
_LIVE_AHEAD = "(l.created_at > %(now)b OR l.claimed_at > %(now)b OR l.delayed_at > %(now)b)"

SET_BACK_LIVE = f"""
-- Live jobs: what was due is due, in the same order; a wait that was counted by the clock of before keeps
-- what is left of it, and lasts no longer than it was to last.
UPDATE taskito.jobs_live j SET
       scheduled_at = CASE WHEN delayed_at > %(now)b
                           THEN least(scheduled_at - %(by)b, %(now)b + scheduled_at - delayed_at)
                           WHEN scheduled_at > %(now)b AND (
                                created_at > %(now)b AND scheduled_at <= greatest(%(ahead)b, created_at)
                                OR scheduled_at <= claimed_at)
                           THEN least(scheduled_at - %(by)b, %(now)b) ELSE scheduled_at END,
       expires_at = CASE WHEN expires_from > %(now)b
                         THEN least(expires_at - %(by)b, %(now)b + expires_at - expires_from)
                         ELSE expires_at END,
       {_set_back("delayed_at", "expires_from", "created_at", "claimed_at", "started_at")}
 WHERE j.id = ANY (ARRAY(SELECT l.id FROM taskito.jobs_live l WHERE {_LIVE_AHEAD}
                          LIMIT %(limit)b FOR UPDATE SKIP LOCKED))
RETURNING j.queue
"""

LIVE_AHEAD = f"""
-- Whether there are more of them, also such as another transaction holds.
SELECT EXISTS (SELECT 1 FROM taskito.jobs_live l WHERE {_LIVE_AHEAD})
"""

SET_BACK_FINISHED = f"""
-- Finished jobs, so that they are listed and pruned in their time.
UPDATE taskito.jobs_done j SET
       prune_at = CASE WHEN completed_at > %(now)b
                       THEN least(completed_at - %(by)b, %(now)b) + prune_at - completed_at
                       ELSE prune_at END,
       {_set_back("completed_at", "created_at", "claimed_at", "started_at")}
 WHERE j.id = ANY (ARRAY(SELECT d.id FROM taskito.jobs_done d
                          WHERE d.completed_at > %(now)b OR d.created_at > %(now)b
                          LIMIT %(limit)b FOR UPDATE SKIP LOCKED))
RETURNING j.id
"""

SET_BACK_LETTERS = f"""
-- Dead letters, which are listed by when they were written.
UPDATE taskito.dead_letter j SET
       expires_at = CASE WHEN created_at > %(now)b
                         THEN least(created_at - %(by)b, %(now)b) + expires_at - created_at
                         ELSE expires_at END,
       {_set_back("failed_at", "created_at")}
 WHERE j.job_id = ANY (ARRAY(SELECT d.job_id FROM taskito.dead_letter d WHERE d.failed_at > %(now)b
                              LIMIT %(limit)b FOR UPDATE SKIP LOCKED))
RETURNING j.job_id
"""

SET_BACK_WORKERS = f"""
-- Workers, which are forgotten a day after they were seen.
UPDATE taskito.workers j SET {_set_back("last_seen", "started_at")}
 WHERE j.worker_id = ANY (ARRAY(SELECT w.worker_id FROM taskito.workers w
                                 WHERE w.last_seen > %(now)b OR w.started_at > %(now)b
                                   FOR UPDATE SKIP LOCKED))
"""

SET_BACK_PERIODIC = """
-- Declarations of periodic tasks, which count for ten minutes. Their slots are the workers' business.
UPDATE taskito.periodic_tasks SET registered_at = %(now)b
 WHERE name = ANY (ARRAY(SELECT p.name FROM taskito.periodic_tasks p
                          WHERE p.registered_at > %(now)b FOR UPDATE SKIP LOCKED))
"""

SET_BACK_QUEUES = """
-- The buckets of queues, too.
UPDATE taskito.queue_limits SET refilled_at = %(now)b
 WHERE queue = ANY (ARRAY(SELECT q.queue FROM taskito.queue_limits q
                           WHERE q.refilled_at > %(now)b FOR UPDATE SKIP LOCKED))
"""

SET_BACK_BUCKETS = """
-- Token buckets fill again from now on.
UPDATE taskito.rate_limits SET refilled_at = %(now)b
 WHERE key = ANY (ARRAY(SELECT r.key FROM taskito.rate_limits r
                         WHERE r.refilled_at > %(now)b FOR UPDATE SKIP LOCKED))
"""

SET_BACK_CALLS = """
-- What is left of the time in which a job stands for other calls stays.
UPDATE taskito.last_calls SET until = least(until - %(by)b, %(now)b + until - called_at),
       called_at = least(called_at - %(by)b, %(now)b)
 WHERE key = ANY (ARRAY(SELECT l.key FROM taskito.last_calls l
                         WHERE l.called_at > %(now)b ORDER BY l.key FOR UPDATE SKIP LOCKED))
"""

SET_BACK_BREAKERS = f"""
-- What is left of a cool-down stays. The probe is known by its moment; that of the failures is seen to when
-- they are counted.
UPDATE taskito.circuit_breakers SET {_set_back("opened_at")}
 WHERE task_name = ANY (ARRAY(SELECT b.task_name FROM taskito.circuit_breakers b
                               WHERE b.opened_at > %(now)b FOR UPDATE SKIP LOCKED))
"""

#: Of each at most ``limit`` rows at a time.
MANY = (SET_BACK_FINISHED, SET_BACK_LETTERS)
#: Tables of a few rows each, when all else is done.
FEW = (
    SET_BACK_WORKERS,
    SET_BACK_PERIODIC,
    SET_BACK_BUCKETS,
    SET_BACK_QUEUES,
    SET_BACK_CALLS,
    SET_BACK_BREAKERS,
)
