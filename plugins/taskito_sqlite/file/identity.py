"""Which files a connection has open, and whether they are still the ones at the path.

A file that is deleted or moved away stays open, and SQLite goes on writing into it without an error. So what
was at the path when a connection was opened is remembered, and compared with what is there now.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from taskito_core import StorageUnavailable
from taskito_sqlite.file.write_lock import lock_file

log = logging.getLogger("taskito.sqlite")

#: What the log of a database that went away is called from then on, in place of ``-wal``.
LOST = "-wal-lost"
#: Seconds for which a database that went away is not made anew.
GRACE = 1.0
#: Seconds between two tries for the lock of a directory.
_BETWEEN = (0.0005, 0.005)

_Inode = tuple[int, int]  # device and number


class FileIdentity(NamedTuple):
    """A database and what belongs to it, by their paths, and which files were there at one moment."""

    path: str
    log_path: str
    log_index_path: str
    main: _Inode | None  #: None: there was none, or none that could be reached
    log: _Inode | None  #: the write-ahead log
    log_index: _Inode | None  #: of the log; in memory that the processes share

    def are_there(self) -> bool:
        """Whether they are still what is at their paths. Called around every write: three system calls."""
        return (
            inode(self.path) == self.main
            and inode(self.log_path) == self.log
            and inode(self.log_index_path) == self.log_index
        )


class FileGone(StorageUnavailable):
    """The files that are open are not the ones at the path any more; the next call opens those."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} was deleted, moved away or replaced while it was open; it is opened anew")


_reported: set[FileIdentity] = set()
#: Databases that this process has open: from when on they may be made anew. None: they are there.
_new_from: dict[str, float | None] = {}


def inode(path: str) -> _Inode | None:
    """Which file is at the path; None if there is none, or none that can be reached."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def files_at(path: str) -> FileIdentity:
    """What is there now. SQLite has the log and its index beside the file that a link leads to."""
    real = os.path.realpath(path)
    wal, index = f"{real}-wal", f"{real}-shm"
    return FileIdentity(path, wal, index, inode(path), inode(wal), inode(index))


def report(files: FileIdentity) -> None:
    """Log that they are gone: once in this process, however many connections had them open."""
    if files not in _reported:
        _reported.add(files)
        log.error(
            "%s was deleted, moved away or replaced while it was open: nothing more goes there", files.path
        )


@contextmanager
def directory_lock(path: str, deadline: float) -> Iterator[None]:
    """Alone among the processes that make this file or put aside what is beside it. Held for milliseconds."""
    try:
        descriptor = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        yield  # A directory that may be written to and not be read: nothing in it can be locked.
        return
    try:
        if not lock_file(descriptor, deadline, _BETWEEN):
            raise StorageUnavailable(f"another process is making {path} and does not come to an end")
        try:
            yield
        finally:
            # Not by closing alone: another thread may have forked meanwhile, and its child has it open too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def put_aside(found: FileIdentity, lost: FileIdentity | None = None) -> None:
    """Take away a log and an index that belong to no database at the path; with the directory's lock.

    Left there they would become part of the next database: its first connection would read the old log, or
    share the index with processes that still have the old files open. ``lost``: only if they are these.
    """
    if found.main is not None and (lost is None or found.main == lost.main):
        return
    with suppress(FileNotFoundError):
        if lost is None or found.log == lost.log:
            os.replace(found.log_path, f"{found.log_path.removesuffix('-wal')}{LOST}")
    with suppress(FileNotFoundError):
        if lost is None or found.log_index == lost.log_index:
            os.unlink(found.log_index_path)


def in_use(path: str) -> None:
    """This process has the database open."""
    _new_from[path] = None


def not_in_use(path: str) -> None:
    """It is closed in good order: whoever comes next may make one at the path."""
    _new_from.pop(path, None)


def check_absence(path: str) -> None:
    """Raise StorageUnavailable while it is too early to make anew a database that this process had open.

    Whoever moved it away may be about to put another in its place.
    """
    if path not in _new_from:
        return
    new_from = _new_from[path]
    if new_from is None:
        new_from = _new_from[path] = time.monotonic() + GRACE
    if time.monotonic() < new_from:
        raise StorageUnavailable(f"{path} was deleted or moved away, and nothing is in its place so far")
