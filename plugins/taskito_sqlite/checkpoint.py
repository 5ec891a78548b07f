"""Checkpoints: which process writes the log back into the database, and when.

While a worker lives its connections do it, in larger portions, and a producer never pays for it. Without a
worker every connection does, as SQLite would by itself. Always with the write lock (see write_lock.py).
"""

from __future__ import annotations

import os
import sqlite3
import time

from taskito_core import StorageError
from taskito_sqlite.connection import CHECKPOINT_PAGES, Database

#: Pages in the log after which a worker's commit checkpoints.
WORKER_PAGES = 4000
#: Milliseconds without a heartbeat after which a worker does not count as live.
BELIEVED = 60_000
#: Bytes of the log file from which on an idle worker truncates it.
LARGE = 32 * 1024 * 1024
#: Seconds between two attempts to truncate the log.
TRUNCATE_EVERY = 5.0


class Policy:
    """Decides how often the connections of one database checkpoint."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mine = False
        self._next_truncate = 0.0

    def mine(self) -> None:
        """This process has a worker now."""
        self._mine = True
        self._database.checkpoint_pages = WORKER_PAGES

    def others(self) -> None:
        """Its worker has stopped."""
        self._mine = False
        self._database.checkpoint_pages = CHECKPOINT_PAGES

    def worker_seen(self, last_seen: int, now: int) -> None:
        """The last heartbeat of any live worker was at ``last_seen``; milliseconds."""
        if not self._mine:
            self._database.checkpoint_pages = 0 if now - last_seen < BELIEVED else CHECKPOINT_PAGES

    def idle(self) -> None:
        """The worker found nothing to do: truncate a log that a burst has left behind."""
        if not self._mine or time.monotonic() < self._next_truncate or not self._large():
            return
        self._next_truncate = time.monotonic() + TRUNCATE_EVERY
        try:
            self._database.alone(_truncate)
        except StorageError:
            pass  # a reader is in the way; the next commits go on writing behind it

    def _large(self) -> bool:
        try:
            return os.stat(f"{self._database.path}-wal").st_size > LARGE
        except OSError:
            return False


def _truncate(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
