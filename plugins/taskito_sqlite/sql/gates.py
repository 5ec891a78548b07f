"""Gates: what keeps a pending job from being claimed (parents, a concurrency key), and what opens them."""

from __future__ import annotations

# ---- parents ----

ADD_EDGES = """
-- One job waits for another; sent once per edge. The same edge again changes nothing.
INSERT OR IGNORE INTO job_dependencies (job_id, parent_id) VALUES (:id, :parent)
"""

OUTSTANDING = """
-- Whether a job has ended that others wait for, or that still holds a slot.
SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_followed
                WHERE followed IS NOT NULL AND completed_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_vacated
                WHERE slot IS NOT NULL AND completed_at IS NOT NULL)
"""

MARK_FOLLOWED = """
-- Mark parents that have not finished: the first writer after their end goes on with their children.
UPDATE jobs SET followed = 1
 WHERE id IN (SELECT value FROM json_each(:ids)) AND completed_at IS NULL AND followed IS NULL
"""

FOLLOWED = """
-- Finished jobs that others may wait for, and how they ended.
SELECT id, status FROM jobs INDEXED BY jobs_followed WHERE followed IS NOT NULL AND completed_at IS NOT NULL
"""

CLEAR_FOLLOWED = """
-- The children of these jobs were dealt with.
UPDATE jobs SET followed = NULL WHERE id IN (SELECT value FROM json_each(:ids))
"""

WAITING_CHILDREN = """
-- The jobs that wait for one of these finished parents, each with the first (if any) of these parents that
-- did not complete although the child needs it to.
SELECT child.id, child.concurrency_key,
       min(CASE WHEN NOT child.tolerant AND parent.status <> 'complete' THEN parent.id END)
  FROM json_each(:ids) AS wanted
  JOIN jobs AS parent ON parent.id = wanted.value
  JOIN job_dependencies AS edge INDEXED BY job_dependencies_parent ON edge.parent_id = parent.id
  JOIN jobs AS child ON child.id = edge.job_id
 WHERE child.gate = 'parents' AND child.completed_at IS NULL
 GROUP BY child.id
"""

UNFINISHED_PARENT = """
-- A row if a parent of this job has not finished. The youngest come first, because as a rule they finish
-- last: a job with ten thousand parents must not cost ten thousand probes at the end of each.
SELECT 1 FROM job_dependencies AS edge JOIN jobs AS parent ON parent.id = edge.parent_id
 WHERE edge.job_id = :id AND parent.completed_at IS NULL ORDER BY edge.parent_id DESC LIMIT 1
"""

LOST_PARENT = """
-- The first parent of this job that is stored no more although the job needs it to complete.
SELECT edge.parent_id
  FROM jobs AS child
  JOIN job_dependencies AS edge ON edge.job_id = child.id
  LEFT JOIN jobs AS parent ON parent.id = edge.parent_id
 WHERE child.id = :id AND NOT child.tolerant AND parent.id IS NULL ORDER BY edge.parent_id LIMIT 1
"""

OPEN_PARENTS_GATE = """
-- All parents of a job have finished: it can be claimed, or goes on to the gate of its key.
UPDATE jobs SET gate = CASE WHEN concurrency_key IS NOT NULL THEN 'later' END
 WHERE id = :id AND gate = 'parents' RETURNING queue
"""

# ---- slots of a key ----

VACATE_SLOTS = """
-- Finished jobs give up their slots; the keys that have a free one now.
UPDATE jobs SET slot = NULL
 WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_vacated
                WHERE slot IS NOT NULL AND completed_at IS NOT NULL)
RETURNING concurrency_key
"""

LEAVE_SLOT = """
-- A job that runs again later gives up its slot until then.
UPDATE jobs SET slot = NULL, gate = 'later' WHERE id = :id AND concurrency_key IS NOT NULL
"""

PROMOTE = """
-- The jobs of a key that have fallen due wait for a slot now.
UPDATE jobs INDEXED BY jobs_later_of_key SET gate = 'key'
 WHERE gate = 'later' AND concurrency_key = :key AND scheduled_at <= :now
"""

TAKEN_SLOTS = """
-- The slots of a key that are taken.
SELECT slot FROM jobs INDEXED BY jobs_slot WHERE concurrency_key = :key AND slot IS NOT NULL
"""

FIRST_AT_KEY = """
-- The job that gets the next slot of a key: by priority, due time, id.
SELECT seq, queue, concurrency FROM jobs INDEXED BY jobs_at_key
 WHERE gate = 'key' AND concurrency_key = :key ORDER BY priority DESC, scheduled_at, id LIMIT 1
"""

OPEN_KEY_GATE = """
-- A job takes this slot of its key, and can be claimed.
UPDATE jobs SET gate = NULL, slot = :slot WHERE seq = :seq RETURNING id
"""

KEYS_DUE = """
-- Keys of jobs that have fallen due and do not wait for a slot yet.
SELECT DISTINCT concurrency_key FROM jobs INDEXED BY jobs_later
 WHERE gate = 'later' AND scheduled_at <= :now LIMIT :limit
"""

# ---- what a sweep does beside ----

EXPIRED = """
-- Pending jobs whose time to start has passed, longest first.
SELECT id, expires_at FROM jobs INDEXED BY jobs_expire
 WHERE expires_at IS NOT NULL AND status = 'pending' AND expires_at <= :now ORDER BY expires_at LIMIT :limit
"""

NEXT_SWEEP = """
-- The earliest moment at which a pending job expires, or a job behind the gate of its key falls due.
SELECT min(moment) FROM (
  SELECT (SELECT expires_at FROM jobs INDEXED BY jobs_expire
           WHERE expires_at IS NOT NULL AND status = 'pending' ORDER BY expires_at LIMIT 1) AS moment
  UNION ALL
  SELECT (SELECT scheduled_at FROM jobs INDEXED BY jobs_later
           WHERE gate = 'later' ORDER BY scheduled_at LIMIT 1))
"""

HOT = (
    *(OUTSTANDING, MARK_FOLLOWED, FOLLOWED, CLEAR_FOLLOWED, WAITING_CHILDREN, UNFINISHED_PARENT, LOST_PARENT),
    *(OPEN_PARENTS_GATE, VACATE_SLOTS, LEAVE_SLOT, PROMOTE, TAKEN_SLOTS, FIRST_AT_KEY, OPEN_KEY_GATE),
    *(KEYS_DUE, EXPIRED, NEXT_SWEEP),
)
