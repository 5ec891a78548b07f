"""What running jobs say: progress and log entries, and waiting for the next one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from taskito_core import LogEntry, LogFilter, Note, Progress, clean_text
from taskito_postgres import journal, sql
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.follow import chunks
from taskito_postgres.look import Look, storable
from taskito_postgres.session import Session

#: Looks at rows that somebody holds at that moment before a progress is given up.
LOOKS = 3


class Notes(Look):
    """``note``, ``logs`` and ``await_logs`` of the contract."""

    def note(self, notes: Sequence[Note]) -> None:
        newest = {note.job_id: note.progress for note in notes if isinstance(note, Progress)}
        entries = [note for note in notes if isinstance(note, LogEntry)]
        if newest or entries:
            self._connections.on_pool(
                "note what jobs said", lambda session: self._note(session, newest, entries)
            )

    def _note(self, session: Session, newest: dict[str, float], entries: list[LogEntry]) -> None:
        left = dict(sorted(newest.items()))
        for _ in range(LOOKS):
            if not left:
                break
            said = {"ids": Texts(left), "progress": Doubles(left.values())}
            for row in session.rows(self._statements[journal.PROGRESS], said):
                left.pop(row[0], None)
        if entries:
            self._log(session, entries)

    def _log(self, session: Session, entries: list[LogEntry]) -> None:
        with session.turn() as turn:
            turn.commit_lazily()
            told = turn.run(self._statements[journal.LOG], _columns(entries))
        awaited = sorted({job_id for job_id, is_awaited in told.fetchall() if is_awaited})
        if awaited:
            parameters = {"channel": self._done_channel, "payloads": Texts(chunks(awaited))}
            session.rows(self._statements[sql.TELL], parameters)

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        parameters = {
            "job_id": where.job_id,
            "task_name": where.task_name,
            "levels": Texts(where.levels) if where.levels else None,
            "since": where.since,
            "after": where.after,
            "limit": max(limit, 0),
        }
        return [LogEntry(*row) for row in self._search("read logs", journal.LOGS, parameters)]

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        if not storable(job_id):
            return True
        deadline = time.monotonic() + timeout
        with self._connections.translated("listen for what jobs say"):
            event = self._finishes.expect(job_id)
        parameters = {"id": job_id, "after": after or ""}

        def seen() -> bool:
            return bool(self._rows("look for log entries", journal.HAS_LOGS, parameters))

        try:
            return self._wait_for_news(job_id, event, deadline, seen)
        finally:
            self._finishes.forget(job_id, event)


def _columns(entries: list[LogEntry]) -> dict[str, Any]:
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
