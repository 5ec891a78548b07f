"""What running jobs report: progress, and lines for their log."""

from __future__ import annotations

from taskito_core import LogEntry, columns

_COLUMNS = columns.listed(LogEntry._fields)

SET_PROGRESS = """
-- The newest progress of a job; sent once per job.
UPDATE jobs SET progress = :progress WHERE id = :id
"""

ADD_LOG = f"""
-- Keep a line of a job that is stored; sent once per line. The same line again changes nothing.
INSERT OR IGNORE INTO task_logs ({_COLUMNS})
SELECT {columns.listed(f":{name}" for name in LogEntry._fields)}
 WHERE EXISTS (SELECT 1 FROM jobs WHERE id = :job_id)
"""

_MATCHES = """
   AND (:levels IS NULL OR level IN (SELECT value FROM json_each(:levels)))
   AND (:since IS NULL OR logged_at >= :since)
   AND (:after IS NULL OR id > :after)
 ORDER BY id LIMIT :limit
"""

LOGS = f"""
-- The first lines that match, oldest first.
SELECT {_COLUMNS} FROM task_logs WHERE true {_MATCHES}
"""

LOGS_OF_JOB = f"""
-- The same of one job.
SELECT {_COLUMNS} FROM task_logs
 WHERE job_id = :job_id AND (:task_name IS NULL OR task_name = :task_name) {_MATCHES}
"""

LOGS_OF_TASK = f"""
-- The same of one task.
SELECT {_COLUMNS} FROM task_logs WHERE task_name = :task_name {_MATCHES}
"""

HAS_LOGS = """
-- Whether a job has a line after this one.
SELECT EXISTS (SELECT 1 FROM task_logs WHERE job_id = :job_id AND (:after IS NULL OR id > :after))
"""

HOT = (SET_PROGRESS, ADD_LOG, HAS_LOGS)
