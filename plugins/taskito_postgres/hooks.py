"""What this plugin offers to the core: ``postgres`` storage, limits and metrics.

No driver is imported here: plugins are loaded by every ``import`` of an app that builds a Queue.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from taskito_core import (
    CircuitBreaker,
    Finding,
    Metrics,
    Offer,
    OfferKind,
    RateLimiter,
    Storage,
    StorageConfig,
    hookimpl,
)
from taskito_postgres.location import SCHEMES, check, describe

NAME = "postgres"
ALIASES = ("postgresql",)


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    return [
        Offer(
            kind=OfferKind.STORAGE,
            name=NAME,
            aliases=ALIASES,
            schemes=SCHEMES,
            check=check,
            describe=describe,
        ),
        Offer(kind=OfferKind.LIMITER, name=NAME, aliases=ALIASES, schemes=SCHEMES),
        Offer(kind=OfferKind.BREAKER, name=NAME, aliases=ALIASES, schemes=SCHEMES),
        Offer(kind=OfferKind.METRICS, name=NAME, aliases=ALIASES, schemes=SCHEMES),
    ]


@hookimpl
def taskito_open_storage(config: StorageConfig) -> Storage | None:
    if config.backend != NAME:
        return None
    # The driver costs 100 ms to import: only a process that opens a storage pays for it.
    from taskito_postgres.storage import PostgresStorage

    return PostgresStorage(config)


@hookimpl
def taskito_examine(storage: Storage) -> Sequence[Finding] | None:
    """What is amiss with this server, if it is one of ours."""
    module = sys.modules.get("taskito_postgres.storage")  # What is ours was made by it.
    return storage.examine() if module and isinstance(storage, module.PostgresStorage) else None


@hookimpl
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    if not _is_ours(url):
        return None
    from taskito_postgres.rate_limiter import PostgresRateLimiter

    return PostgresRateLimiter(config.beside(NAME, url))


@hookimpl
def taskito_open_breaker(url: str, config: StorageConfig) -> CircuitBreaker | None:
    if not _is_ours(url):
        return None
    from taskito_postgres.circuit_breaker import PostgresCircuitBreaker

    return PostgresCircuitBreaker(config.beside(NAME, url))


@hookimpl
def taskito_open_metrics(url: str, config: StorageConfig) -> Metrics | None:
    if not _is_ours(url):
        return None
    from taskito_postgres.metrics import PostgresMetrics

    return PostgresMetrics(config.beside(NAME, url))


def _is_ours(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() in (SCHEMES if separator else (NAME,))
