"""What a queue works with beyond this process: its storage, metrics, rate limiter and circuit breakers."""

from __future__ import annotations

import dataclasses
import os

from taskito.config.settings import Settings
from taskito_core import plugin_manager
from taskito_core.errors import ConfigError
from taskito_core.hookspecs import OfferKind
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.plugin_manager import Plugins
from taskito_core.storage import Storage, StorageConfig

#: The settings that a storage is opened by.
_OF_STORAGE = ("backend", "db_url", "db_path", "schema", "pool_size", "durability")


def load_plugins(settings: Settings) -> Plugins:
    """The plugins that the settings allow. Raises ConfigError for one that is not installed or broken."""
    with settings.said_where("plugins"):
        return plugin_manager.load(settings.plugins)


def normalised(plugins: Plugins, settings: Settings) -> StorageConfig:
    """What to open the storage by. Raises ConfigError, saying which setting is wrong and where it is."""
    with settings.said_where(*_OF_STORAGE):
        return plugins.normalise(settings.storage)


class ConfiguredBackends:
    """The backends that the settings name, each opened by its first use, once in each process.

    Making one opens nothing. Raises ConfigError for a backend that no plugin offers. May be used from any
    thread.
    """

    def __init__(self, plugins: Plugins, settings: Settings) -> None:
        self._plugins = plugins
        self._settings = settings
        #: with the backend's own name; a worker opens the storage by it
        self.storage_config = normalised(plugins, settings)
        for kind in (OfferKind.LIMITER, OfferKind.BREAKER, OfferKind.METRICS):
            # Checked here, or a wrong name is found out in a worker.
            with settings.said_where(kind):
                plugins.chosen(kind, self.storage_config, getattr(settings, kind))
        # By process id, so that a child never touches what its parent opened, and never drops the
        # last reference to it either: closing an inherited SQLite connection harms the parent's.
        self._storages: dict[int, Storage] = {}
        self._sinks: dict[int, Metrics] = {}

    def migrate_nothing(self) -> None:
        """From now on an outdated schema is a ConfigError, also if ``auto_migrate`` is on."""
        self.storage_config = dataclasses.replace(self.storage_config, auto_migrate=False)

    @property
    def storage(self) -> Storage:
        """This process's storage; made without I/O, opened by its first use."""
        found = self._storages.get(os.getpid())
        if found is None:
            # Two threads may both make one; setdefault lets one win, the other has done no I/O.
            made = self._plugins.open_storage(self.storage_config)
            found = self._storages.setdefault(os.getpid(), made)
        return found

    @property
    def sink(self) -> Metrics:
        """This process's metrics sink, as ``storage``. Raises ConfigError if no metrics are kept."""
        found = self._sinks.get(os.getpid())
        if found is None:
            named = self._settings.metrics
            if (made := self._plugins.open_metrics(named, self.storage_config)) is None:
                why = "the setting metrics says so" if named else "the backend offers no sink"
                raise ConfigError(f"no metrics are kept: {why}; give metrics the name or URL of a sink")
            found = self._sinks.setdefault(os.getpid(), made)
        return found

    def open_breaker(self) -> CircuitBreaker:
        """The circuit breakers that this queue's workers ask; to be closed by the caller."""
        return self._plugins.open_breaker(self._settings.breaker, self.storage_config)

    def open_limiter(self) -> RateLimiter:
        """The rate limiter that this queue's workers ask; to be closed by the caller."""
        return self._plugins.open_limiter(self._settings.limiter, self.storage_config)

    def close(self) -> None:
        """Give back what this process opened. Idempotent; using it again opens it again."""
        for opened in (self._storages.pop(os.getpid(), None), self._sinks.pop(os.getpid(), None)):
            if opened is not None:
                opened.close()

    def __repr__(self) -> str:
        return f"{self.storage_config.backend} {self._plugins.describe(self.storage_config)}"
