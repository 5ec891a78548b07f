"""Metrics: read, merged in Python and put back, in one write transaction."""

from __future__ import annotations

_TALLY_COLUMNS = """task_name, queue, succeeded, failed, total_run, shortest_run, longest_run, total_wait,
       peak_memory, histogram"""

TALLY = f"""
-- What one minute of a task and queue holds so far.
SELECT {_TALLY_COLUMNS} FROM task_metrics
 WHERE task_name = :task_name AND queue = :queue AND minute = :minute
"""

PUT_TALLY = f"""
-- In place of what TALLY returned.
INSERT OR REPLACE INTO task_metrics (minute, {_TALLY_COLUMNS})
VALUES (:minute, :task_name, :queue, :succeeded, :failed, :total_run, :shortest_run, :longest_run,
        :total_wait, :peak_memory, :histogram)
"""

TALLIES = f"""
-- Every row of the minutes that began after a moment.
SELECT {_TALLY_COLUMNS} FROM task_metrics INDEXED BY task_metrics_minute WHERE minute > :after
"""

TALLIES_OF_TASK = f"""
-- The same of one task.
SELECT {_TALLY_COLUMNS} FROM task_metrics WHERE task_name = :task_name AND minute > :after
"""

TAKE_AHEAD = f"""
-- Minutes that have not begun, because the clock was set back: deleted here and recorded anew.
DELETE FROM task_metrics WHERE minute > :now RETURNING {_TALLY_COLUMNS}
"""

FORGET_TALLIES = """
-- Minutes that began longer ago than they are to be kept.
DELETE FROM task_metrics WHERE minute < :now - (SELECT metrics * 1000 FROM retention)
"""

HOT = (TALLY, PUT_TALLY, TALLIES, TALLIES_OF_TASK, TAKE_AHEAD, FORGET_TALLIES)
