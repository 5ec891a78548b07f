"""LISTEN and NOTIFY: workers hear of new jobs, and callers of ``result()`` of the end of theirs."""

from __future__ import annotations

NOTIFY_WORKERS = """
-- Notify the workers that wait for these queues; if none waits, nothing is sent and nothing is written.
-- The commit may be lazy: a wakeup may be lost. The worker that sends it is left out.
SELECT pg_notify(%(channel)b, q.queue), set_config('synchronous_commit', 'off', true)
  FROM unnest(%(queues)b) AS q(queue)
 WHERE EXISTS (SELECT 1 FROM taskito.workers w
                WHERE w.status = 'alive' AND w.waiting IS NOT NULL AND w.waiting::jsonb ? q.queue
                  AND w.worker_id <> %(worker)b
                  AND w.last_seen > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 60000)
"""

NOTIFY = """
-- Notify all that listen, at the commit of the transaction that this is part of.
SELECT pg_notify(%(channel)b, t.payload) FROM unnest(%(payloads)b) AS t(payload)
"""

NOTIFY_FINISHED = """
-- Say which awaited jobs ended: JSON lists of ids, each short enough for a notification.
SELECT pg_notify(%(channel)b, t.ids), set_config('synchronous_commit', 'off', true)
  FROM unnest(%(payloads)b) AS t(ids)
"""

AWAIT = """
-- Mark this job as awaited: its end is notified. Skips a row that is held: it may be by a task's own
-- transaction. Commits lazily, so that the row is free again at once: a claim passes over a row that is held.
UPDATE taskito.jobs_live SET awaited = true
 WHERE ctid = (SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = %(id)b AND NOT l.awaited
                 FOR UPDATE SKIP LOCKED)
RETURNING set_config('synchronous_commit', 'off', true)
"""

IS_AWAITED = """
-- Whether this job is marked as awaited; no row: it has ended.
SELECT awaited FROM taskito.jobs_live WHERE id = %(id)b
"""

AWAIT_MANY = """
-- Mark these jobs as awaited, as AWAIT does one.
UPDATE taskito.jobs_live SET awaited = true
 WHERE ctid = ANY (ARRAY(SELECT l.ctid FROM taskito.jobs_live l WHERE l.id = ANY (%(ids)b) AND NOT l.awaited
                            FOR UPDATE SKIP LOCKED))
RETURNING set_config('synchronous_commit', 'off', true)
"""

ARE_AWAITED = """
-- Which of these jobs have not ended, and whether each is marked as awaited.
SELECT id, awaited FROM taskito.jobs_live WHERE id = ANY (%(ids)b)
"""

IS_LIVE = """
-- Whether this job has not ended.
SELECT EXISTS (SELECT 1 FROM taskito.jobs_live WHERE id = %(id)b)
"""
