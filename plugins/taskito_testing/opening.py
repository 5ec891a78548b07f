"""Open storage from a URL as a user's configuration would, and see what it lacks."""

from __future__ import annotations

import inspect
import socket
from typing import Any
from urllib.parse import urlsplit

from taskito_core.errors import ConfigError
from taskito_core.hookspecs import OfferKind
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.plugin_manager import load
from taskito_core.storage import Storage, StorageConfig
from taskito_core.storage_client import StorageClient
from taskito_core.storage_worker import StorageWorker
from taskito_testing.plugin import register_memory_plugin

register_memory_plugin()


def open_storage(url: str, schema: str = "taskito", **options: Any) -> Storage:
    """The storage that ``url`` names, through the plugins that are installed or registered.

    ``options`` are further fields of ``StorageConfig``. Raises ConfigError if no plugin opens the URL.
    """
    plugins = load()
    backend = plugins.find(OfferKind.STORAGE, url).name
    config = StorageConfig(backend=backend, db_url=url, schema=schema, **options)
    return plugins.open_storage(config)


def open_limiter(url: str, schema: str = "taskito", **options: Any) -> RateLimiter:
    """The rate limiter that ``url`` names, as the setting ``limiter`` does; ``options`` as above."""
    return load().open_limiter(url, StorageConfig(schema=schema, **options))


def open_breaker(url: str, schema: str = "taskito", **options: Any) -> CircuitBreaker:
    """The circuit breaker that ``url`` names, as the setting ``breaker`` does; ``options`` as above."""
    return load().open_breaker(url, StorageConfig(schema=schema, **options))


def open_metrics(url: str, schema: str = "taskito", **options: Any) -> Metrics:
    """The metrics sink that ``url`` names, as the setting ``metrics`` does; ``options`` as above."""
    sink = load().open_metrics(url, StorageConfig(schema=schema, **options))
    if sink is None:
        raise ConfigError(f"{url!r} names no metrics sink")
    return sink


def contract_methods() -> list[str]:
    """The names of the methods of the storage contract, in its order."""
    named = {**vars(StorageWorker), **vars(StorageClient), **vars(Storage)}
    return [name for name, value in named.items() if inspect.isfunction(value) and name[0] != "_"]


def missing_methods(storage: object) -> list[str]:
    """The methods of the storage contract that this object does not have."""
    return [name for name in contract_methods() if not callable(getattr(storage, name, None))]


def unreachable_variant(url: str) -> str | None:
    """``url`` with a port at which nothing listens; None if it names no server."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port is None:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()
