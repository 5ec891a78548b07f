"""What this plugin offers to the core: ``sqlite`` storage, limits and metrics.

``sqlite3`` is imported only when something is asked for, because every ``import taskito`` loads this module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskito_core import Offer, OfferKind, hookimpl
from taskito_sqlite import location

NAME = "sqlite"

if TYPE_CHECKING:
    from taskito_core import CircuitBreaker, Finding, Metrics, RateLimiter, Storage, StorageConfig


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    """Storage, limits and metrics, in one file or each in its own, for ``sqlite`` and ``sqlite://`` URLs."""
    return (
        Offer(
            kind=OfferKind.STORAGE,
            name=NAME,
            schemes=(location.SCHEME,),
            check=location.check,
            describe=location.describe,
        ),
        Offer(kind=OfferKind.LIMITER, name=NAME, schemes=(location.SCHEME,)),
        Offer(kind=OfferKind.BREAKER, name=NAME, schemes=(location.SCHEME,)),
        Offer(kind=OfferKind.METRICS, name=NAME, schemes=(location.SCHEME,)),
    )


@hookimpl
def taskito_open_storage(config: StorageConfig) -> Storage | None:
    """The storage for one database file. Does no I/O."""
    if config.backend != NAME:
        return None
    from taskito_sqlite.storage import SqliteStorage

    return SqliteStorage(config)


@hookimpl
def taskito_examine(storage: Storage) -> Sequence[Finding] | None:
    """What is amiss with this file, if it is one of ours."""
    module = sys.modules.get("taskito_sqlite.storage")  # What is ours was made by it.
    return storage.examine() if module and isinstance(storage, module.SqliteStorage) else None


@hookimpl
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    """The limiter in the storage's file, or in the one of ``url``. Does no I/O."""
    if not _is_ours(url):
        return None
    from taskito_sqlite.rate_limiter import SqliteRateLimiter

    return SqliteRateLimiter(config.beside(NAME, url))


@hookimpl
def taskito_open_breaker(url: str, config: StorageConfig) -> CircuitBreaker | None:
    """The breakers in the storage's file, or in the one of ``url``. Does no I/O."""
    if not _is_ours(url):
        return None
    from taskito_sqlite.circuit_breaker import SqliteCircuitBreaker

    return SqliteCircuitBreaker(config.beside(NAME, url))


@hookimpl
def taskito_open_metrics(url: str, config: StorageConfig) -> Metrics | None:
    """The sink in the storage's file, or in the one of ``url``. Does no I/O."""
    if not _is_ours(url):
        return None
    from taskito_sqlite.metrics import SqliteMetrics

    return SqliteMetrics(config.beside(NAME, url))


def _is_ours(url: str) -> bool:
    return url.partition("://")[0].lower() in (NAME, location.SCHEME)
