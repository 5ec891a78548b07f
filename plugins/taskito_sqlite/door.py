"""A door to the database file for what is kept beside the jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from taskito_core import StorageConfig
from taskito_sqlite.storage import SqliteStorage

T = TypeVar("T")


class Door:
    """The schema, the clock and the manners of a storage; the connections are its own."""

    def __init__(self, config: StorageConfig) -> None:
        self._storage = SqliteStorage(config)

    @property
    def clock_shift(self) -> int:
        """For tests only: milliseconds added to the clock."""
        return self._storage.clock_shift

    @clock_shift.setter
    def clock_shift(self, milliseconds: int) -> None:
        self._storage.clock_shift = milliseconds

    def close(self) -> None:
        """Give back every connection; later calls open again."""
        self._storage.close()

    def _now(self) -> int:
        return self._storage.now()

    def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._storage._read(work)

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Not safe from a power cut: after one, nothing runs that these would have to remember.
        return self._storage._write(work, durable=False)
