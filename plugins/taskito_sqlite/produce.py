"""New jobs into the table, inside the caller's write transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from taskito_core import NewJob, Receipt
from taskito_sqlite import sql


class SentBefore(Exception):
    """Some of the ids are stored already: roll back and insert one by one."""


def insert(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int) -> list[Receipt]:
    """Insert all jobs; raises SentBefore if one of the ids is stored, or is there twice."""
    inserted = connection.executemany(sql.ENQUEUE, [_row(job, now) for job in jobs]).rowcount
    if inserted != len(jobs):
        raise SentBefore
    return [Receipt(job.id, True) for job in jobs]


def insert_again(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int) -> list[Receipt]:
    """Insert those jobs whose ids are not stored."""
    ids = json.dumps([job.id for job in jobs])
    stored = {row[0] for row in connection.execute(sql.STORED, (ids,))}
    receipts = []
    for job in jobs:
        receipts.append(Receipt(job.id, job.id not in stored))
        if job.id not in stored:
            connection.execute(sql.ENQUEUE, _row(job, now))
            stored.add(job.id)
    return receipts


def _row(job: NewJob, now: int) -> tuple[object, ...]:
    due = job.scheduled_at
    if due is None:
        due = now + round(job.delay * 1000) if job.delay else now
    return (
        job.id,
        job.task_name,
        job.queue,
        job.priority,
        now,
        due,
        job.max_retries,
        job.timeout,
        job.result_ttl,
        json.dumps(job.tags, ensure_ascii=False) if job.tags else None,
        job.metadata,
        job.payload,
    )
