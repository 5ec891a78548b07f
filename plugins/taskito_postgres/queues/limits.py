"""How many jobs of a queue may be claimed, by its concurrency and its rate, inside a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskito_core import Bucket, RateLimit
from taskito_postgres.arrays import Texts
from taskito_postgres.gates import Run
from taskito_postgres.sql import claim as sql

#: Milliseconds after which a queue that has as many jobs running as it may is asked for more again. Who
#: records an end notifies those that wait; this is the net.
AGAIN_AFTER = 250
#: The same of one from which another worker claims at this moment.
LOCKED_AGAIN = 20


class LimitedQueue:
    """One queue with limits, locked, at the beginning of a claim."""

    def __init__(self, queue: str, rooms: list[int], bucket: Bucket | None, rate: RateLimit | None, now: int):
        self._queue = queue
        self._now = now
        self._rate = rate
        self._bucket = bucket
        self.room = max(0, min([*rooms, *([] if bucket is None else [int(bucket.tokens)])]))
        self.again_at = now + AGAIN_AFTER  #: when there may be room again

    def take(self, run: Run, count: int) -> None:
        """So many jobs were claimed."""
        self.room -= count
        if self._bucket is None or self._rate is None:
            return
        left, _ = self._bucket.take(count, self._rate, self._now)
        if left.tokens < 1:
            self.again_at = self._now + max(1, round(left.grant(0, 0, self._rate).retry_after * 1000))
        if count:
            values = {"queue": self._queue, "tokens": left.tokens, "refilled_at": left.refilled_at}
            run(sql.PUT_TOKENS, values)


def lock(run: Run, queues: Sequence[str], shift: int) -> dict[str, LimitedQueue]:
    """Lock the limits of those of these queues that have some. No room: another worker is at it."""
    rows = run(sql.LOCK_LIMITS, {"queues": Texts(sorted(queues)), "shift": shift})
    counted = [queue for queue, _, concurrency, *_ in rows if concurrency is not None]
    running: dict[str, int] = dict(run(sql.RUNNING, {"queues": Texts(counted)})) if counted else {}
    limited = {}
    for queue, is_locked, concurrency, rate, burst, tokens, refilled_at, now in rows:
        if not is_locked:
            limited[queue] = LimitedQueue(queue, [0], None, None, now)
            limited[queue].again_at = now + LOCKED_AGAIN
            continue
        rooms = [] if concurrency is None else [concurrency - running.get(queue, 0)]
        limit = None if rate is None else RateLimit(rate, burst)
        bucket = None if limit is None else Bucket(tokens, refilled_at).take(0, limit, now)[0]
        limited[queue] = LimitedQueue(queue, rooms, bucket, limit, now)
    return limited


def served_together(queues: Sequence[str], limited: dict[str, LimitedQueue]) -> Iterator[tuple[str, ...]]:
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
