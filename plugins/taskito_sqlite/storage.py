"""``SqliteStorage``: the storage contract on one SQLite file. Its life is here, the rest beside it."""

from __future__ import annotations

import sqlite3

from taskito_core import Capability, StorageInfo
from taskito_sqlite import migrate
from taskito_sqlite.admin import AdminMixin
from taskito_sqlite.backup import BackupMixin
from taskito_sqlite.claim import ClaimMixin
from taskito_sqlite.enqueue import EnqueueMixin
from taskito_sqlite.gates import GatesMixin
from taskito_sqlite.job_log import JobLogMixin
from taskito_sqlite.periodic import PeriodicMixin
from taskito_sqlite.read import ReadMixin
from taskito_sqlite.settle import SettleMixin
from taskito_sqlite.workers import WorkersMixin


class SqliteStorage(
    EnqueueMixin,
    ClaimMixin,
    SettleMixin,
    GatesMixin,
    WorkersMixin,
    AdminMixin,
    ReadMixin,
    JobLogMixin,
    PeriodicMixin,
    BackupMixin,
):
    """taskito's storage in one SQLite file. Each method is one transaction, then its notifications.

    Thread-safe. Constructing it does no I/O; the first call that needs the file opens it.
    """

    capabilities: frozenset[Capability] = frozenset({Capability.WAKEUPS, Capability.EXTERNAL_TRANSACTIONS})

    def migrate(self) -> list[str]:
        """As ``Storage.migrate``."""
        return self._migrate()

    def pending_migrations(self) -> list[str]:
        """As ``Storage.pending_migrations``; a file that does not exist is not made."""
        return [migration.name for migration in migrate.pending(self._version())]

    def migration_sql(self) -> str:
        """As ``Storage.migration_sql``."""
        return migrate.script()

    def close(self) -> None:
        """As ``Storage.close``. Changes nothing in a forked child."""
        if self._database.foreign:
            return
        self._commit_watch.close()
        self._waiters.close()
        super().close()

    def info(self) -> StorageInfo:
        """As ``Storage.info``."""
        server = f"SQLite {sqlite3.sqlite_version}"
        return StorageInfo("sqlite", self.path, server, self._version(), migrate.newest())
