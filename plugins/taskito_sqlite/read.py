"""Reading: jobs, pages, counts, errors, dead letters, workers, and what keeps a job from running."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from taskito_core import (
    COUNT_CAP,
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
from taskito_sqlite.base import Base
from taskito_sqlite.sql import read as sql

#: Up to this many pending jobs are sorted for a page; more are met soon enough on a walk back through time.
FEW_PENDING = 5_000
#: How far ``Facts.ahead`` is counted.
MAX_AHEAD = 10_000
_FINISHED = (JobStatus.COMPLETE, JobStatus.DEAD, JobStatus.CANCELLED)
#: Later than every moment and greater than every id.
_END = (2**62, "\U0010ffff")

_worker_of = columns.reader(WorkerInfo, queues=columns.texts_in, tasks=columns.texts_in, status=WorkerStatus)


class ReadMixin(Base):
    """What callers read of the contract, each from one consistent view."""

    def get(self, ids: Sequence[str]) -> list[Job]:
        """As ``Storage.get``."""
        return self._read(lambda connection: get(connection, ids)) if ids else []

    def ids_beginning(self, prefix: str, limit: int) -> list[str]:
        """As ``Storage.ids_beginning``."""
        values = {"first": prefix, "last": prefix + _END[1], "limit": limit}
        return [row[0] for row in self._rows(sql.IDS_BEGINNING, values)]

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None) -> Page:
        """As ``Storage.list_jobs``."""
        return self._read(lambda connection: list_jobs(connection, where, limit, cursor))

    def counts(self, exact: bool = False) -> CountReport:
        """As ``Storage.counts``."""
        return self._read(lambda connection: counts(connection, exact))

    def errors(self, job_id: str) -> list[AttemptError]:
        """As ``Storage.errors``."""
        rows = self._rows(sql.ERRORS, {"id": job_id})
        return [AttemptError._make((*row[:3], ErrorKind(row[3]), *row[4:])) for row in rows]

    def dead_letters(self, limit: int, cursor: str | None) -> DeadPage:
        """As ``Storage.dead_letters``."""
        before, before_id = _END if cursor is None else _position(cursor)
        rows = self._rows(sql.DEAD_LETTERS, {"before": before, "before_id": before_id, "limit": limit + 1})
        letters = [columns.letter_of(row) for row in rows[:limit]]
        more = len(rows) > limit and letters
        return DeadPage(letters, f"{letters[-1].failed_at}:{letters[-1].job_id}" if more else None)

    def letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        """As ``Storage.letters``."""
        return [columns.letter_of(row) for row in self._rows(sql.LETTERS, _ids(ids))] if ids else []

    def workers(self) -> list[WorkerInfo]:
        """As ``Storage.workers``."""
        return [_worker_of(row) for row in self._rows(sql.WORKERS)]

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        """As ``Storage.edges``."""
        return [Edge._make(row) for row in self._rows(sql.EDGES, _ids(ids))] if ids else []

    def replays(self, job_id: str) -> list[Replay]:
        """As ``Storage.replays``."""
        return [
            Replay(old, new, at, JobStatus(before), error, status and JobStatus(status), new_error, result)
            for old, new, at, before, error, status, new_error, result in self._rows(
                sql.REPLAYS, {"id": job_id}
            )
        ]

    def facts(self, job_id: str) -> Facts | None:
        """As ``Storage.facts``."""
        return self._read(lambda connection: facts(connection, job_id, self.now()))

    def _rows(self, statement: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self._read(lambda connection: connection.execute(statement, values or {}).fetchall())


def get(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Job]:
    """The jobs with these ids that exist."""
    return list(map(columns.job_of, connection.execute(sql.GET, _ids(ids))))


def _ids(ids: Sequence[str]) -> dict[str, Any]:
    return {"ids": json.dumps(list(ids))}


# ---- pages ----


def list_jobs(connection: sqlite3.Connection, where: JobFilter, limit: int, cursor: str | None) -> Page:
    """One page, newest first: a page per wanted state, merged."""
    values = _filter_values(where) | {"limit": limit + 1}
    values["before_created"], values["before_id"] = _END if cursor is None else _position(cursor)
    rows: list[tuple[Any, ...]] = []
    for statement, status in _statements(connection, where.statuses):
        rows += connection.execute(statement, values | {"status": status})
    jobs = sorted(map(columns.job_of, rows), key=lambda job: (job.created_at, job.id), reverse=True)
    if len(jobs) <= limit:
        return Page(jobs, None)
    jobs = jobs[:limit]
    return Page(jobs, f"{jobs[-1].created_at}:{jobs[-1].id}" if jobs else None)


def _statements(
    connection: sqlite3.Connection, statuses: tuple[JobStatus, ...]
) -> list[tuple[str, JobStatus | None]]:
    """The statements that list these states, each with the state it is sent for."""
    if not statuses or set(statuses) == set(JobStatus):
        return [(sql.LIST_ALL, None)]
    chosen: list[tuple[str, JobStatus | None]] = []
    for status in dict.fromkeys(statuses):
        if status in _FINISHED:
            chosen.append((sql.LIST_FINISHED, status))
        elif status is JobStatus.RUNNING:
            chosen.append((sql.LIST_RUNNING, status))
        else:
            [pending] = connection.execute(sql.PENDING_UP_TO, {"cap": FEW_PENDING + 1}).fetchone()
            few = pending <= FEW_PENDING
            chosen.append((sql.LIST_PENDING_FEW if few else sql.LIST_PENDING_MANY, status))
    return chosen


def _filter_values(where: JobFilter) -> dict[str, object]:
    return {
        "queue": where.queue,
        "task_name": where.task_name,
        "failed": where.failed,
        "created_after": -(2**62) if where.created_after is None else where.created_after,
        "created_before": 2**62 if where.created_before is None else where.created_before,
        "finished_after": where.finished_after,
        "finished_before": where.finished_before,
        "error": where.error,
        "tag": where.tag,
        "metadata": json.dumps(dict(where.metadata)) if where.metadata else None,
    }


def _position(cursor: str) -> tuple[int, str]:
    moment, separator, job_id = cursor.partition(":")
    try:
        if separator:
            return int(moment), job_id
    except ValueError:
        pass
    raise StorageError(f"cursor must come from an earlier page, got {cursor!r}")


# ---- counts ----


def counts(connection: sqlite3.Connection, exact: bool) -> CountReport:
    """Jobs per queue and state; finished states stop at COUNT_CAP unless ``exact``."""
    found: dict[str, dict[str, int]] = {}

    def add(queue: str, state: str, number: int) -> None:
        states = found.setdefault(queue, {})
        states[state] = states.get(state, 0) + number

    for queue, state, number in connection.execute(sql.COUNT_LIVE):
        add(queue, state, number)
    capped = False
    for status in _FINISHED:
        total = 0
        values = {"status": status, "cap": -1 if exact else COUNT_CAP}
        for queue, number in connection.execute(sql.COUNT_FINISHED, values):
            add(queue, status.value, number)
            total += number
        capped = capped or (not exact and total >= COUNT_CAP)
    return CountReport({queue: Counts(**states) for queue, states in found.items()}, capped)


# ---- why a job does not run ----


def facts(connection: sqlite3.Connection, job_id: str, now: int) -> Facts | None:
    """Everything that may keep a job from running."""
    found = get(connection, [job_id])
    if not found:
        return None
    [job] = found
    named = {"id": job_id}
    lane, concurrency, paused = connection.execute(sql.FACTS, named).fetchone()
    parents = tuple((row[0], JobStatus(row[1])) for row in connection.execute(sql.UNFINISHED_PARENTS, named))
    holders: tuple[str, ...] = ()
    if job.concurrency_key is not None:
        keyed = {**named, "key": job.concurrency_key}
        holders = tuple(row[0] for row in connection.execute(sql.SLOT_HOLDERS, keyed))
    values = (job.queue, None, job.priority, now, MAX_AHEAD, job.scheduled_at, job.id)
    [ahead] = connection.execute(sql.AHEAD, values).fetchone()
    return Facts(job, now, lane, parents, bool(paused), concurrency, holders, ahead)
