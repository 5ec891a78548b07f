"""How many jobs of a queue may be claimed, by its concurrency and its rate, inside a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskito_core import Bucket, QueueLimits, QueueRoom, RateLimit
from taskito_postgres.arrays import Texts
from taskito_postgres.gates import Run
from taskito_postgres.sql import claim as sql

#: Milliseconds after which a queue from which another worker claims at this moment is asked for more again.
LOCKED_AGAIN = 20


def lock(run: Run, queues: Sequence[str], shift: int) -> dict[str, QueueRoom]:
    """Lock the limits of those of these queues that have some. No room: another worker is at it."""
    rows = run(sql.LOCK_LIMITS, {"queues": Texts(sorted(queues)), "shift": shift})
    counted = [queue for queue, _, concurrency, *_ in rows if concurrency is not None]
    running: dict[str, int] = dict(run(sql.RUNNING, {"queues": Texts(counted)})) if counted else {}
    rooms = {}
    for queue, is_locked, concurrency, rate, burst, tokens, refilled_at, now in rows:
        if is_locked:
            limit = None if rate is None else RateLimit(rate, burst)
            bucket = None if rate is None else Bucket(tokens, refilled_at)
            rooms[queue] = QueueRoom(QueueLimits(concurrency, limit), running.get(queue, 0), bucket, now)
        else:
            rooms[queue] = QueueRoom(QueueLimits(concurrency=0), 0, None, now)
            rooms[queue].again_at = now + LOCKED_AGAIN
    return rooms


def served_together(queues: Sequence[str], limited: dict[str, QueueRoom]) -> Iterator[tuple[str, ...]]:
    """The queues in their order: those with limits alone, those between them together."""
    group: list[str] = []
    for queue in queues:
        if queue not in limited:
            group.append(queue)
            continue
        if group:
            yield tuple(group)
            group = []
        yield (queue,)
    if group:
        yield tuple(group)
