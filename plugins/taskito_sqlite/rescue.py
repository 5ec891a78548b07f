"""Taking jobs back from workers that are gone, and throwing away what nobody wants any more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from taskito_core import ErrorInfo, ErrorKind
from taskito_sqlite import sql, upkeep

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
        [queue] = connection.execute(upkeep.RESCUE, values).fetchone()
        rescued.ids.append(job_id)
        rescued.queues.add(queue)
    return rescued


def prune(connection: sqlite3.Connection, limit: int, now: int) -> int:
    """Delete finished jobs whose time has passed, with all that belongs to them; how many."""
    gone = [row[0] for row in connection.execute(upkeep.PRUNE, (now, limit)).fetchall()]
    if gone:
        ids = json.dumps(gone)
        for statement in upkeep.PRUNE_WITH_JOB:
            connection.execute(statement, (ids,))
    connection.execute(upkeep.FORGET_WORKERS, (now - REMEMBERED,))
    return len(gone)
