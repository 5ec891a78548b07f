"""A token bucket in this process: the smallest plugin that offers a rate limiter and no storage."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskito_core import (
    Bucket,
    Grant,
    Offer,
    OfferKind,
    RateLimit,
    RateLimiter,
    StorageConfig,
    Wants,
    hookimpl,
)


class LocalLimiter:
    """Buckets in a dict; right for one thread of one process only."""

    def __init__(self) -> None:
        self.clock_shift = 0
        self._buckets: dict[str, Bucket] = {}

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        now, grants = self._now(), {}
        for key, (wanted, limit) in wants.items():
            self._buckets[key], grants[key] = self._bucket(key, limit, now).take(wanted, limit, now)
        return grants

    def give_back(self, unused: Wants) -> None:
        now = self._now()
        for key, (count, limit) in unused.items():
            self._buckets[key] = self._bucket(key, limit, now).put_back(count, limit, now)

    def close(self) -> None:
        """Nothing is open."""

    def _bucket(self, key: str, limit: RateLimit, now: int) -> Bucket:
        return self._buckets.get(key) or Bucket.full(limit, now)

    def _now(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_shift


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    return [Offer(kind=OfferKind.LIMITER, name="local", schemes=("local",))]


@hookimpl
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    return LocalLimiter() if url.partition("://")[0] == "local" else None
