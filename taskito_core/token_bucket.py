"""The arithmetic of a rate limiter: a token bucket, before and after a call. Pure.

Every backend keeps the state where all workers see it, and lets one change it at a time. What the
change is, is decided here. (PostgreSQL repeats this arithmetic in one statement, because
nobody should hold a lock while messages travel; the conformance suite compares the two.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from taskito_core.limits import Grant, RateLimit

#: Milliseconds by which a clock may have been set back and is waited for.
CLOCK_PATIENCE = 60_000


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
