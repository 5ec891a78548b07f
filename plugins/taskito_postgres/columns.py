"""New jobs as the parameters of the statements that store them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from taskito_core import NewJob
from taskito_postgres.arrays import Bigints, Blobs, Doubles, Texts


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
        "tags": Texts(_tags(job) for job in jobs),
        "shift": shift,
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
        "tags_text": _tags(job),
        "shift": shift,
    }


def row(job: NewJob, now: int) -> tuple[Any, ...]:
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
        _tags(job),
    )


def _tags(job: NewJob) -> str:
    return json.dumps(job.tags) if job.tags else "[]"
