"""Opening a connection to the file at a path, and making the file if there is none.

SQLite itself never makes it: what a database that was removed has left behind must be put aside first, alone
among the processes that would make it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
import urllib.parse
import warnings
from collections.abc import Callable
from typing import TypeVar

from taskito_core import ConfigError, StorageUnavailable
from taskito_sqlite.file import identity
from taskito_sqlite.file.errors import is_busy
from taskito_sqlite.file.filesystem import refuse_network
from taskito_sqlite.file.identity import FileIdentity

T = TypeVar("T")

OLDEST = (3, 35, 0)

if (3, 12) <= sys.version_info < (3, 12, 4):
    # These take ?1 for a name and warn of it; the releases after them know that it is a number.
    warnings.filterwarnings(
        "ignore", r"Binding \d+ \('\?\d+'\) is a named parameter", DeprecationWarning, r"taskito_sqlite\."
    )


def require_version(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise ConfigError if this Python's SQLite is too old to be used."""
    if version < OLDEST:
        found = ".".join(map(str, version))
        raise ConfigError(f"taskito-sqlite needs SQLite 3.35 or newer, this Python was built with {found}")


def check_path(path: str) -> None:
    """Raise ConfigError if no database can be used there."""
    require_version()
    refuse_network(path)
    refuse_unusable(path)


def refuse_unusable(path: str) -> None:
    """Raise ConfigError for a path at which this process cannot make a database, or write to one."""
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a directory; the path of a database is that of a file in one")
    # One folder is made together with the database, such as .taskito.
    place = folder if os.path.lexists(folder) else os.path.dirname(folder)
    if not os.path.exists(place):
        raise ConfigError(f"no database can be at {path}: there is no directory {place}")
    if not os.path.isdir(place):
        raise ConfigError(f"no database can be at {path}: {place} is no directory")
    if not _permitted(place, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the database {path} cannot be used: {_user()} may not write to the directory {place}, "
            "where SQLite keeps its log beside it"
        )
    for file in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(file) and not _permitted(file, os.R_OK | os.W_OK):
            raise ConfigError(f"the database {path} cannot be used: {_user()} may not write to {file}")


def _permitted(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _user() -> str:
    return f"user {os.geteuid()}"


def open_file(path: str, deadline: float, *, power_safe: bool) -> tuple[sqlite3.Connection, FileIdentity]:
    """A connection to the file that is there, set as all of ours are, and which files it has open."""
    main = identity.inode(path)
    connection = _connect(path, "?mode=rw")
    try:
        [mode] = patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone(), deadline)
        if mode != "wal":
            raise ConfigError(f"{path} is on a file system without shared memory files, which WAL needs")
        # fullfsync: macOS else leaves what was synced in the drive's own memory. Nothing elsewhere.
        connection.executescript(
            "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY;"
            f"PRAGMA fullfsync={power_safe:d}; PRAGMA checkpoint_fullfsync={power_safe:d}"
        )
        # The first read opens the log and its index.
        patiently(lambda: connection.execute("PRAGMA schema_version").fetchone(), deadline)
        files = identity.files_at(path)
        if files.main != main:
            raise StorageUnavailable(f"{path} was replaced while it was being opened")
    except BaseException:
        connection.close()
        raise
    identity.in_use(path)
    return connection, files


def create(path: str, deadline: float) -> None:
    """Make an empty database, unless there is one; StorageUnavailable while it is too early for that."""
    if identity.inode(path) is not None:
        return
    identity.check_absence(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with identity.directory_lock(path, deadline):
        identity.put_aside(identity.files_at(path))
        connection = _connect(path)
        try:
            patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone(), deadline)
        finally:
            connection.close()


def patiently(action: Callable[[], T], deadline: float) -> T:
    """Try again at random moments while other connections are in the way, until the deadline."""
    longest = 0.0005
    while True:
        try:
            return action()
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(longest / 4, longest))
        longest = min(longest * 1.3, 0.02)


def _connect(path: str, query: str = "") -> sqlite3.Connection:
    url = f"file:{urllib.parse.quote(os.fsencode(path))}{query}"
    return sqlite3.connect(
        url, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256, uri=True
    )
