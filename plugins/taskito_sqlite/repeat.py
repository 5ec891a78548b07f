"""Jobs that are run again as new ones: replays of finished jobs, and dead ones from their letters."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from taskito_core import NewJob
from taskito_sqlite import acts, produce


def again_from_job(
    connection: sqlite3.Connection, job_id: str, new_id: str, now: int
) -> produce.Stored | None:
    """Enqueue a finished job again and write it down; None if there is no such job."""
    row = connection.execute(acts.ORIGINAL, (job_id,)).fetchone()
    if row is None:
        return None
    stored = produce.insert_copy(connection, _copy(row, new_id), now, job_id)
    if stored.receipts[0].inserted:
        status, error, result = row[-3:]
        connection.execute(acts.NOTE_REPLAY, (job_id, new_id, now, status, error, result))
    return stored


def again_from_letter(
    connection: sqlite3.Connection, job_id: str, new_id: str, now: int
) -> produce.Stored | None:
    """Enqueue a dead job again and drop its letter; None if it has none."""
    if connection.execute(acts.HAS_LETTER, (job_id,)).fetchone() is None:
        return None
    stored = again_from_job(connection, job_id, new_id, now)
    if stored is None:
        row = connection.execute(acts.LETTER, (job_id,)).fetchone()
        stored = produce.insert_copy(connection, _copy(row, new_id), now, job_id)
    if stored.receipts[0].inserted:
        connection.execute(acts.DROP_LETTER, (job_id,))
    return stored


def _copy(row: tuple[Any, ...], new_id: str) -> NewJob:
    (
        task_name, queue, priority, max_retries, timeout, result_ttl, tags, metadata, payload, lane,
        patience, unique_key, key, places, *_,
    ) = row  # fmt: skip
    return NewJob(
        id=new_id,
        task_name=task_name,
        payload=payload,
        queue=queue,
        priority=priority,
        max_retries=max_retries,
        timeout=timeout,
        result_ttl=result_ttl,
        metadata=metadata,
        tags=tuple(json.loads(tags)) if tags else (),
        lane=lane,
        expires=None if patience is None else max(patience, 0) / 1000,
        unique_key=unique_key,
        concurrency_key=key,
        concurrency=places,
    )
