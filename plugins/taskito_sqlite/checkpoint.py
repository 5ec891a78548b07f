"""Who writes the log back into the database, and when.

While a worker lives its connections do it, in larger portions; a producer then never pays for it. Without a
worker every connection does, as SQLite would by itself. Always in the writer's turn (see turn.py).
"""

from __future__ import annotations

import os
import sqlite3
import time

from taskito_core import StorageError
from taskito_sqlite.connection import CHECKPOINT_PAGES, Database

#: Pages in the log after which a worker's commit checkpoints.
WORKER_PAGES = 4000
#: Milliseconds without a beat after which a worker's row is not believed.
BELIEVED = 60_000
#: An idle worker cuts a log file larger than this, in bytes.
LARGE = 32 * 1024 * 1024
#: Seconds between two attempts to cut the log.
BETWEEN_CUTS = 5.0


class Policy:
    """Decides how often the connections of one database checkpoint."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mine = False
        self._next_cut = 0.0

    def mine(self) -> None:
        """This process has become the worker."""
        self._mine = True
        self._database.checkpoint_pages = WORKER_PAGES

    def others(self) -> None:
        """It is no longer."""
        self._mine = False
        self._database.checkpoint_pages = CHECKPOINT_PAGES

    def worker_seen(self, last_seen: int, now: int) -> None:
        """Of all live workers the last beat was at ``last_seen``; milliseconds."""
        if not self._mine:
            self._database.checkpoint_pages = 0 if now - last_seen < BELIEVED else CHECKPOINT_PAGES

    def idle(self) -> None:
        """A worker found nothing to do: a good moment to cut a log that a burst has left behind."""
        if not self._mine or time.monotonic() < self._next_cut or not self._large():
            return
        self._next_cut = time.monotonic() + BETWEEN_CUTS
        try:
            self._database.alone(_cut)
        except StorageError:
            pass  # a reader is in the way; the next commits go on writing behind it

    def _large(self) -> bool:
        try:
            return os.stat(f"{self._database.path}-wal").st_size > LARGE
        except OSError:
            return False


def _cut(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
