"""What is known of jobs beside their rows: what they said, who they depend on, and why one does not run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from taskito_core import Edge, Facts, JobStatus, LogEntry, LogFilter, Note, Progress, Replay
from taskito_sqlite import look

#: How far ``Facts.ahead`` is counted.
MOST_AHEAD = 10_000

PROGRESS = "UPDATE jobs SET progress = ?2 WHERE id = ?1"

LOG = """
-- Keep a line of a job that is stored; the same line again changes nothing.
INSERT OR IGNORE INTO task_logs (id, job_id, task_name, token, logged_at, level, message, extra)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?2)
"""

_ENTRY = "SELECT id, job_id, task_name, token, logged_at, level, message, extra FROM task_logs"
_WANTED = """
   AND (:levels IS NULL OR level IN (SELECT value FROM json_each(:levels)))
   AND (:since IS NULL OR logged_at >= :since)
   AND (:after IS NULL OR id > :after)
 ORDER BY id LIMIT :limit
"""
LOGS_OF_JOB = f"{_ENTRY} WHERE job_id = :job_id AND (:task_name IS NULL OR task_name = :task_name) {_WANTED}"
LOGS_OF_TASK = f"{_ENTRY} WHERE task_name = :task_name {_WANTED}"
LOGS = f"{_ENTRY} INDEXED BY task_logs_id WHERE id IS NOT NULL {_WANTED}"

HAS_LOGS = "SELECT EXISTS (SELECT 1 FROM task_logs WHERE job_id = ?1 AND (?2 IS NULL OR id > ?2))"

EDGES = """
SELECT job_id, parent_id FROM job_dependencies WHERE job_id IN (SELECT value FROM json_each(?1))
UNION
SELECT job_id, parent_id FROM job_dependencies WHERE parent_id IN (SELECT value FROM json_each(?1))
"""

REPLAYS = """
SELECT r.job_id, r.replay_id, r.replayed_at, r.status_before, r.old_error, j.status, j.error, j.result
  FROM replay_history AS r LEFT JOIN jobs AS j ON j.id = r.replay_id
 WHERE r.job_id = ?1 ORDER BY r.seq
"""

WHERE = """
SELECT lane, places, EXISTS (SELECT 1 FROM paused_queues WHERE paused_queues.queue = jobs.queue)
  FROM jobs WHERE id = ?1
"""

PARENTS = """
SELECT parent.id, parent.status
  FROM job_dependencies AS edge JOIN jobs AS parent ON parent.id = edge.parent_id
 WHERE edge.job_id = ?1 AND parent.completed_at IS NULL ORDER BY parent.id
"""

HOLDERS = """
SELECT id FROM jobs INDEXED BY jobs_slot
 WHERE concurrency_key = ?1 AND slot IS NOT NULL AND id <> ?2 ORDER BY slot
"""

AHEAD = """
-- Claimable jobs of the same queue that come first, counted so far.
SELECT count(*) FROM (
  SELECT 1 FROM jobs AS other INDEXED BY jobs_claim
   WHERE other.status = 'pending' AND other.gate IS NULL AND other.queue = :queue
     AND other.scheduled_at <= :now AND (other.expires_at IS NULL OR other.expires_at > :now)
     AND (-other.priority, other.scheduled_at, other.id) < (-:priority, :scheduled_at, :id)
   LIMIT :most)
"""


def note(connection: sqlite3.Connection, notes: Sequence[Note]) -> None:
    """Store what jobs said."""
    newest = {one.job_id: one.progress for one in notes if isinstance(one, Progress)}
    connection.executemany(PROGRESS, newest.items())
    for one in notes:
        if isinstance(one, LogEntry):
            said = (one.token, one.logged_at, one.level, one.message, one.extra)
            connection.execute(LOG, (one.id, one.job_id, one.task_name, *said))


def logs(connection: sqlite3.Connection, where: LogFilter, limit: int) -> list[LogEntry]:
    values = {
        "job_id": where.job_id,
        "task_name": where.task_name,
        "levels": json.dumps(where.levels) if where.levels else None,
        "since": where.since,
        "after": where.after,
        "limit": limit,
    }
    statement = LOGS
    if where.job_id is not None:
        statement = LOGS_OF_JOB
    elif where.task_name is not None:
        statement = LOGS_OF_TASK
    return [LogEntry._make(row) for row in connection.execute(statement, values)]


def has_logs(connection: sqlite3.Connection, job_id: str, after: str | None) -> bool:
    return bool(connection.execute(HAS_LOGS, (job_id, after)).fetchone()[0])


def edges(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Edge]:
    return [Edge(*row) for row in connection.execute(EDGES, (json.dumps(list(ids)),))]


def replays(connection: sqlite3.Connection, job_id: str) -> list[Replay]:
    return [
        Replay(old, new, at, JobStatus(before), error, status and JobStatus(status), new_error, result)
        for old, new, at, before, error, status, new_error, result in connection.execute(REPLAYS, (job_id,))
    ]


def facts(connection: sqlite3.Connection, job_id: str, now: int) -> Facts | None:
    """Everything that may keep a job from running."""
    found = look.get(connection, [job_id])
    if not found:
        return None
    [job] = found
    lane, places, paused = connection.execute(WHERE, (job_id,)).fetchone()
    parents = tuple((row[0], JobStatus(row[1])) for row in connection.execute(PARENTS, (job_id,)))
    holders: tuple[str, ...] = ()
    if job.concurrency_key is not None:
        holders = tuple(row[0] for row in connection.execute(HOLDERS, (job.concurrency_key, job_id)))
    values = {
        "queue": job.queue,
        "now": now,
        "priority": job.priority,
        "scheduled_at": job.scheduled_at,
        "id": job.id,
        "most": MOST_AHEAD,
    }
    [ahead] = connection.execute(AHEAD, values).fetchone()
    return Facts(job, now, lane, parents, bool(paused), places, holders, ahead)
