"""How the memory store answers readers: filters, pages, counts and orders, as pure functions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from taskito_core import (
    COUNT_CAP,
    FINISHED,
    CountReport,
    Counts,
    DeadLetter,
    DeadPage,
    Job,
    JobFilter,
    JobStatus,
    LogEntry,
    LogFilter,
    Page,
    StorageError,
    WorkerInfo,
    WorkerStatus,
)


def page_of_jobs(jobs: Iterable[Job], where: JobFilter, limit: int, cursor: str | None) -> Page:
    """The page after ``cursor``, newest first."""
    before = _read_cursor(cursor)
    matching = [job for job in jobs if matches(job, where)]
    matching.sort(key=lambda job: (job.created_at, job.id), reverse=True)
    rest = [job for job in matching if before is None or (job.created_at, job.id) < before]
    page = rest[:limit]
    more = len(rest) > limit
    return Page(page, _write_cursor(page[-1].created_at, page[-1].id) if more and page else None)


def page_of_letters(letters: Iterable[DeadLetter], limit: int, cursor: str | None) -> DeadPage:
    """The page after ``cursor``, newest first."""
    before = _read_cursor(cursor)
    ordered = sorted(letters, key=lambda letter: (letter.failed_at, letter.job_id), reverse=True)
    rest = [letter for letter in ordered if before is None or (letter.failed_at, letter.job_id) < before]
    page = rest[:limit]
    more = len(rest) > limit
    return DeadPage(page, _write_cursor(page[-1].failed_at, page[-1].job_id) if more and page else None)


def matches(job: Job, where: JobFilter) -> bool:
    """Whether every field of ``where`` that is set agrees with ``job``."""
    return (
        (not where.statuses or job.status in where.statuses)
        and (not where.failed or job.status is not JobStatus.PENDING or job.retry_count > 0)
        and (where.queue is None or job.queue == where.queue)
        and (where.task_name is None or job.task_name == where.task_name)
        and _within(job.created_at, where.created_after, where.created_before)
        and _within(job.completed_at, where.finished_after, where.finished_before)
        and (where.error is None or (job.error is not None and where.error in job.error))
        and _metadata_matches(job.metadata, where)
        and (where.tag is None or where.tag in job.tags)
    )


def log_matches(entry: LogEntry, where: LogFilter) -> bool:
    """Whether every field of ``where`` that is set agrees with ``entry``."""
    return (
        (where.job_id is None or entry.job_id == where.job_id)
        and (where.task_name is None or entry.task_name == where.task_name)
        and (not where.levels or entry.level in where.levels)
        and (where.since is None or entry.logged_at >= where.since)
        and (where.after is None or entry.id > where.after)
    )


def _within(moment: int | None, after: int | None, before: int | None) -> bool:
    if after is None and before is None:
        return True
    if moment is None:
        return False
    return (after is None or moment >= after) and (before is None or moment < before)


def _metadata_matches(metadata: str | None, where: JobFilter) -> bool:
    if not where.metadata:
        return True
    actual = json.loads(metadata) if metadata else {}
    missing = object()
    return all(_same_json(actual.get(key, missing), value) for key, value in where.metadata.items())


def _same_json(one: object, other: object) -> bool:
    # In JSON true is not 1, as it is in Python.
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def count(jobs: Iterable[Job], exact: bool) -> CountReport:
    """Jobs per queue and state; finished ones up to COUNT_CAP per status unless ``exact``."""
    tallies: dict[str, Counter[str]] = {}
    finished: Counter[JobStatus] = Counter()
    for job in jobs:
        tally = tallies.setdefault(job.queue, Counter())
        if job.status in FINISHED:
            if finished[job.status] == COUNT_CAP and not exact:
                continue
            finished[job.status] += 1
        tally[job.status.value] += 1
        if job.status is JobStatus.PENDING and job.retry_count > 0:
            tally["failed"] += 1
    capped = not exact and any(seen == COUNT_CAP for seen in finished.values())
    return CountReport({queue: Counts(**tally) for queue, tally in tallies.items()}, capped)


def workers_in_order(workers: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    """Alive ones first, then latest seen first."""
    return sorted(workers, key=lambda worker: (worker.status is not WorkerStatus.ALIVE, -worker.last_seen))


def _write_cursor(moment: int, job_id: str) -> str:
    return f"{moment}.{job_id}"


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    moment, _, job_id = cursor.partition(".")
    if not moment.isdecimal():
        raise StorageError(f"a cursor comes from the page before, got {cursor!r}")
    return int(moment), job_id
