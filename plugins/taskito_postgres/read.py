"""Reading jobs, counts, errors, dead letters, workers, and why a job does not run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from taskito_core import (
    COUNT_CAP,
    FINISHED,
    AttemptError,
    CountReport,
    Counts,
    DeadLetter,
    DeadPage,
    Edge,
    ErrorKind,
    Facts,
    Job,
    JobFilter,
    JobStatus,
    Page,
    Replay,
    StorageError,
    WorkerInfo,
    WorkerStatus,
    columns,
)
from taskito_postgres.arrays import Texts, storable, storable_texts
from taskito_postgres.base import Base
from taskito_postgres.sql import read as sql

#: Escapes that JSON allows and jsonb refuses: NUL, and surrogates without their other half. The same
#: expression replaces them here, in the filter, and in the rows it is compared with.
_REFUSED = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u(0000|d[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})",
    re.IGNORECASE,
)
_SHOWN = r"\1<\2>"

_worker_of = columns.reader(WorkerInfo, queues=columns.texts_in, tasks=columns.texts_in, status=WorkerStatus)


class ReadMixin(Base):
    """``get`` to ``workers``, and ``edges``, ``replays`` and ``facts`` of the contract."""

    def get(self, ids: Sequence[str]) -> list[Job]:
        rows = self._read("read jobs", sql.GET, {"ids": storable_texts(ids)})
        return [columns.job_of(row) for row in rows]

    def ids_beginning(self, prefix: str, limit: int) -> list[str]:
        if not storable(prefix):
            return []
        parameters = {"prefix": prefix, "limit": max(limit, 0)}
        return [row[0] for row in self._read("read ids of jobs", sql.IDS_BEGINNING, parameters)]

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        before, before_id = _position(cursor)
        parameters = {
            **_conditions(where),
            "before": before,
            "before_id": before_id,
            "limit": max(limit, 0) + 1,
        }
        jobs = [columns.job_of(row) for row in self._searched("list jobs", sql.LIST_JOBS, parameters)]
        last = jobs[limit - 1] if limit > 0 and len(jobs) > limit else None
        return Page(jobs[:limit], None if last is None else f"{last.created_at}.{last.id}")

    def counts(self, exact: bool = False) -> CountReport:
        statement = sql.COUNT_FINISHED_EXACTLY if exact else sql.COUNT_FINISHED
        live = self._searched("count jobs", sql.COUNT_LIVE, {})
        finished = self._searched("count finished jobs", statement, {} if exact else {"cap": COUNT_CAP})
        return _count_report(live, finished, exact)

    def errors(self, job_id: str) -> list[AttemptError]:
        if not storable(job_id):
            return []
        rows = self._read("read a job's errors", sql.ERRORS, {"id": job_id})
        return [AttemptError(row[0], row[1], row[2], ErrorKind(row[3]), *row[4:]) for row in rows]

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        before, before_id = _position(cursor)
        parameters = {"before": before, "before_id": before_id, "limit": max(limit, 0) + 1}
        rows = self._searched("read the dead letter", sql.DEAD_LETTERS, parameters)
        letters = [columns.letter_of(row) for row in rows]
        last = letters[limit - 1] if limit > 0 and len(letters) > limit else None
        return DeadPage(letters[:limit], None if last is None else f"{last.failed_at}.{last.job_id}")

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        rows = self._read("read dead letters", sql.LETTERS, {"ids": storable_texts(ids)})
        return [columns.letter_of(row) for row in rows]

    def workers(self) -> list[WorkerInfo]:
        return [_worker_of(row) for row in self._read("list workers", sql.WORKERS, {})]

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        rows = self._read("read dependencies", sql.EDGES, {"ids": storable_texts(ids)})
        return [Edge(*row) for row in rows]

    def replays(self, job_id: str) -> list[Replay]:
        if not storable(job_id):
            return []
        return [_replay(*row) for row in self._read("read replays", sql.REPLAYS, {"id": job_id})]

    def facts(self, job_id: str) -> Facts | None:
        if not storable(job_id):
            return None
        parameters = {"id": job_id, "shift": self.clock_shift}
        rows = self._searched("look why a job does not run", sql.FACTS, parameters)
        if not rows:
            return None
        lane, parents, paused, concurrency, holders, ahead, now, *job = rows[0]
        return Facts(
            job=columns.job_of(job),
            now=now,
            lane=lane,
            parents=tuple((parent, JobStatus(status)) for parent, status in json.loads(parents or "[]")),
            paused=paused,
            concurrency=concurrency,
            holders=tuple(json.loads(holders or "[]")),
            ahead=ahead,
        )


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
        "failed": where.failed,
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


def _count_report(live: list[Any], finished: list[Any], exact: bool) -> CountReport:
    table: dict[str, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for queue, pending, running, failed in live:
        table.setdefault(queue, {}).update(pending=pending, running=running, failed=failed)
    for status, queue, count in finished:
        table.setdefault(queue, {})[status] = count
        totals[status] = totals.get(status, 0) + count
    capped = not exact and any(total >= COUNT_CAP for total in totals.values())
    return CountReport({queue: Counts(**counts) for queue, counts in sorted(table.items())}, capped)


def _replay(
    job_id: str,
    new_id: str,
    replayed_at: int,
    status_before: str,
    error_before: str | None,
    status: str | None,
    *rest: Any,
) -> Replay:
    return Replay(
        job_id,
        new_id,
        replayed_at,
        JobStatus(status_before),
        error_before,
        None if status is None else JobStatus(status),
        *rest,
    )
