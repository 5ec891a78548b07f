"""The backends of one ``test_mode`` block: an empty store in memory, whose jobs run where they are enqueued.

The one module that needs taskito-kv.
"""

from __future__ import annotations

from typing import cast

from taskito.client.test_mode.inline_worker import InlineStorage, InlineWorker
from taskito.worker.child.app import App
from taskito_core.job import NewJob, new_id
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.storage import Storage, StorageConfig
from taskito_kv.limits import MemoryCircuitBreaker, MemoryRateLimiter
from taskito_kv.metrics import MemoryMetrics
from taskito_kv.storage import MemoryStorage
from taskito_kv.store import forget


class MemoryBackends:
    """A storage with limits beside it; ``forget`` drops all of it."""

    def __init__(self, app: App, *, run_at_once: bool) -> None:
        self._name = new_id()
        self._config = StorageConfig(backend="memory", db_url=f"memory://{self._name}")
        self._memory = MemoryStorage(self._config)
        self._worker = InlineWorker(app, self._memory, self._set_forward, run_at_once=run_at_once)
        self._inline = InlineStorage(self._memory, self._worker)

    @property
    def storage(self) -> Storage:
        return cast(Storage, self._inline)

    @property
    def sink(self) -> Metrics:
        """An empty one: runs in a test_mode are not measured."""
        return MemoryMetrics(self._config)

    def open_breaker(self) -> CircuitBreaker:
        return MemoryCircuitBreaker(self._config)

    def open_limiter(self) -> RateLimiter:
        return MemoryRateLimiter(self._config)

    @property
    def enqueued(self) -> list[NewJob]:
        """The jobs that were stored, oldest first."""
        return self._inline.enqueued

    def drain(self) -> int:
        """Run what is pending, and all that it enqueues; how many attempts that were."""
        return self._worker.drain()

    def forget(self) -> None:
        forget(self._name)

    def _set_forward(self, milliseconds: int) -> None:
        self._memory.clock_shift += milliseconds
