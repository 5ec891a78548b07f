"""A token bucket in this process: the smallest plugin that offers a rate limiter and no storage."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskito_core import Grant, Offer, OfferKind, RateLimit, RateLimiter, StorageConfig, hookimpl


class LocalLimiter:
    """Buckets in a dict; right for one process only."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}  # key -> (tokens, the moment they were counted)

    def acquire(self, key: str, n: int, limit: RateLimit) -> Grant:
        tokens = self._tokens(key, limit)
        granted = min(n, int(tokens))
        self._buckets[key] = (tokens - granted, time.monotonic())
        missing = 0.0 if granted == n else 1.0 - (tokens - granted)
        return Grant(granted, missing / limit.rate)

    def give_back(self, key: str, n: int, limit: RateLimit) -> None:
        self._buckets[key] = (min(limit.burst, self._tokens(key, limit) + n), time.monotonic())

    def close(self) -> None:
        self._buckets.clear()

    def _tokens(self, key: str, limit: RateLimit) -> float:
        tokens, counted_at = self._buckets.get(key, (float(limit.burst), time.monotonic()))
        return min(float(limit.burst), tokens + (time.monotonic() - counted_at) * limit.rate)


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    return [Offer(kind=OfferKind.LIMITER, name="local", schemes=("local",))]


@hookimpl
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    return LocalLimiter() if url.partition("://")[0] == "local" else None
