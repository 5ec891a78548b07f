"""A door to the database file for what is kept beside the jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from taskito_sqlite.base import Base

T = TypeVar("T")


class Door(Base):
    """The schema, the clock and the manners of a storage; the connections are its own."""

    def close(self) -> None:
        """Give back every connection; later calls open again."""
        if self._database.foreign:
            return  # in a forked child: the connections are the parent's
        self._current = False
        self._database.close()

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Not safe from a power cut: after one, nothing runs that these would have to remember.
        return self._write(work, durable=False)
