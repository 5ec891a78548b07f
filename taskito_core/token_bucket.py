"""The arithmetic of a rate limiter: a token bucket, before and after a call. Pure.

Every backend keeps the state where all workers see it, and lets one change it at a time. What the
change is, is decided here. (PostgreSQL repeats this arithmetic in one statement, because
nobody should hold a lock while messages travel; the conformance suite compares the two.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from taskito_core.limits import Grant, QueueLimits, RateLimit

#: Milliseconds by which a clock may have been set back and is waited for.
CLOCK_PATIENCE = 60_000
#: Milliseconds after which a queue that has as many jobs running as it may is asked for more again. Who
#: records an end wakes those that wait; this is the net.
AGAIN_AFTER = 250


class Bucket(NamedTuple):
    """The tokens of one key at one moment. A token bucket, as in ITU-T I.371, appendix I."""

    tokens: float
    refilled_at: int  #: milliseconds since the epoch, the store's clock

    @classmethod
    def full(cls, limit: RateLimit, now: int) -> Bucket:
        """The bucket of a key that was never asked for."""
        return cls(float(limit.burst), now)

    def take(self, wanted: int, limit: RateLimit, now: int) -> tuple[Bucket, Grant]:
        """Take up to ``wanted`` tokens."""
        filled = self._refilled(limit, now)
        granted = min(max(wanted, 0), int(filled.tokens))
        left = filled._replace(tokens=filled.tokens - granted)
        return left, left.grant(wanted, granted, limit)

    def grant(self, wanted: int, granted: int, limit: RateLimit) -> Grant:
        """The answer to a taker that left the bucket like this."""
        if granted == wanted and wanted > 0:
            return Grant(granted, 0.0)
        missing = max(0.0, 1.0 - self.tokens)
        # In whole milliseconds, as the clock counts: asked any earlier the token would not be there.
        return Grant(granted, math.ceil(missing / limit.rate * 1000) / 1000)

    def put_back(self, unused: int, limit: RateLimit, now: int) -> Bucket:
        """Return tokens that were not used."""
        filled = self._refilled(limit, now)
        return filled._replace(tokens=min(float(limit.burst), filled.tokens + max(unused, 0)))

    def _refilled(self, limit: RateLimit, now: int) -> Bucket:
        # A clock that was set back gives nothing for the time it repeats. One that was set back by a day
        # would give nothing for a day: from there on it counts anew.
        moment = max(now, self.refilled_at) if self.refilled_at - now <= CLOCK_PATIENCE else now
        passed = max(0, now - self.refilled_at) / 1000
        return Bucket(min(float(limit.burst), self.tokens + passed * limit.rate), moment)


class QueueRoom:
    """How many jobs of a queue may be claimed, by its limits. One of them is a concurrency or a rate."""

    def __init__(self, limits: QueueLimits, running: int, bucket: Bucket | None, now: int) -> None:
        """``running``: jobs of the queue; ``bucket``: of its rate, as it is stored, None: it is not."""
        self._rate, self._bucket, self._now = limits.rate, bucket, now
        self.again_at = now + AGAIN_AFTER  #: when there may be room again
        rooms = [] if limits.concurrency is None else [max(0, limits.concurrency - running)]
        if limits.rate is not None:
            self._bucket = bucket or Bucket.full(limits.rate, now)
            rooms.append(int(self._take(0, limits.rate).tokens))
        self.count = min(rooms)

    def take(self, claimed: int) -> Bucket | None:
        """So many jobs were claimed. What is left in the bucket; None: nothing is to be stored."""
        self.count -= claimed
        return None if self._rate is None or not claimed else self._take(claimed, self._rate)

    def _take(self, tokens: int, rate: RateLimit) -> Bucket:
        assert self._bucket is not None
        self._bucket, _ = self._bucket.take(tokens, rate, self._now)
        if self._bucket.tokens < 1:
            self.again_at = self._now + max(1, round(self._bucket.grant(0, 0, rate).retry_after * 1000))
        return self._bucket
