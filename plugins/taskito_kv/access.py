"""How a call of ``MemoryStorage`` reaches the store: all of it, under one lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from taskito_core import ConfigError, StorageConfig, StorageError
from taskito_kv.store import Store, store_named, wall_clock


class MemoryAccess:
    """The store a config names (``memory://NAME`` and a schema), as one object sees it."""

    def __init__(self, config: StorageConfig) -> None:
        self.clock_shift = 0
        self._config = config
        self._name = urlsplit(config.db_url or "memory://").netloc
        self._pid = os.getpid()

    def now(self) -> int:
        self._refuse_another_process()
        return wall_clock() + self.clock_shift

    @contextmanager
    def _lock(self) -> Iterator[Store]:
        """The store, all of it, for one call: every method is one transaction."""
        # Before the lock: a forked child may have inherited it locked, by a thread it does not have.
        self._refuse_another_process()
        store = store_named(self._name, self._config.schema)
        with store.changed:
            yield store

    @contextmanager
    def _ready(self) -> Iterator[Store]:
        """The store with its schema in place, as every method but the schema's own needs it."""
        with self._lock() as store:
            if store.pending_migrations():
                if not self._config.auto_migrate:
                    missing = ", ".join(store.pending_migrations())
                    raise ConfigError(
                        f"memory://{self._name} is not migrated and auto_migrate is off: {missing}"
                    )
                store.migrated = True
            yield store

    @contextmanager
    def _changing(self) -> Iterator[Store]:
        """The same for a call that changes something: every thread that waits checks again afterwards."""
        with self._ready() as store:
            yield store
            store.changed.notify_all()

    def _refuse_another_process(self) -> None:
        if os.getpid() != self._pid:
            raise StorageError(
                f"storage opened in process {self._pid} was carried into {os.getpid()} by a fork"
            )
