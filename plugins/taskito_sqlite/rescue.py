"""Taking jobs back from workers that are gone, and throwing away what nobody wants any more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from taskito_core import ErrorInfo, ErrorKind
from taskito_sqlite import acts, sql, upkeep
from taskito_sqlite.relations import cancel
from taskito_sqlite.settle import CANCELLED_WHILE_RUNNING

#: Milliseconds after which a worker that is gone is forgotten.
REMEMBERED = 24 * 3600 * 1000


class Rescued(NamedTuple):
    ids: list[str]
    queues: set[str]


def rescue(connection: sqlite3.Connection, suspects: Mapping[str, int], now: int) -> Rescued:
    """Declare the suspects dead whose beat stands still, and put back what no live worker runs."""
    for worker_id, beat in suspects.items():
        connection.execute(upkeep.DECLARE_DEAD, (worker_id, beat))
    rescued = Rescued([], set())
    asked_to_cancel: list[str] = []
    for job_id, token, worker_id in connection.execute(upkeep.ORPHANS).fetchall():
        error = ErrorInfo(
            ErrorKind.INTERRUPTED, "WorkerLost", f"worker {worker_id} died while it had this job"
        )
        values = {
            "id": job_id,
            "token": token,
            "now": now,
            "due": None,
            "started_at": None,
            "kind": error.kind,
            "type": error.type,
            "message": error.message,
            "traceback": None,
            "error": error.summary,
        }
        connection.execute(sql.FAILED_ATTEMPT, values)
        queue, asked = connection.execute(upkeep.RESCUE, values).fetchone()
        rescued.ids.append(job_id)
        if asked is None:
            rescued.queues.add(queue)
        else:
            asked_to_cancel.append(job_id)
    _, ripples = cancel(connection, asked_to_cancel, CANCELLED_WHILE_RUNNING, now)
    return rescued._replace(queues=rescued.queues | ripples.queues)


def release_all(connection: sqlite3.Connection, worker_id: str, now: int) -> set[str]:
    """Hand back what a worker still runs; the queues that have jobs again."""
    rows = connection.execute(upkeep.RELEASE_ALL, (worker_id,)).fetchall()
    asked = [job_id for _, job_id, cancel_at in rows if cancel_at is not None]
    _, ripples = cancel(connection, asked, CANCELLED_WHILE_RUNNING, now)
    return ripples.queues | {queue for queue, _, cancel_at in rows if cancel_at is None}


def prune(connection: sqlite3.Connection, limit: int, now: int) -> int:
    """Delete finished jobs whose time has passed, with all that belongs to them; how many."""
    outlived = [row[0] for row in connection.execute(acts.OUTLIVED, (now, limit))]
    gone = delete(connection, outlived)
    connection.execute(upkeep.FORGET_WORKERS, (now - REMEMBERED,))
    return len(gone)


def delete(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Delete those of these jobs that have finished and that no live job may still ask for."""
    if not ids:
        return []
    wanted = json.dumps(list(ids))
    kept = {row[0] for row in connection.execute(acts.KEPT, (wanted,))}
    gone = [row[0] for row in connection.execute(acts.FINISHED, (wanted,)) if row[0] not in kept]
    if gone:
        for statement in acts.DELETE:
            connection.execute(statement, (json.dumps(gone),))
    return gone
