"""What a storage, limits and metrics in one database file share: the connections, the schema, the clock."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from taskito_core import ConfigError, StorageConfig
from taskito_sqlite import location, migrate
from taskito_sqlite.connection import Database

T = TypeVar("T")

log = logging.getLogger("taskito.sqlite")

POOL_SIZE = 8


class Base:
    """One database file. Constructing it does no I/O; the first transaction brings the schema up to date."""

    def __init__(self, config: StorageConfig) -> None:
        location.check(config)
        self.path = location.database_path(config)
        self.clock_shift = 0
        self._auto_migrate = config.auto_migrate
        self._database = Database(
            self.path, pool_size=config.pool_size or POOL_SIZE, power_safe=config.durability == "power"
        )
        self._opening = threading.Lock()
        self._current: int | None = None  #: the database's generation whose schema is known to be current

    def now(self) -> int:
        """As ``Storage.now``: the machine's clock, because only this machine uses the file."""
        return time.time_ns() // 1_000_000 + self.clock_shift

    def close(self) -> None:
        """Close every connection; later calls open again. Changes nothing in a forked child."""
        if self._database.foreign:
            return
        self._current = None
        self._database.close()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._ready()
        return self._database.read(work)

    def _write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        self._ready()
        return self._database.write(work, durable=durable)

    def _ready(self) -> None:
        """Before the first use: bring the schema up to date, or refuse one that is not."""
        if self._current == self._database.generation:
            return
        with self._opening:
            generation = self._database.generation
            missing = migrate.pending(self._version())
            if missing and not self._auto_migrate:
                if not self._database.exists():
                    raise ConfigError(
                        f"there is no database at {self.path}: look where the workers' is, "
                        "or make one with 'taskito migrate'"
                    )
                names = ", ".join(one.name for one in missing)
                raise ConfigError(f"the database {self.path} lacks {names}: run 'taskito migrate'")
            if missing and migrate.migrations()[0].name in self._migrate():
                # Seen by all who read logs, and by those who have set up none.
                level = logging.INFO if log.isEnabledFor(logging.INFO) else logging.WARNING
                log.log(level, "there was no database at %r: made a new one", self.path)
            self._database.origin = self._database.read(migrate.origin)
            self._current = generation

    def _migrate(self) -> list[str]:
        return self._database.write(lambda connection: migrate.migrate(connection, self.now()))

    def _version(self) -> int:
        return self._database.read(migrate.applied_version) if self._database.exists() else 0
