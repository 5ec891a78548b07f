"""Databases and forks: what must happen before, and what a child may not touch.

SQLite keeps its file locks per process and counts them in memory. A child inherits the count but not the
locks, so its own new connections would hold none, and the parent's last close would delete the write-ahead
log under the child's commits. Therefore every connection is closed before a fork and opened anew after it.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from typing import Protocol

from taskito_core import StorageError


class Guarded(Protocol):
    """What has connections that a fork must not copy."""

    @property
    def path(self) -> str:
        """The database file."""

    def before_fork(self) -> None:
        """Close every connection, and open none until the fork is over."""

    def after_fork_in_parent(self) -> None:
        """Connections may be opened again."""

    def after_fork_in_child(self) -> list[sqlite3.Connection]:
        """Give up the files; the connections that were in use during the fork, which must not be touched."""


_databases: weakref.WeakSet[Guarded] = weakref.WeakSet()
#: Connections that were in use while this process was forked: kept, so that nothing ever closes them.
_inherited: list[sqlite3.Connection] = []
_undermined: set[str] = set()


def guard(database: Guarded) -> None:
    """Prepare this database for every fork from now on."""
    _databases.add(database)


def check(path: str) -> None:
    """Raise StorageError if a fork has made it unsafe for this process to open the file."""
    if path in _undermined:
        raise StorageError(
            f"{path} was being used by another thread when this process was forked, so its locks cannot be"
            " trusted here: fork earlier, or use the spawn start method"
        )


def _before() -> None:
    for database in list(_databases):
        database.before_fork()


def _in_parent() -> None:
    for database in list(_databases):
        database.after_fork_in_parent()


def _in_child() -> None:
    for database in list(_databases):
        if left := database.after_fork_in_child():
            _inherited.extend(left)
            _undermined.add(database.path)
    # They raise StorageError here, and forks of the child do not concern them.
    _databases.clear()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
