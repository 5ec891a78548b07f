"""Looking: jobs, counts, errors, dead letters, workers, and waiting for a job's end."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from taskito_core import (
    COUNT_CAP,
    FINISHED,
    AttemptError,
    CountReport,
    Counts,
    DeadLetter,
    DeadPage,
    DeadReason,
    ErrorKind,
    Job,
    JobFilter,
    JobStatus,
    Page,
    StorageConfig,
    StorageError,
    WorkerInfo,
    WorkerStatus,
)
from taskito_postgres import queries
from taskito_postgres.arrays import Texts
from taskito_postgres.base import Base
from taskito_postgres.listen import Finishes
from taskito_postgres.session import Session

#: Seconds between looks of one who waits for a job's end, in case the notification was lost.
SLOW_POLL = 1.0
#: Seconds before the row of an awaited job is touched: a claim passes over a row that changes under it, so
#: whoever wants the result of a job enqueued just now would stand in the way of the worker that was rung.
KEEP_OFF = 0.002
#: The same where a pooler makes listening impossible: first and last.
FAST_POLL, LAST_POLL = 0.01, 0.25

#: Escapes that JSON allows and jsonb refuses: NUL, and surrogates without their other half. The same
#: expression replaces them here, in the filter, and in the rows it is compared with.
_REFUSED = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u(0000|d[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})",
    re.IGNORECASE,
)
_SHOWN = r"\1<\2>"

_JOB_FIELDS = tuple(column.rpartition(" AS ")[2] for column in queries.JOB_COLUMNS.split(", "))
_LETTER_FIELDS = tuple(queries.LETTER_COLUMNS.split(", "))


class Look(Base):
    """``get`` to ``workers`` of the contract."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self._finishes = Finishes(self._connections, self._done_channel)

    def get(self, ids: Sequence[str]) -> list[Job]:
        possible = [job_id for job_id in ids if storable(job_id)]
        return [job_of(row) for row in self._rows("read jobs", queries.GET, {"ids": Texts(possible)})]

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        before, before_id = _position(cursor)
        parameters = {
            **_conditions(where),
            "before": before,
            "before_id": before_id,
            "limit": max(limit, 0) + 1,
        }
        jobs = [job_of(row) for row in self._search("list jobs", queries.LIST_JOBS, parameters)]
        last = jobs[limit - 1] if limit > 0 and len(jobs) > limit else None
        return Page(jobs[:limit], None if last is None else f"{last.created_at}.{last.id}")

    def counts(self, exact: bool = False) -> CountReport:
        done = queries.COUNT_DONE_EXACTLY if exact else queries.COUNT_DONE

        live = self._search("count jobs", queries.COUNT_LIVE, {})
        finished = self._search("count finished jobs", done, {} if exact else {"cap": COUNT_CAP})
        return _count_report(live, finished, exact)

    def errors(self, job_id: str) -> list[AttemptError]:
        if not storable(job_id):
            return []
        rows = self._rows("read a job's errors", queries.ERRORS, {"id": job_id})
        return [AttemptError(row[0], row[1], row[2], ErrorKind(row[3]), *row[4:]) for row in rows]

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        before, before_id = _position(cursor)
        parameters = {"before": before, "before_id": before_id, "limit": max(limit, 0) + 1}
        letters = [
            _letter(row) for row in self._search("read the dead letter", queries.DEAD_LETTERS, parameters)
        ]
        last = letters[limit - 1] if limit > 0 and len(letters) > limit else None
        return DeadPage(letters[:limit], None if last is None else f"{last.failed_at}.{last.job_id}")

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        possible = [job_id for job_id in ids if storable(job_id)]
        rows = self._rows("read dead letters", queries.LETTERS, {"ids": Texts(possible)})
        return [_letter(row) for row in rows]

    def workers(self) -> list[WorkerInfo]:
        return [_worker(row) for row in self._rows("list workers", queries.WORKERS, {})]

    # ---- waiting for an end ----

    def await_finished(self, job_id: str, timeout: float) -> bool:
        if not storable(job_id):
            return True
        deadline = time.monotonic() + timeout
        if (timeout <= 0 or not self._finishes.hears) and not self._is_live(job_id):
            return True
        if timeout <= 0:
            return False
        with self._connections.translated("listen for finished jobs"):
            event = self._finishes.expect(job_id)
        try:
            event.wait(min(KEEP_OFF, timeout))
            return self._wait_for_news(job_id, event, deadline, lambda: False)
        finally:
            self._finishes.forget(job_id, event)

    def _wait_for_news(
        self, job_id: str, event: threading.Event, deadline: float, seen: Callable[[], bool]
    ) -> bool:
        """Wait until the job has ended or ``seen()`` is true; False: until the deadline, in vain."""
        pause = KEEP_OFF if self._finishes.hears else FAST_POLL
        while (awaited := self._ask(job_id)) is not None and not seen():
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            # A row that could not be marked is held: free again in a moment, or its end is told anyway.
            told = awaited and self._finishes.hears
            pause = SLOW_POLL if told else min(pause * 1.5, LAST_POLL)
            event.wait(min(rest, pause))
            event.clear()
        return True

    def _ask(self, job_id: str) -> bool | None:
        """Ask to be told of the job's end, and only then look: None if it has ended, else if it is marked.

        Whoever settles after the request tells us, and whoever settled before it is seen by the look.
        """

        def work(session: Session) -> list[tuple[Any, ...]]:
            with session.turn() as turn:
                turn.run(self._statements[queries.AWAIT], {"id": job_id})
                turn.cut()
                awaited = turn.run(self._statements[queries.IS_AWAITED], {"id": job_id})
            return awaited.fetchall()

        rows = self._connections.on_pool("wait for a job", work, repeatable=True)
        return rows[0][0] if rows else None

    def _is_live(self, job_id: str) -> bool:
        [(live,)] = self._rows("look at a job", queries.IS_LIVE, {"id": job_id})
        return bool(live)

    def _rows(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        text = self._statements[statement]
        return self._connections.on_pool(
            doing, lambda session: session.rows(text, parameters), repeatable=True
        )

    def _search(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        text = self._statements[statement]
        return self._connections.on_pool(
            doing, lambda session: session.searched(text, parameters), repeatable=True
        )


def storable(text: str) -> bool:
    """False for text that no row can hold, so that asking for it finds nothing instead of failing."""
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


def _position(cursor: str | None) -> tuple[int | None, str | None]:
    if cursor is None:
        return None, None
    moment, dot, last_id = cursor.partition(".")
    if not dot or not moment.lstrip("-").isdecimal() or not storable(last_id):
        raise StorageError(f"cursor must be one that an earlier page returned, got {cursor!r}")
    return int(moment), last_id


def _conditions(where: JobFilter) -> dict[str, Any]:
    statuses = frozenset(where.statuses or JobStatus)
    if where.finished_after is not None or where.finished_before is not None:
        statuses &= FINISHED
    return {
        "statuses": Texts(status.value for status in where.statuses) if where.statuses else None,
        # The lists that cannot hold a match are not even read.
        "pending": JobStatus.PENDING in statuses,
        "running": JobStatus.RUNNING in statuses,
        "finished": not FINISHED.isdisjoint(statuses),
        "queue": where.queue,
        "task_name": where.task_name,
        "created_after": where.created_after,
        "created_before": where.created_before,
        "finished_after": where.finished_after,
        "finished_before": where.finished_before,
        "error": where.error,
        "tag": None if where.tag is None else json.dumps(where.tag),
        "metadata": _REFUSED.sub(_SHOWN, json.dumps(dict(where.metadata))) if where.metadata else None,
        "refused": _REFUSED.pattern,
        "shown": _SHOWN,
    }


def job_of(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_JOB_FIELDS, row, strict=True))
    values["status"] = JobStatus(values["status"])
    values["tags"] = tuple(json.loads(values["tags"]))
    return Job(**values)


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    values = dict(zip(_LETTER_FIELDS, row, strict=True))
    values["reason"] = DeadReason(values["reason"])
    values["tags"] = tuple(json.loads(values["tags"]))
    return DeadLetter(**values)


def _worker(row: tuple[Any, ...]) -> WorkerInfo:
    return WorkerInfo(
        id=row[0],
        host=row[1],
        pid=row[2],
        app=row[3],
        queues=tuple(json.loads(row[4])),
        tasks=tuple(json.loads(row[5])),
        procs=row[6],
        version=row[7],
        started_at=row[8],
        last_seen=row[9],
        beat=row[10],
        status=WorkerStatus(row[11]),
    )


def _count_report(live: list[Any], finished: list[Any], exact: bool) -> CountReport:
    table: dict[str, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for queue, pending, running, failed in live:
        table.setdefault(queue, {}).update(pending=pending, running=running, failed=failed)
    for status, queue, count in finished:
        table.setdefault(queue, {})[status] = count
        totals[status] = totals.get(status, 0) + count
    capped = not exact and any(total >= COUNT_CAP for total in totals.values())
    return CountReport({queue: Counts(**counts) for queue, counts in _sorted(table)}, capped)


def _sorted(table: dict[str, dict[str, int]]) -> Iterator[tuple[str, dict[str, int]]]:
    yield from sorted(table.items())
