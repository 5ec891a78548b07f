"""Short ways to say what a storage test is about."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping
from typing import Any

from taskito_core.job import (
    Cancelled,
    Charge,
    Claim,
    Complete,
    Dead,
    DeadReason,
    ErrorInfo,
    ErrorKind,
    JobStatus,
    NewJob,
    Release,
    Retry,
    new_id,
)
from taskito_core.storage import Storage
from taskito_core.storage_worker import NO_CAPS, LogEntry, PeriodicEntry, Want, WorkerInfo

# As a supervisor draws them: 31 random bits per process start, then a counter.
_tokens = itertools.count((random.SystemRandom().getrandbits(31) << 32) + 1)


def new_token() -> int:
    """A token that was never used before, by anyone."""
    return next(_tokens)


def new_token_base() -> int:
    """The start of a range of tokens for another process to count on from."""
    return random.SystemRandom().getrandbits(31) << 32


def make_job(**overrides: Any) -> NewJob:
    """A job for the task ``job`` in the queue ``default``, due at once."""
    values: dict[str, Any] = {"id": new_id(), "task_name": "job", "payload": b"payload"}
    return NewJob(**{**values, **overrides})


def make_worker(**overrides: Any) -> WorkerInfo:
    """A worker under an id of its own."""
    values: dict[str, Any] = {
        "id": f"worker-{new_id()}",
        "host": "host-1",
        "pid": 4321,
        "app": "app:queue",
        "queues": ("default",),
        "tasks": ("job",),
        "procs": 2,
        "version": "0.1.0",
    }
    return WorkerInfo(**{**values, **overrides})


def want(
    limit: int = 1,
    *,
    queues: tuple[str, ...] = ("default",),
    tasks: tuple[str, ...] = ("job",),
    token: int | None = None,
    caps: Mapping[str, int] = NO_CAPS,
) -> Want:
    """Up to ``limit`` jobs, under a fresh token."""
    return Want(limit, queues, tasks, new_token() if token is None else token, caps)


def claim(storage: Storage, worker_id: str, limit: int = 1, **wanted: Any) -> list[Claim]:
    """Claim up to ``limit`` jobs and settle nothing."""
    return storage.exchange(worker_id, [], want(limit, **wanted)).claims


def enqueue_and_claim(storage: Storage, worker_id: str, **overrides: Any) -> Claim:
    """A new job, already claimed by this worker; nothing else may be waiting in its queue."""
    job = make_job(**overrides)
    storage.enqueue([job])
    [claimed] = claim(storage, worker_id, queues=(job.queue,))
    return claimed


def error_info(**overrides: Any) -> ErrorInfo:
    values: dict[str, Any] = {
        "kind": ErrorKind.RAISED,
        "type": "ValueError",
        "message": "that was wrong",
        "traceback": "Traceback (most recent call last): ...",
    }
    return ErrorInfo(**{**values, **overrides})


def complete(claimed: Claim, result: bytes = b"result", started_at: int | None = None) -> Complete:
    return Complete(claimed.id, claimed.token, result, started_at)


def retry(
    claimed: Claim,
    delay: float = 0.0,
    charge: Charge = Charge.RETRY,
    error: ErrorInfo | None = None,
    started_at: int | None = None,
) -> Retry:
    return Retry(claimed.id, claimed.token, delay, charge, error or error_info(), started_at)


def dead(
    claimed: Claim,
    reason: DeadReason = DeadReason.RETRIES,
    charge: Charge | None = None,
    error: ErrorInfo | None = None,
    started_at: int | None = None,
) -> Dead:
    return Dead(claimed.id, claimed.token, reason, charge, error or error_info(), started_at)


def release(claimed: Claim, lane: str | None = None, delay: float | None = None) -> Release:
    return Release(claimed.id, claimed.token, lane, delay)


def cancelled(claimed: Claim, error: str = "cancelled", started_at: int | None = None) -> Cancelled:
    return Cancelled(claimed.id, claimed.token, error, started_at)


def make_entry(**overrides: Any) -> PeriodicEntry:
    """A periodic task of the app ``app:queue`` that runs ``job`` every minute."""
    values: dict[str, Any] = {
        "name": "every minute",
        "app": "app:queue",
        "task_name": "job",
        "cron": "* * * * *",
        "timezone": "UTC",
        "catch_up": "skip",
        "queue": "default",
        "payload": b"payload",
    }
    return PeriodicEntry(**{**values, **overrides})


def make_log(job_id: str, **overrides: Any) -> LogEntry:
    """What the first attempt of a job of the task ``job`` said."""
    values: dict[str, Any] = {
        "id": new_id(),
        "job_id": job_id,
        "task_name": "job",
        "token": 1,
        "logged_at": time.time_ns() // 1_000_000,
        "level": "info",
        "message": "said",
        "extra": None,
    }
    return LogEntry(**{**values, **overrides})


def status_of(storage: Storage, job_id: str) -> JobStatus:
    [job] = storage.get([job_id])
    return job.status
