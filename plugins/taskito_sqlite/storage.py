"""``SqliteStorage``: the storage contract on one SQLite file. Its life is here, the rest beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator

from taskito_core import Capability, Finding, StorageInfo, messages
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
from taskito_sqlite.sql.doctor import SET_BACK
from taskito_sqlite.workers import WorkersMixin

#: Bytes: a write-ahead log that is longer, and less room than this, are remarkable.
LONG_LOG = 256 * 1024 * 1024
LITTLE_ROOM = 512 * 1024 * 1024


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

    def examine(self) -> list[Finding]:
        """As ``taskito_examine``."""
        [set_back] = self._read(lambda connection: connection.execute(SET_BACK).fetchall())
        return [*_examined_file(self.path), *_examined_clock(*set_back)]


def _examined_file(path: str) -> Iterator[Finding]:
    room = shutil.disk_usage(os.path.dirname(path)).free
    if room < LITTLE_ROOM:
        yield Finding(
            f"{room // 2**20} MB are left on the disk of {path}",
            "on a full disk nothing can be enqueued, and what ends cannot be recorded",
            "make room there, or keep less: taskito retention, taskito prune",
        )
    log = path + "-wal"
    length = os.path.getsize(log) if os.path.exists(log) else 0
    if length > LONG_LOG:
        yield Finding(
            f"the write-ahead log {log} has {length // 2**20} MB",
            "a reader that does not end keeps it from being written back, and every read gets slower",
            f"end the program that reads for so long; who has it open says: fuser -v {log}",
        )
    if not _resets_safely(sqlite3.sqlite_version_info):
        yield Finding(
            f"SQLite {sqlite3.sqlite_version} has the WAL-reset fault (mended in 3.51.3, 3.50.7 and 3.44.6)",
            "checkpoints of several programs at once may lose pages; those of taskito wait for each other",
            "let no other program write to this file, or use a Python with a newer SQLite",
            is_note=True,
        )


def _resets_safely(version: tuple[int, int, int]) -> bool:
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def _examined_clock(set_back_at: int | None, set_back_by: int) -> Iterator[Finding]:
    if set_back_at is not None:
        yield Finding(*messages.clock_set_back(set_back_at, set_back_by), is_note=True)
