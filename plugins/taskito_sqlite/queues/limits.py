"""How many jobs of a queue may be claimed, by its concurrency and its rate, inside a write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from taskito_core import Bucket, QueueLimits, QueueRoom, RateLimit
from taskito_sqlite.sql import claim as sql


def paused_and_limited(
    connection: sqlite3.Connection, queues: Sequence[str], now: int
) -> tuple[set[str], dict[str, QueueRoom]]:
    """The queues that are paused, and the room in those of these queues that have limits."""
    paused: set[str] = set()
    rooms: dict[str, QueueRoom] = {}
    rows = connection.execute(sql.PAUSED_OR_LIMITED).fetchall()
    for queue, has_limits, concurrency, rate, burst, tokens, refilled_at in rows:
        if not has_limits:
            paused.add(queue)
        elif queue in queues:
            running = 0
            if concurrency is not None:
                values = {"queue": queue, "limit": concurrency}
                [running] = connection.execute(sql.RUNNING, values).fetchone()
            limit = None if rate is None else RateLimit(rate, burst)
            bucket = None if rate is None else Bucket(tokens, refilled_at)
            rooms[queue] = QueueRoom(QueueLimits(concurrency, limit), running, bucket, now)
    return paused, rooms
