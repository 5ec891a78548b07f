"""The plugin's door: what it offers and how its storage and its metrics sink are opened.

``sqlite3`` is imported only when storage is asked for, because every ``import taskito`` loads this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskito_core import Offer, OfferKind, hookimpl
from taskito_sqlite import location

NAME = "sqlite"

if TYPE_CHECKING:
    from taskito_core import CircuitBreaker, Metrics, RateLimiter, Storage, StorageConfig


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    """Storage for ``backend="sqlite"`` and ``sqlite://`` URLs, with limits and metrics in the same file."""
    return (
        Offer(
            kind=OfferKind.STORAGE,
            name=NAME,
            schemes=(location.SCHEME,),
            check=location.check,
            describe=location.describe,
        ),
        Offer(kind=OfferKind.LIMITER, name=NAME),
        Offer(kind=OfferKind.BREAKER, name=NAME),
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
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    """The limiter in the file of ``config``. Does no I/O."""
    if url != NAME:
        return None
    from taskito_sqlite.limits import SqliteRateLimiter

    return SqliteRateLimiter(config)


@hookimpl
def taskito_open_breaker(url: str, config: StorageConfig) -> CircuitBreaker | None:
    """The breakers in the file of ``config``. Does no I/O."""
    if url != NAME:
        return None
    from taskito_sqlite.limits import SqliteCircuitBreaker

    return SqliteCircuitBreaker(config)


@hookimpl
def taskito_open_metrics(url: str, config: StorageConfig) -> Metrics | None:
    """The sink in the storage's database file, or in one of its own. Does no I/O."""
    if url.partition("://")[0].lower() not in (NAME, location.SCHEME):
        return None
    from taskito_sqlite.metrics import SqliteMetrics

    return SqliteMetrics(config.beside(NAME, url))
