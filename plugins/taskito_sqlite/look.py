"""Reading jobs, letters, counts and workers; rows into records."""

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
    DeadReason,
    ErrorKind,
    Job,
    JobFilter,
    JobStatus,
    Page,
    StorageError,
    WorkerInfo,
    WorkerStatus,
)
from taskito_sqlite import queries

#: Up to this many pending jobs are sorted for a page; more are met soon enough on a walk back through time.
FEW_PENDING = 5_000
_FINISHED = (JobStatus.COMPLETE, JobStatus.DEAD, JobStatus.CANCELLED)
#: Later than every moment and greater than every id.
_END = (2**62, "\U0010ffff")


def get(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Job]:
    """The jobs with these ids that exist."""
    return [_job(row) for row in connection.execute(queries.GET, (json.dumps(list(ids)),))]


def ends(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, bool]:
    """Which of these jobs are stored, and if they have ended."""
    rows = connection.execute(queries.ENDS, (json.dumps(list(ids)),))
    return {job_id: bool(ended) for job_id, ended in rows}


def list_jobs(connection: sqlite3.Connection, where: JobFilter, limit: int, cursor: str | None) -> Page:
    """One page, newest first: a page per wanted state, merged."""
    values = _filter_values(where) | {"limit": limit + 1}
    values["before_created"], values["before_id"] = _END if cursor is None else _position(cursor)
    rows: list[tuple[Any, ...]] = []
    for statement, status in _statements(connection, where.statuses):
        rows += connection.execute(statement, values | {"status": status})
    jobs = sorted(map(_job, rows), key=lambda job: (job.created_at, job.id), reverse=True)
    if len(jobs) <= limit:
        return Page(jobs, None)
    jobs = jobs[:limit]
    return Page(jobs, f"{jobs[-1].created_at}:{jobs[-1].id}" if jobs else None)


def _statements(
    connection: sqlite3.Connection, statuses: tuple[JobStatus, ...]
) -> list[tuple[str, JobStatus | None]]:
    if not statuses or set(statuses) == set(JobStatus):
        return [(queries.LIST_ALL, None)]
    chosen: list[tuple[str, JobStatus | None]] = []
    for status in dict.fromkeys(statuses):
        if status in _FINISHED:
            chosen.append((queries.LIST_FINISHED, status))
        elif status is JobStatus.RUNNING:
            chosen.append((queries.LIST_RUNNING, status))
        else:
            [pending] = connection.execute(queries.PENDING_UP_TO, (FEW_PENDING + 1,)).fetchone()
            few = pending <= FEW_PENDING
            chosen.append((queries.LIST_PENDING_FEW if few else queries.LIST_PENDING_MANY, status))
    return chosen


def counts(connection: sqlite3.Connection, exact: bool) -> CountReport:
    """Jobs per queue and state; finished states stop at COUNT_CAP unless ``exact``."""
    found: dict[str, dict[str, int]] = {}

    def add(queue: str, state: str, number: int) -> None:
        states = found.setdefault(queue, {})
        states[state] = states.get(state, 0) + number

    for queue, state, number in connection.execute(queries.COUNT_LIVE):
        add(queue, state, number)
    capped = False
    for status in _FINISHED:
        total = 0
        for queue, number in connection.execute(queries.COUNT_FINISHED, (status, -1 if exact else COUNT_CAP)):
            add(queue, status.value, number)
            total += number
        capped = capped or (not exact and total >= COUNT_CAP)
    return CountReport({queue: Counts(**states) for queue, states in found.items()}, capped)


def errors(connection: sqlite3.Connection, job_id: str) -> list[AttemptError]:
    """What went wrong in each failed attempt, oldest first."""
    rows = connection.execute(queries.ERRORS, (job_id,))
    return [AttemptError._make((*row[:3], ErrorKind(row[3]), *row[4:])) for row in rows]


def dead_letters(connection: sqlite3.Connection, limit: int, cursor: str | None) -> DeadPage:
    """One page of the dead letter, newest first."""
    before = _END if cursor is None else _position(cursor)
    rows = connection.execute(queries.DEAD_LETTERS, (*before, limit + 1)).fetchall()
    letters = [_letter(row) for row in rows[:limit]]
    more = len(rows) > limit and letters
    return DeadPage(letters, f"{letters[-1].failed_at}:{letters[-1].job_id}" if more else None)


def letters(connection: sqlite3.Connection, ids: Sequence[str]) -> list[DeadLetter]:
    """The dead letters of these jobs."""
    return [_letter(row) for row in connection.execute(queries.LETTERS, (json.dumps(list(ids)),))]


def workers(connection: sqlite3.Connection) -> list[WorkerInfo]:
    """Every worker remembered."""
    return [_worker(row) for row in connection.execute(queries.WORKERS)]


def _filter_values(where: JobFilter) -> dict[str, object]:
    return {
        "queue": where.queue,
        "task_name": where.task_name,
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


def _job(row: tuple[Any, ...]) -> Job:
    (
        job_id, task_name, queue, status, payload, result, error, priority, created_at, scheduled_at,
        claimed_at, started_at, completed_at, retry_count, max_retries, crashes, interruptions, timeout,
        result_ttl, worker, token, metadata, tags, gate, expires_at, unique_key, concurrency_key, progress,
        cancel_asked,
    ) = row  # fmt: skip
    return Job(
        id=job_id,
        task_name=task_name,
        queue=queue,
        status=JobStatus(status),
        payload=payload,
        result=result,
        error=error,
        priority=priority,
        created_at=created_at,
        scheduled_at=scheduled_at,
        claimed_at=claimed_at,
        started_at=started_at,
        completed_at=completed_at,
        retry_count=retry_count,
        max_retries=max_retries,
        crashes=crashes,
        interruptions=interruptions,
        timeout=timeout,
        result_ttl=result_ttl,
        worker=worker,
        token=token,
        metadata=metadata,
        tags=_words(tags),
        gate=gate,
        expires_at=expires_at,
        unique_key=unique_key,
        concurrency_key=concurrency_key,
        progress=progress,
        cancel_asked=bool(cancel_asked),
    )


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    (
        job_id, task_name, queue, payload, reason, error, traceback, priority, retry_count, max_retries,
        crashes, interruptions, timeout, result_ttl, metadata, tags, created_at, failed_at,
    ) = row  # fmt: skip
    return DeadLetter(
        job_id=job_id,
        task_name=task_name,
        queue=queue,
        payload=payload,
        reason=DeadReason(reason),
        error=error,
        traceback=traceback,
        priority=priority,
        retry_count=retry_count,
        max_retries=max_retries,
        crashes=crashes,
        interruptions=interruptions,
        timeout=timeout,
        result_ttl=result_ttl,
        metadata=metadata,
        tags=_words(tags),
        created_at=created_at,
        failed_at=failed_at,
    )


def _worker(row: tuple[Any, ...]) -> WorkerInfo:
    worker_id, host, pid, app, queues, tasks, procs, version, started_at, last_seen, beat, status = row
    return WorkerInfo(
        id=worker_id,
        host=host,
        pid=pid,
        app=app,
        queues=_words(queues),
        tasks=_words(tasks),
        procs=procs,
        version=version,
        started_at=started_at,
        last_seen=last_seen,
        beat=beat,
        status=WorkerStatus(status),
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()
