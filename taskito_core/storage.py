"""The storage contract: what a backend promises, in units, order, atomicity and errors.

``Storage`` is what a plugin implements: what a worker calls (``storage_worker``), what a client calls
(``storage_client``), and how it is opened, migrated and closed.

These promises hold for all of it. Every method takes and returns sequences of immutable records with opaque
bytes; one job is a batch of one. Unless its docstring says otherwise, each method is one transaction and may
be called from any thread. It raises ``StorageUnavailable`` if the store cannot be reached or does not answer
(with the driver's exception as ``__cause__``), and ``StorageError`` for anything else that the store refuses.
No exception class of a driver ever escapes. Times are integer milliseconds since the epoch on the **store's**
clock; durations are float seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, Protocol

from taskito_core.errors import ConfigError
from taskito_core.storage_client import StorageClient
from taskito_core.storage_worker import StorageWorker


class Capability(StrEnum):
    """Optional powers of a backend. The core reads what the storage object declares."""

    WAKEUPS = "wakeups"  #: ``Wakeups.wait`` returns early when work arrives, also from another process
    MULTI_HOST = "multi_host"  #: workers on several machines may share the store
    EXTERNAL_TRANSACTIONS = "external_transactions"  #: enqueue and complete on the caller's own connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Everything a backend is told. Plain data: it travels to the supervisor, which imports no user code."""

    backend: str = "sqlite"  #: the name a plugin offers, after aliases were resolved
    db_url: str | None = None  #: may hold a password; never shown unmasked
    db_path: str = ".taskito/taskito.db"
    schema: str = "taskito"
    pool_size: int | None = None  #: None: the backend's default
    auto_migrate: bool = True  #: migrate on first use; False: refuse a schema that is not current
    durability: str = "power"  #: "power": commits survive a power cut; "process": a killed process

    def beside(self, backend: str, url: str) -> StorageConfig:
        """The config of what ``backend`` keeps besides jobs, asked for by ``url``.

        A URL names the database; a name alone that of the jobs: ConfigError if they are in another backend.
        """
        if "://" in url:
            return replace(self, backend=backend, db_url=url)
        if self.backend != backend:
            raise ConfigError(
                f"{url!r} alone means the database of the jobs, and that is one of {self.backend!r}; "
                f"say which one as a URL"
            )
        return self


class StorageInfo(NamedTuple):
    """What ``info()`` tells an operator."""

    backend: str
    location: str  #: the URL or absolute path, password masked
    server: str  #: e.g. ``PostgreSQL 16.3`` or ``SQLite 3.45.1``
    schema_version: int  #: the last migration applied, 0 before the first
    newest_version: int  #: the last migration this plugin knows


class Storage(StorageWorker, StorageClient, Protocol):
    """Where jobs are kept. Constructing one does no I/O; the first call that needs the store opens it.

    The first use migrates if ``config.auto_migrate`` (see ``migrate``), and otherwise raises ConfigError for
    a schema that is not current. A schema newer than the plugin knows is always refused with ConfigError.
    Carried across a fork it raises StorageError in the child; no ``close`` harms the other process.
    """

    capabilities: frozenset[Capability]
    #: For tests only: milliseconds added to the store's clock in everything this object does.
    clock_shift: int

    def migrate(self) -> list[str]:
        """Bring the schema up to date. Returns the names of the migrations applied, oldest first.

        Many processes may call it at once: one of them applies each migration, completely or not at all, and
        names it in its answer. All return when the schema is up to date.
        """
        ...

    def pending_migrations(self) -> list[str]:
        """Names of the migrations that ``migrate`` would apply, oldest first. Changes nothing."""
        ...

    def migration_sql(self) -> str:
        """The SQL of all migrations, for people who apply it themselves. Does no I/O on the store."""
        ...

    def close(self) -> None:
        """Give back every connection, thread and file. Idempotent; a later call opens the store again."""
        ...

    def info(self) -> StorageInfo:
        """Where the store is and which version its schema has. Opens it, but never migrates."""
        ...

    def now(self) -> int:
        """The store's clock."""
        ...
