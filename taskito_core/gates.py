"""The arithmetic of rate limiters and circuit breakers: state in, state and answer out. Pure.

Every backend keeps the state where all workers see it, and changes it under a lock of its own. What the
change is, is decided here and only here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from taskito_core.limits import Admission, BreakerOptions, BreakerState, Grant, RateLimit

#: Seconds after which to ask again while somebody else's probe runs: it may end at any moment.
PROBE_LOOK = 1.0


class Bucket(NamedTuple):
    """The tokens of one key at one moment. A token bucket, as in ITU-T I.371, appendix I."""

    tokens: float
    updated_at: int  #: milliseconds since the epoch, the store's clock

    @classmethod
    def full(cls, limit: RateLimit, now: int) -> Bucket:
        """The bucket of a key that was never asked for."""
        return cls(float(limit.burst), now)

    def take(self, wanted: int, limit: RateLimit, now: int) -> tuple[Bucket, Grant]:
        """Take up to ``wanted`` tokens."""
        bucket = self._refilled(limit, now)
        granted = min(max(wanted, 0), int(bucket.tokens))
        left = bucket.tokens - granted
        satisfied = granted == wanted and wanted > 0
        wait = 0.0 if satisfied else max(0.0, (1.0 - left) / limit.rate)
        return Bucket(left, bucket.updated_at), Grant(granted, wait)

    def put_back(self, unused: int, limit: RateLimit, now: int) -> Bucket:
        """Return tokens that were not used."""
        bucket = self._refilled(limit, now)
        return Bucket(min(float(limit.burst), bucket.tokens + unused), bucket.updated_at)

    def _refilled(self, limit: RateLimit, now: int) -> Bucket:
        # A clock that goes back refills nothing until it has caught up, and a smaller bucket spills at once.
        passed = max(0, now - self.updated_at) / 1000
        tokens = min(float(limit.burst), self.tokens + passed * limit.rate)
        return Bucket(tokens, max(now, self.updated_at))


class Breaker(NamedTuple):
    """The state of one circuit breaker."""

    state: BreakerState = BreakerState.CLOSED
    failures: tuple[int, ...] = ()  #: their moments, oldest first; at most as many as open it
    opened_at: int | None = None
    probe_at: int | None = None  #: when the probe of the half-open state was let through

    def admit(self, options: BreakerOptions, now: int) -> tuple[Breaker, Admission]:
        """May a job start? Half-open, one may."""
        cooldown = _milliseconds(options.cooldown)
        if self.state is BreakerState.CLOSED:
            return self, Admission(True, BreakerState.CLOSED, 0.0)
        since = self.opened_at if self.state is BreakerState.OPEN else self.probe_at
        if since is not None and (left := since + cooldown - now) > 0:
            wait = left / 1000 if self.state is BreakerState.OPEN else min(left / 1000, PROBE_LOOK)
            return self, Admission(False, self.state, wait)
        probing = self._replace(state=BreakerState.HALF_OPEN, probe_at=now)
        return probing, Admission(True, BreakerState.HALF_OPEN, 0.0)

    def withdraw(self) -> Breaker:
        """The probe did not start."""
        return self._replace(probe_at=None) if self.state is BreakerState.HALF_OPEN else self

    def record(self, succeeded: bool, options: BreakerOptions, now: int) -> Breaker:
        """One attempt ended."""
        if self.state is BreakerState.OPEN:
            return self
        if self.state is BreakerState.HALF_OPEN:
            if self.probe_at is None:
                return self  # Of an attempt that began before it opened: the probe is still to come.
            return Breaker() if succeeded else Breaker(BreakerState.OPEN, self.failures, now)
        if succeeded:
            return self
        since = now - _milliseconds(options.window)
        recent = (*(moment for moment in self.failures if moment > since), now)
        if len(recent) >= options.threshold:
            return Breaker(BreakerState.OPEN, recent[-options.threshold :], now)
        return self._replace(failures=recent)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
