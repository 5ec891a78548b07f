"""How many jobs of a queue may be claimed, by its concurrency and its rate, inside a write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from taskito_core import Bucket, RateLimit
from taskito_sqlite.sql import claim as sql

#: Milliseconds after which a queue that has as many jobs running as it may is asked for more again. Who
#: records an end wakes those that wait; this is the net.
AGAIN_AFTER = 250


def paused_and_limited(
    connection: sqlite3.Connection, queues: Sequence[str], now: int
) -> tuple[set[str], dict[str, LimitedQueue]]:
    """The queues that are paused, and the limits of those of these queues that have some."""
    paused: set[str] = set()
    limited: dict[str, LimitedQueue] = {}
    for queue, has_limits, concurrency, *rest in connection.execute(sql.PAUSED_OR_LIMITED).fetchall():
        if not has_limits:
            paused.add(queue)
        elif queue in queues:
            values = {"queue": queue, "limit": concurrency}
            rooms = []
            if concurrency is not None:
                [running] = connection.execute(sql.RUNNING, values).fetchone()
                rooms.append(concurrency - running)
            limited[queue] = LimitedQueue(queue, rooms, *_bucket(now, *rest), now)
    return paused, limited


def _bucket(
    now: int, rate: float | None, burst: int, tokens: float, refilled_at: int
) -> tuple[Bucket | None, RateLimit | None]:
    if rate is None:
        return None, None
    limit = RateLimit(rate, burst)
    filled, _ = Bucket(tokens, refilled_at).take(0, limit, now)
    return filled, limit


class LimitedQueue:
    """One queue with limits, at the beginning of a claim."""

    def __init__(self, queue: str, rooms: list[int], bucket: Bucket | None, rate: RateLimit | None, now: int):
        self._queue = queue
        self._now = now
        self._rate = rate
        self._bucket = bucket
        self.room = max(0, min([*rooms, *([] if bucket is None else [int(bucket.tokens)])]))
        self.again_at = now + AGAIN_AFTER  #: when there may be room again

    def take(self, connection: sqlite3.Connection, count: int) -> None:
        """So many jobs were claimed."""
        if self._bucket is None or self._rate is None:
            return
        left, _ = self._bucket.take(count, self._rate, self._now)
        if left.tokens < 1:
            self.again_at = self._now + max(1, round(left.grant(0, 0, self._rate).retry_after * 1000))
        if count:
            values = {"queue": self._queue, "tokens": left.tokens, "refilled_at": left.refilled_at}
            connection.execute(sql.PUT_TOKENS, values)
