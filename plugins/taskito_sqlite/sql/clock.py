"""A clock that was set back: noticing it, and moving what was written ahead.

``:now`` is what the clock shows, ``:by`` how far it was set back, and ``:ahead`` what it would show if it had
not been. What has happened cannot be later than now, so a row that says so was written by the clock of
before: it moves back by as much. A moment that somebody named stays, unless it was named then and had
come.
"""

from __future__ import annotations

SEE_CLOCK = """
-- At each heartbeat: how far the clock has come. If it was set back and nobody has dealt with that yet, what
-- it would show by now, as far as the worker knows (:expected): that tells best by how much.
UPDATE clock SET latest = max(latest, :now, CASE WHEN latest > :now + :swing THEN :expected ELSE 0 END)
"""

CLOCK_AHEAD = """
-- The latest moment that the clock has shown, by a heartbeat or by a row; and whether moving is under way.
SELECT max(latest, coalesce((SELECT created_at FROM jobs INDEXED BY jobs_created
                              ORDER BY created_at DESC LIMIT 1), 0)), unfinished
  FROM clock
"""

CLOCK_SET_BACK = """
-- Write down that rows are being moved, or (:unfinished is 0) that all are.
UPDATE clock SET latest = CASE WHEN :unfinished THEN latest ELSE :now END, unfinished = :unfinished,
                 set_back_at = CASE WHEN unfinished THEN set_back_at ELSE :now END,
                 set_back_by = CASE WHEN unfinished THEN set_back_by ELSE :by END
"""

#: Condition of a live job that says what cannot be: that something happened later than now.
_LIVE_AHEAD = "(created_at > :now OR claimed_at > :now OR delayed_at > :now)"

SET_BACK_LIVE = f"""
-- Live jobs: what was due is due, in the same order; a wait that was counted by the clock of before keeps
-- what is left of it, and lasts no longer than it was to last.
UPDATE jobs SET
       scheduled_at = CASE WHEN delayed_at > :now
                           THEN min(scheduled_at - :by, :now + scheduled_at - delayed_at)
                           WHEN scheduled_at > :now AND (
                                created_at > :now AND scheduled_at <= max(:ahead, created_at)
                                OR scheduled_at <= claimed_at)
                           THEN min(scheduled_at - :by, :now) ELSE scheduled_at END,
       delayed_at = CASE WHEN delayed_at > :now THEN min(delayed_at - :by, :now) ELSE delayed_at END,
       expires_at = CASE WHEN expires_from > :now
                         THEN min(expires_at - :by, :now + expires_at - expires_from) ELSE expires_at END,
       expires_from = CASE WHEN expires_from > :now THEN min(expires_from - :by, :now) ELSE expires_from END,
       created_at = CASE WHEN created_at > :now THEN min(created_at - :by, :now) ELSE created_at END,
       claimed_at = CASE WHEN claimed_at > :now THEN min(claimed_at - :by, :now) ELSE claimed_at END,
       started_at = CASE WHEN started_at > :now THEN min(started_at - :by, :now) ELSE started_at END
 WHERE seq IN (
       SELECT seq FROM jobs INDEXED BY jobs_claim
        WHERE status = 'pending' AND gate IS NULL AND scheduled_at > :now AND {_LIVE_AHEAD}
       UNION
       SELECT seq FROM jobs INDEXED BY jobs_gated
        WHERE gate IS NOT NULL AND completed_at IS NULL AND {_LIVE_AHEAD}
       UNION
       SELECT seq FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND {_LIVE_AHEAD}
       UNION
       SELECT seq FROM jobs INDEXED BY jobs_created WHERE created_at > :now AND completed_at IS NULL
       LIMIT :limit)
RETURNING queue
"""

SET_BACK_FINISHED = """
-- Finished jobs, so that they are listed and pruned in their time. jobs_finished holds all that is asked for.
UPDATE jobs SET
       prune_at = CASE WHEN completed_at > :now
                       THEN min(completed_at - :by, :now) + prune_at - completed_at ELSE prune_at END,
       completed_at = CASE WHEN completed_at > :now THEN min(completed_at - :by, :now) ELSE completed_at END,
       created_at = CASE WHEN created_at > :now THEN min(created_at - :by, :now) ELSE created_at END,
       claimed_at = CASE WHEN claimed_at > :now THEN min(claimed_at - :by, :now) ELSE claimed_at END,
       started_at = CASE WHEN started_at > :now THEN min(started_at - :by, :now) ELSE started_at END
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_finished
                WHERE completed_at IS NOT NULL AND (completed_at > :now OR created_at > :now) LIMIT :limit)
"""

SET_BACK_LETTERS = """
-- Dead letters, which are listed by when they were written.
UPDATE dead_letter SET failed_at = min(failed_at - :by, :now),
       expires_at = CASE WHEN created_at > :now
                         THEN min(created_at - :by, :now) + expires_at - created_at ELSE expires_at END,
       created_at = CASE WHEN created_at > :now THEN min(created_at - :by, :now) ELSE created_at END
 WHERE job_id IN (SELECT job_id FROM dead_letter INDEXED BY dead_letter_page
                   WHERE failed_at > :now LIMIT :limit)
"""

SET_BACK_WORKERS = """
-- Workers, which are forgotten a day after they were seen.
UPDATE workers SET last_seen = CASE WHEN last_seen > :now THEN min(last_seen - :by, :now) ELSE last_seen END,
       started_at = CASE WHEN started_at > :now THEN min(started_at - :by, :now) ELSE started_at END
 WHERE last_seen > :now OR started_at > :now
"""

SET_BACK_PERIODIC = """
-- Declarations of periodic tasks, which count for ten minutes. Their slots are the workers' business.
UPDATE periodic_tasks SET registered_at = :now WHERE registered_at > :now
"""

SET_BACK_QUEUES = """
-- The buckets of queues, too.
UPDATE queue_limits SET refilled_at = :now WHERE refilled_at > :now
"""

SET_BACK_BUCKETS = """
-- Token buckets fill again from now on.
UPDATE rate_limits SET refilled_at = :now WHERE refilled_at > :now
"""

SET_BACK_CALLS = """
-- What is left of the time in which a job stands for other calls stays.
UPDATE last_calls SET until = min(until - :by, :now + until - called_at),
       called_at = min(called_at - :by, :now)
 WHERE called_at > :now
"""

SET_BACK_BREAKERS = """
-- What is left of a cool-down stays. The probe is known by its moment; that of the failures is seen to when
-- they are counted.
UPDATE circuit_breakers SET opened_at = min(opened_at - :by, :now) WHERE opened_at > :now
"""

#: Of each at most :limit rows at a time.
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
