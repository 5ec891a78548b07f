"""New jobs as the parameters of statements: a record's fields in columns, in one row, or for COPY."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from taskito_core import NewJob, StorageError
from taskito_postgres.arrays import Bigints, Blobs, Booleans, Doubles, Texts


def check(job: NewJob) -> None:
    """Raise StorageError for what would be stored well and fail every later settle."""
    for name in ("delay", "timeout", "result_ttl", "expires"):
        value = getattr(job, name)
        if value is not None and not (math.isfinite(value) and 0 <= value <= 1e12):
            raise StorageError(f"{name} of job {job.id} must be between 0 and 1e12 seconds, got {value}")


def has_more(job: NewJob) -> bool:
    """Is more said of this job than the plain statements take?"""
    return bool(job.lane or job.expires is not None or job.expires_at is not None or is_related(job))


def is_related(job: NewJob) -> bool:
    """Does what becomes of this job depend on others, so that answers must be looked at?"""
    return bool(job.parents or job.unique_key is not None or job.concurrency_key is not None)


def columns(jobs: Sequence[NewJob], shift: int) -> dict[str, Any]:
    return {
        "ids": Texts(job.id for job in jobs),
        "task_names": Texts(job.task_name for job in jobs),
        "queues": Texts(job.queue for job in jobs),
        "priorities": Bigints(job.priority for job in jobs),
        "payloads": Blobs(job.payload for job in jobs),
        "scheduled": Bigints(job.scheduled_at for job in jobs),
        "delays": Doubles(job.delay for job in jobs),
        "max_retries": Bigints(job.max_retries for job in jobs),
        "timeouts": Doubles(job.timeout for job in jobs),
        "result_ttls": Doubles(job.result_ttl for job in jobs),
        "metadata": Texts(job.metadata for job in jobs),
        "tags": Texts(tags_of(job) for job in jobs),
        "shift": shift,
    }


def more_columns(jobs: Sequence[NewJob], shift: int, key_gate: str = "") -> dict[str, Any]:
    """The same with everything; ``key_gate``: '' to stand in line at once, 'later' to leave it to a sweep."""
    return columns(jobs, shift) | {
        "lanes": Texts(job.lane for job in jobs),
        "expire_ats": Bigints(job.expires_at for job in jobs),
        "expires": Doubles(job.expires for job in jobs),
        "unique_keys": Texts(job.unique_key for job in jobs),
        "tolerances": Booleans(job.tolerant for job in jobs),
        "concurrency_keys": Texts(job.concurrency_key for job in jobs),
        "concurrencies": Bigints(job.concurrency for job in jobs),
        "gates": Texts("parents" if job.parents else key_gate for job in jobs),
    }


def fields(job: NewJob, shift: int) -> dict[str, Any]:
    return {
        "id": job.id,
        "task_name": job.task_name,
        "queue": job.queue,
        "priority": job.priority,
        "payload": job.payload,
        "scheduled_at": job.scheduled_at,
        "delay": float(job.delay),
        "retries": job.max_retries,
        "timeout": None if job.timeout is None else float(job.timeout),
        "result_ttl": None if job.result_ttl is None else float(job.result_ttl),
        "metadata_text": job.metadata,
        "tags_text": tags_of(job),
        "shift": shift,
    }


def copied(job: NewJob, now: int) -> tuple[Any, ...]:
    due = now + int(job.delay * 1000) if job.scheduled_at is None else job.scheduled_at
    return (
        job.id,
        job.task_name,
        job.queue,
        job.priority,
        job.payload,
        now,
        due,
        job.max_retries,
        None if job.timeout is None else float(job.timeout),
        None if job.result_ttl is None else float(job.result_ttl),
        job.metadata,
        tags_of(job),
    )


def tags_of(job: NewJob) -> str:
    return json.dumps(job.tags) if job.tags else "[]"
