"""What running jobs report: progress and log lines, and waiting for the next line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from taskito_core import LogEntry, LogFilter, Note, Progress
from taskito_sqlite.sql import job_log as sql
from taskito_sqlite.wakeups import WakeupsMixin


class JobLogMixin(WakeupsMixin):
    """``note``, ``logs`` and ``await_logs`` of the contract."""

    def note(self, notes: Sequence[Note]) -> None:
        """As ``Storage.note``. A caller of ``await_logs`` finds the commit by itself."""
        if not notes:
            return
        newest = {note.job_id: note.progress for note in notes if isinstance(note, Progress)}
        progress = [{"id": job_id, "progress": value} for job_id, value in newest.items()]
        entries = [note._asdict() for note in notes if isinstance(note, LogEntry)]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(sql.SET_PROGRESS, progress)
            connection.executemany(sql.ADD_LOG, entries)

        self._write(work, durable=False)

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        """As ``Storage.logs``."""
        values = {
            "job_id": where.job_id,
            "task_name": where.task_name,
            "levels": json.dumps(where.levels) if where.levels else None,
            "since": where.since,
            "after": where.after,
            "limit": limit,
        }
        statement = sql.LOGS
        if where.job_id is not None:
            statement = sql.LOGS_OF_JOB
        elif where.task_name is not None:
            statement = sql.LOGS_OF_TASK
        return self._read(
            lambda connection: [LogEntry._make(row) for row in connection.execute(statement, values)]
        )

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        """As ``Storage.await_logs``; checks whenever a commit was made."""
        self._ready()
        values = {"job_id": job_id, "after": after}

        def has_logs() -> bool:
            [found] = self._database.read(
                lambda connection: connection.execute(sql.HAS_LOGS, values).fetchone()
            )
            return bool(found)

        return self._waiters.wait_for(has_logs, job_id, timeout)
