"""Make ``memory://NAME`` openable in this process, as an installed backend's URL is."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from taskito_core.errors import ConfigError
from taskito_core.hookspecs import Offer, OfferKind, hookimpl
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.plugin_manager import load
from taskito_core.storage import Storage, StorageConfig
from taskito_kv.limits import MemoryCircuitBreaker, MemoryRateLimiter
from taskito_kv.metrics import MemoryMetrics
from taskito_kv.storage import MemoryStorage


class MemoryPlugin:
    """What ``taskito_testing`` registers: not an entry point, so no program finds it by accident."""

    @hookimpl
    def taskito_offers(self) -> Sequence[Offer]:
        return [
            Offer(
                kind=OfferKind.STORAGE,
                name="memory",
                schemes=("memory",),
                check=_check,
                describe=lambda config: config.db_url or "memory://",
            ),
            Offer(kind=OfferKind.LIMITER, name="memory", schemes=("memory",)),
            Offer(kind=OfferKind.BREAKER, name="memory", schemes=("memory",)),
            Offer(kind=OfferKind.METRICS, name="memory", schemes=("memory",)),
        ]

    @hookimpl
    def taskito_open_storage(self, config: StorageConfig) -> Storage | None:
        return MemoryStorage(config) if config.backend == "memory" else None

    @hookimpl
    def taskito_open_limiter(self, url: str, config: StorageConfig) -> RateLimiter | None:
        return MemoryRateLimiter(config.beside("memory", url)) if _is_ours(url) else None

    @hookimpl
    def taskito_open_breaker(self, url: str, config: StorageConfig) -> CircuitBreaker | None:
        return MemoryCircuitBreaker(config.beside("memory", url)) if _is_ours(url) else None

    @hookimpl
    def taskito_open_metrics(self, url: str, config: StorageConfig) -> Metrics | None:
        return MemoryMetrics(config.beside("memory", url)) if _is_ours(url) else None


def _is_ours(url: str) -> bool:
    return url.partition("://")[0].lower() == "memory"


def _check(config: StorageConfig) -> None:
    if config.db_url is None or not urlsplit(config.db_url).netloc:
        raise ConfigError(f"the memory backend needs a db_url like memory://NAME, got {config.db_url!r}")


_registered = False


def register_memory_plugin() -> None:
    """Register ``MemoryPlugin`` with this process's plugins, once."""
    global _registered
    if not _registered:
        load().register(MemoryPlugin(), "memory")
        _registered = True
