"""The statements of what happens to stored jobs beside running: waiting for each other and for places,
cancelling, repeating, deleting. How they bind: see ``sql``.
"""

from __future__ import annotations

# ---- unique keys ----

HOLDER = """
-- The live job that holds a unique key.
SELECT id FROM jobs INDEXED BY jobs_unique WHERE unique_key = ?1 AND completed_at IS NULL
"""

STATES = """
-- The states of these jobs.
SELECT id, status FROM jobs WHERE id IN (SELECT value FROM json_each(?1))
"""

# ---- parents ----

ADD_EDGE = """
-- One job waits for another.
INSERT OR IGNORE INTO job_dependencies (job_id, parent_id, tolerant) VALUES (?1, ?2, ?3)
"""

OUTSTANDING = """
-- Has a job ended that others wait for, or that still holds a place?
SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_followed
                WHERE followed IS NOT NULL AND completed_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_vacated
                WHERE slot IS NOT NULL AND completed_at IS NOT NULL)
"""

FOLLOW = """
-- Parents that have not finished are asked to be followed up by whoever writes after their end.
UPDATE jobs SET followed = 1
 WHERE id IN (SELECT value FROM json_each(?1)) AND completed_at IS NULL AND followed IS NULL
"""

FOLLOWED = """
-- Finished jobs that others may wait for, and how they ended.
SELECT id, status FROM jobs INDEXED BY jobs_followed WHERE followed IS NOT NULL AND completed_at IS NOT NULL
"""

MET = """
-- Their children were met.
UPDATE jobs SET followed = NULL WHERE id IN (SELECT value FROM json_each(?1))
"""

WAITING_CHILDREN = """
-- The jobs that wait for one of these finished parents; and the first of them, if any, that the child minds.
SELECT child.id, child.concurrency_key,
       min(CASE WHEN NOT edge.tolerant AND parent.status <> 'complete' THEN parent.id END)
  FROM json_each(?1) AS wanted
  JOIN jobs AS parent ON parent.id = wanted.value
  JOIN job_dependencies AS edge INDEXED BY job_dependencies_parent ON edge.parent_id = parent.id
  JOIN jobs AS child ON child.id = edge.job_id
 WHERE child.gate = 'parents' AND child.completed_at IS NULL
 GROUP BY child.id
"""

UNFINISHED_PARENT = """
-- One parent of a job that has not finished. The youngest are asked first: they are the last to finish, as a
-- rule, so that a job with ten thousand parents does not cost ten thousand looks at the end of each.
SELECT 1 FROM job_dependencies AS edge JOIN jobs AS parent ON parent.id = edge.parent_id
 WHERE edge.job_id = ?1 AND parent.completed_at IS NULL ORDER BY edge.parent_id DESC LIMIT 1
"""

LOST_PARENT = """
-- One parent that is stored no more, if its child minds: nobody knows that it completed.
SELECT edge.parent_id FROM job_dependencies AS edge LEFT JOIN jobs AS parent ON parent.id = edge.parent_id
 WHERE edge.job_id = ?1 AND NOT edge.tolerant AND parent.id IS NULL ORDER BY edge.parent_id LIMIT 1
"""

OPEN_GATE = """
-- Its parents have finished: claimable, or on to the gate of its key.
UPDATE jobs SET gate = CASE WHEN concurrency_key IS NOT NULL THEN 'later' END
 WHERE id = ?1 AND gate = 'parents' RETURNING queue
"""

# ---- places ----

IN_LINE = """
-- Does it stand in line for a place?
SELECT gate = 'key' FROM jobs WHERE id = ?1
"""

VACATE = """
-- Finished jobs give up their places.
UPDATE jobs SET slot = NULL
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_vacated
                WHERE slot IS NOT NULL AND completed_at IS NOT NULL)
RETURNING concurrency_key
"""

STEP_BACK = """
-- A job that runs again later gives up its place meanwhile.
UPDATE jobs SET slot = NULL, gate = 'later' WHERE id = ?1 AND concurrency_key IS NOT NULL
"""

COME_DUE = """
-- Jobs of a key whose time has come stand in line now.
UPDATE jobs INDEXED BY jobs_later_of_key SET gate = 'key'
 WHERE gate = 'later' AND concurrency_key = ?1 AND scheduled_at <= ?2
"""

TAKEN = """
-- The places of a key that are taken.
SELECT slot FROM jobs INDEXED BY jobs_slot WHERE concurrency_key = ?1 AND slot IS NOT NULL
"""

FIRST_IN_LINE = """
-- The best job of a key that stands in line.
SELECT seq, queue, places FROM jobs INDEXED BY jobs_at_key
 WHERE gate = 'key' AND concurrency_key = ?1 ORDER BY priority DESC, scheduled_at, id LIMIT 1
"""

TAKE_PLACE = """
-- It has this place now, and can be claimed.
UPDATE jobs SET gate = NULL, slot = ?2 WHERE seq = ?1 RETURNING id
"""

KEYS_DUE = """
-- Keys of jobs whose time has come while nobody looked.
SELECT DISTINCT concurrency_key FROM jobs INDEXED BY jobs_later
 WHERE gate = 'later' AND scheduled_at <= ?1 LIMIT ?2
"""

NEXT_LATER = """
-- When the next job falls due that waits for its time behind a gate.
SELECT scheduled_at FROM jobs INDEXED BY jobs_later WHERE gate = 'later' ORDER BY scheduled_at LIMIT 1
"""

# ---- expiry and cancelling ----

EXPIRED = """
-- Pending jobs whose time to begin has passed.
SELECT id, expires_at FROM jobs INDEXED BY jobs_expire
 WHERE expires_at IS NOT NULL AND status = 'pending' AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2
"""

NEXT_EXPIRY = """
-- When the next pending job expires.
SELECT expires_at FROM jobs INDEXED BY jobs_expire
 WHERE expires_at IS NOT NULL AND status = 'pending' ORDER BY expires_at LIMIT 1
"""

CANCEL = """
-- End a pending job, gated or not.
UPDATE jobs SET status = 'cancelled', completed_at = ?2, error = ?3, gate = NULL,
                prune_at = ?2 + CAST(result_ttl * 1000 AS INTEGER)
 WHERE id = ?1 AND status = 'pending'
RETURNING id
"""

ASK_TO_CANCEL = """
-- Let the worker of a running job know that it is to stop. Force stays.
UPDATE jobs SET cancel_at = coalesce(cancel_at, ?2), cancel_force = max(cancel_force, ?3)
 WHERE id = ?1 AND status = 'running'
RETURNING worker
"""

ASKED_OF = """
-- Was this running attempt asked to cancel?
SELECT 1 FROM jobs WHERE id = ?1 AND token = ?2 AND status = 'running' AND cancel_at IS NOT NULL
"""

DOORBELL = """
-- Where a live worker hears.
SELECT doorbell FROM workers WHERE worker_id = ?1 AND status = 'alive' AND doorbell IS NOT NULL
"""

# ---- repeating ----

ORIGINAL = """
-- A finished job, as it would be enqueued again.
SELECT task_name, queue, priority, max_retries, timeout, result_ttl, tags, metadata, payload, lane,
       expires_at - created_at, unique_key, concurrency_key, places, status, error, result
  FROM jobs WHERE id = ?1 AND completed_at IS NOT NULL
"""

LETTER = """
-- A dead letter, as its job would be enqueued again when the job itself is gone.
SELECT task_name, queue, priority, max_retries, timeout, result_ttl, tags, metadata, payload, '',
       NULL, NULL, NULL, NULL, 'dead', error, NULL
  FROM dead_letter WHERE job_id = ?1
"""

HAS_LETTER = """
-- Is it in the dead letter?
SELECT 1 FROM dead_letter WHERE job_id = ?1
"""
DROP_LETTER = "DELETE FROM dead_letter WHERE job_id = ?1"

NOTE_REPLAY = """
-- Write down that a job was run again.
INSERT INTO replay_history (job_id, replay_id, replayed_at, status_before, old_error, old_result)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
"""

# ---- deleting ----

KEPT = """
-- Of these, the parents that a live job may still ask for.
SELECT DISTINCT edge.parent_id
  FROM json_each(?1) AS wanted
  JOIN job_dependencies AS edge INDEXED BY job_dependencies_parent ON edge.parent_id = wanted.value
  JOIN jobs AS child ON child.id = edge.job_id
 WHERE child.completed_at IS NULL
"""

FINISHED = """
-- Of these, the ones that have finished or left a letter.
SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?1)) AND completed_at IS NOT NULL
UNION
SELECT job_id FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(?1))
   AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = dead_letter.job_id)
"""

DELETE_JOBS = "DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?1))"
DELETE_ERRORS = "DELETE FROM job_errors WHERE job_id IN (SELECT value FROM json_each(?1))"
DELETE_LETTERS = "DELETE FROM dead_letter WHERE job_id IN (SELECT value FROM json_each(?1))"
DELETE_LOGS = "DELETE FROM task_logs WHERE job_id IN (SELECT value FROM json_each(?1))"
DELETE_EDGES = "DELETE FROM job_dependencies WHERE job_id IN (SELECT value FROM json_each(?1))"
DELETE_EDGES_TO = "DELETE FROM job_dependencies WHERE parent_id IN (SELECT value FROM json_each(?1))"
DELETE_REPLAYS = "DELETE FROM replay_history WHERE job_id IN (SELECT value FROM json_each(?1))"
DELETE = (
    *(DELETE_JOBS, DELETE_ERRORS, DELETE_LETTERS, DELETE_LOGS, DELETE_EDGES, DELETE_EDGES_TO),
    DELETE_REPLAYS,
)

_ASKED_FOR = """
SELECT 1 FROM job_dependencies AS edge INDEXED BY job_dependencies_parent
  JOIN jobs AS child ON child.id = edge.job_id
 WHERE edge.parent_id = done.id AND child.completed_at IS NULL"""

ENDED_BEFORE = f"""
-- Jobs that ended in this state before a moment and that no live job may still ask for.
SELECT id FROM jobs AS done INDEXED BY jobs_finished
 WHERE completed_at IS NOT NULL AND status = ?1 AND completed_at < ?2 AND NOT EXISTS ({_ASKED_FOR}) LIMIT ?3
"""

OUTLIVED = f"""
-- The same of those whose time to be kept has passed, longest first.
SELECT id FROM jobs AS done INDEXED BY jobs_prune
 WHERE prune_at IS NOT NULL AND prune_at <= ?1 AND NOT EXISTS ({_ASKED_FOR})
 ORDER BY prune_at LIMIT ?2
"""

# ---- queues ----

PAUSE = """
-- Nothing is claimed from a queue any more.
INSERT OR IGNORE INTO paused_queues (queue, paused_at) VALUES (?1, ?2)
"""
RESUME = "DELETE FROM paused_queues WHERE queue = ?1"
PAUSED_SINCE = """
-- The paused queues.
SELECT queue, paused_at FROM paused_queues ORDER BY queue
"""

#: What runs per batch of jobs or per sweep: a test forbids these to scan a table.
HOT = (
    *("HOLDER", "STATES", "FOLLOW", "FOLLOWED", "OUTSTANDING", "MET", "WAITING_CHILDREN"),
    *("UNFINISHED_PARENT", "LOST_PARENT", "OPEN_GATE", "VACATE", "IN_LINE", "STEP_BACK"),
    *("COME_DUE", "TAKEN", "FIRST_IN_LINE", "TAKE_PLACE", "KEYS_DUE", "NEXT_LATER", "EXPIRED", "NEXT_EXPIRY"),
    *("CANCEL", "ASK_TO_CANCEL", "ASKED_OF", "DOORBELL", "ORIGINAL", "LETTER", "KEPT", "FINISHED"),
    *("DELETE_JOBS", "DELETE_ERRORS", "DELETE_LETTERS", "DELETE_LOGS", "DELETE_EDGES", "DELETE_EDGES_TO"),
    *("DELETE_REPLAYS", "ENDED_BEFORE", "OUTLIVED"),
)
