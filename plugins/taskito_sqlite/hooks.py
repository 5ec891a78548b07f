"""The plugin's door: what it offers and how its storage is opened.

``sqlite3`` is imported only when storage is asked for, because every ``import taskito`` loads this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskito_core import Offer, OfferKind, hookimpl
from taskito_sqlite import location

if TYPE_CHECKING:
    from taskito_core import CircuitBreaker, RateLimiter, Storage, StorageConfig


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    """One storage backend, for ``backend="sqlite"`` and ``sqlite://`` URLs, and limits in the same file."""
    return (
        Offer(
            kind=OfferKind.STORAGE,
            name="sqlite",
            schemes=(location.SCHEME,),
            check=location.check,
            describe=location.describe,
        ),
        Offer(kind=OfferKind.LIMITER, name="sqlite"),
        Offer(kind=OfferKind.BREAKER, name="sqlite"),
    )


@hookimpl
def taskito_open_storage(config: StorageConfig) -> Storage | None:
    """The storage for one database file. Does no I/O."""
    if config.backend != "sqlite":
        return None
    from taskito_sqlite.storage import SqliteStorage

    return SqliteStorage(config)


@hookimpl
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    """The limiter in the file of ``config``. Does no I/O."""
    if url != "sqlite":
        return None
    from taskito_sqlite.limits import SqliteRateLimiter

    return SqliteRateLimiter(config)


@hookimpl
def taskito_open_breaker(url: str, config: StorageConfig) -> CircuitBreaker | None:
    """The breakers in the file of ``config``. Does no I/O."""
    if url != "sqlite":
        return None
    from taskito_sqlite.limits import SqliteCircuitBreaker

    return SqliteCircuitBreaker(config)
