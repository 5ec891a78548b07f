"""What running jobs report: progress and log entries, and waiting for the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from taskito_core import LogEntry, LogFilter, Note, Progress, clean_text
from taskito_postgres.arrays import Bigints, Doubles, Texts, storable
from taskito_postgres.session import Session
from taskito_postgres.sql import job_log as sql
from taskito_postgres.wakeups import WakeupsMixin

#: Times a progress is sent to rows that other transactions hold, before it is given up.
SENDINGS = 3


class JobLogMixin(WakeupsMixin):
    """``note``, ``logs`` and ``await_logs`` of the contract."""

    def note(self, notes: Sequence[Note]) -> None:
        newest = {note.job_id: note.progress for note in notes if isinstance(note, Progress)}
        entries = [note for note in notes if isinstance(note, LogEntry)]

        def work(session: Session) -> None:
            self._set_progress(session, newest)
            if entries:
                self._add_entries(session, entries)

        if newest or entries:
            self._connections.on_pool("note what jobs said", work)

    def _set_progress(self, session: Session, newest: dict[str, float]) -> None:
        left = dict(sorted(newest.items()))
        for _ in range(SENDINGS):
            if not left:
                break
            parameters = {"ids": Texts(left), "progress": Doubles(left.values())}
            for row in session.rows(self._statements[sql.SET_PROGRESS], parameters):
                left.pop(row[0], None)

    def _add_entries(self, session: Session, entries: list[LogEntry]) -> None:
        with session.round_trip() as trip:
            trip.commit_lazily()
            added = trip.run(self._statements[sql.ADD_LOG], entry_arrays(entries))
        awaited = sorted({job_id for job_id, is_awaited in added.fetchall() if is_awaited})
        self._notify(session, awaited, ())

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        parameters = {
            "job_id": where.job_id,
            "task_name": where.task_name,
            "levels": Texts(where.levels) if where.levels else None,
            "since": where.since,
            "after": where.after,
            "limit": max(limit, 0),
        }
        return [LogEntry(*row) for row in self._searched("read logs", sql.LOGS, parameters)]

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        if not storable(job_id):
            return True
        deadline = time.monotonic() + timeout
        event = threading.Event()
        with self._connections.translated("listen for what jobs say"):
            self._finished.expect([job_id], event)
        parameters = {"id": job_id, "after": after or ""}

        def has_entries() -> bool:
            return bool(self._read("look for log entries", sql.HAS_LOGS, parameters))

        try:
            return self._wait_for_end(job_id, event, deadline, has_entries)
        finally:
            self._finished.forget([job_id], event)


def entry_arrays(entries: list[LogEntry]) -> dict[str, Any]:
    """The parameters of ADD_LOG."""
    return {
        "ids": Texts(entry.id for entry in entries),
        "job_ids": Texts(entry.job_id for entry in entries),
        "task_names": Texts(entry.task_name for entry in entries),
        "tokens": Bigints(entry.token for entry in entries),
        "moments": Bigints(entry.logged_at for entry in entries),
        "levels": Texts(entry.level for entry in entries),
        "messages": Texts(clean_text(entry.message) for entry in entries),
        "extras": Texts(None if entry.extra is None else clean_text(entry.extra) for entry in entries),
    }
