"""Connections to one database file: a small pool, and transactions that wait for the write lock.

A connection is used by one thread at a time and never crosses a fork. All waiting for locks happens here,
bounded by PATIENCE; nothing above sees ``database is locked``.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from taskito_core import ConfigError, StorageError, StorageUnavailable
from taskito_sqlite.file import forks
from taskito_sqlite.file.errors import UNSTORABLE, is_busy, translated
from taskito_sqlite.file.filesystem import refuse_network
from taskito_sqlite.file.write_lock import WriteLock

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

OLDEST = (3, 35, 0)
#: Seconds any call waits for locks and connections before it gives up.
PATIENCE = 30.0
#: Seconds a fork waits for running transactions to end.
FORK_PATIENCE = 2.0
#: Pages in the write-ahead log after which a commit also checkpoints: SQLite's own default.
CHECKPOINT_PAGES = 1000


def require_version(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise ConfigError if this Python's SQLite is too old to be used."""
    if version < OLDEST:
        found = ".".join(map(str, version))
        raise ConfigError(f"taskito-sqlite needs SQLite 3.35 or newer, this Python was built with {found}")


class Handle:
    """Holds one connection, once it is opened, and how that is set."""

    __slots__ = ("checkpoint_pages", "connection", "durable")

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self.durable = True
        self.checkpoint_pages = CHECKPOINT_PAGES


class Database:
    """One file, at most ``pool_size`` connections, opened when first needed."""

    def __init__(self, path: str, *, pool_size: int, power_safe: bool) -> None:
        self.path = path
        #: Set on the connections before their next transaction; 0: another process does the checkpoints.
        self.checkpoint_pages = CHECKPOINT_PAGES
        self._pool_size = pool_size
        self._power_safe = power_safe
        self._write_lock = WriteLock(path)
        self._changed = threading.Condition()
        self._idle: list[Handle] = []
        self._watching: list[Handle] = []
        self._busy: set[Handle] = set()
        self._frozen = False
        self._checked = False
        self._pid = os.getpid()
        forks.guard(self)

    def exists(self) -> bool:
        """Whether the file is there. Raises StorageUnavailable if that cannot be found out."""
        self._check_process()
        try:
            os.stat(self.path)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise translated(exc, self.path) from exc
        return True

    def read(self, work: Work[T]) -> T:
        """Run ``work`` on one consistent view of the database."""
        return self._run(lambda handle, deadline: self._transact(handle, "BEGIN", work, deadline))

    def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run ``work`` in a write transaction of its own: all of it or nothing.

        It holds the only write lock from its first statement on, so it may read before it writes.
        ``durable=False``: the commit survives this process, but perhaps not a power cut. ``work`` may
        be run again if another connection was in the way.
        """

        def attempt(handle: Handle, deadline: float) -> T:
            self._tune(handle, durable and self._power_safe)
            try:
                self._write_lock.acquire()
                return self._transact(handle, "BEGIN IMMEDIATE", work, deadline)
            finally:
                self._write_lock.release()

        return self._run(attempt)

    def beside(self, work: Work[T]) -> T:
        """Run ``work`` outside of any transaction while others write: for a copy."""
        return self._run(lambda handle, deadline: work(self._opened(handle, deadline)))

    def alone(self, work: Work[T]) -> T:
        """Run ``work`` outside of any transaction, with the write lock: for checkpoints."""

        def attempt(handle: Handle, deadline: float) -> T:
            try:
                self._write_lock.acquire()
                return work(self._opened(handle, deadline))
            finally:
                self._write_lock.release()

        return self._run(attempt)

    def with_write_lock(self, action: Callable[[], object]) -> None:
        """Do what takes SQLite's own write lock, on a connection that is not ours, in its turn."""
        try:
            self._write_lock.acquire()
            self.patiently(action)
        finally:
            self._write_lock.release()

    def patiently(self, action: Callable[[], object]) -> None:
        """Do it as soon as no other connection is in the way."""
        _patiently(action, time.monotonic() + PATIENCE)

    @property
    def foreign(self) -> bool:
        """True in a process that a fork carried this object into."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Close idle connections now, and busy ones when they are returned. Later calls open again."""
        if self.foreign:
            return
        with self._changed:
            self._close_idle()
            # A busy handle is closed on return, because it is not in this set any more.
            self._busy.clear()
            self._checked = False
            self._changed.notify_all()
        self._write_lock.close()

    # ---- watching for commits ----

    def watch(self) -> Handle:
        """A handle for ``version``, beside the pool."""
        handle = Handle()
        with self._changed:
            self._watching.append(handle)
        return handle

    def unwatch(self, handle: Handle) -> None:
        """Close a watching handle."""
        with self._changed:
            if handle in self._watching:
                self._watching.remove(handle)
            self._close(handle)

    def version(self, handle: Handle) -> tuple[int, bool]:
        """A number that changes when another connection commits.

        And True if the handle was opened for it: then there is no earlier number to compare with.
        """
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            self._check_process()
            self._wait_until(lambda: not self._frozen, deadline)
            self._busy.add(handle)
        fresh = handle.connection is None
        try:
            connection = self._opened(handle, deadline)
            [version] = connection.execute("PRAGMA data_version").fetchone()
        except (sqlite3.Error, OSError) as exc:
            raise translated(exc, self.path) from exc
        finally:
            with self._changed:
                self._busy.discard(handle)
                self._changed.notify_all()
        return int(version), fresh

    # ---- around a fork (see forks.py) ----

    def before_fork(self) -> None:
        """Close every connection: what the child inherits of one would undermine its own."""
        deadline = time.monotonic() + FORK_PATIENCE
        with self._changed:
            self._frozen = True
            self._changed.wait_for(lambda: not self._busy, timeout=max(0.0, deadline - time.monotonic()))
            self._close_idle()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        with self._changed:
            self._frozen = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> list[sqlite3.Connection]:
        """Give up the files; the connections that were in use during the fork, which must not be touched."""
        self._write_lock.forget()
        return [handle.connection for handle in self._busy if handle.connection is not None]

    # ---- one call ----

    def _run(self, attempt: Callable[[Handle, float], T]) -> T:
        deadline = time.monotonic() + PATIENCE
        handle = self._acquire(deadline)
        try:
            while True:
                try:
                    return attempt(handle, deadline)
                except sqlite3.OperationalError as exc:
                    if not is_busy(exc) or time.monotonic() > deadline:
                        raise
                    time.sleep(random.uniform(0.0005, 0.005))
        except (sqlite3.Error, OSError, *UNSTORABLE) as exc:
            raise translated(exc, self.path) from exc
        finally:
            self._release(handle)

    def _transact(self, handle: Handle, begin: str, work: Work[T], deadline: float) -> T:
        connection = self._opened(handle, deadline)
        try:
            _patiently(lambda: connection.execute(begin), deadline)
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            self._abandon(handle, connection)
            raise
        return result

    def _abandon(self, handle: Handle, connection: sqlite3.Connection) -> None:
        try:
            # Some errors (a full disk) have rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close(handle)

    def _tune(self, handle: Handle, durable: bool) -> None:
        if handle.connection is None:
            return
        # executescript, because these act when prepared: out of the statement cache they would do nothing.
        if handle.durable != durable:
            handle.connection.executescript(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            handle.durable = durable
        if handle.checkpoint_pages != self.checkpoint_pages:
            handle.connection.executescript(f"PRAGMA wal_autocheckpoint={self.checkpoint_pages}")
            handle.checkpoint_pages = self.checkpoint_pages

    # ---- the pool ----

    def _acquire(self, deadline: float) -> Handle:
        with self._changed:
            self._check_process()
            if self._frozen or len(self._busy) >= self._pool_size:
                self._wait_until(lambda: not self._frozen and len(self._busy) < self._pool_size, deadline)
            handle = self._idle.pop() if self._idle else Handle()
            self._busy.add(handle)
        return handle

    def _release(self, handle: Handle) -> None:
        with self._changed:
            if handle in self._busy:
                self._busy.discard(handle)
                self._idle.append(handle)
            else:
                self._close(handle)  # close() was called meanwhile
            self._changed.notify()

    def _wait_until(self, predicate: Callable[[], bool], deadline: float) -> None:
        if not self._changed.wait_for(predicate, timeout=max(0.0, deadline - time.monotonic())):
            raise StorageUnavailable(
                f"all {self._pool_size} connections to {self.path} were busy for {PATIENCE:.0f} seconds"
            )

    def _check_process(self) -> None:
        if self.foreign:
            raise StorageError(
                f"this storage for {self.path} was opened before a fork: open another one here"
            )

    def _close_idle(self) -> None:
        for handle in (*self._idle, *(watch for watch in self._watching if watch not in self._busy)):
            self._close(handle)
        self._idle.clear()

    def _close(self, handle: Handle) -> None:
        connection, handle.connection = handle.connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                pass  # it is gone either way, and what was committed is committed

    # ---- opening ----

    def _opened(self, handle: Handle, deadline: float) -> sqlite3.Connection:
        if handle.connection is None:
            handle.connection = self._open(deadline)
            handle.durable, handle.checkpoint_pages = True, CHECKPOINT_PAGES
        return handle.connection

    def _open(self, deadline: float) -> sqlite3.Connection:
        if not self._checked:
            require_version()
            refuse_network(self.path)
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._checked = True
        forks.check(self.path)
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            [mode] = _patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone(), deadline)
            if mode != "wal":
                raise ConfigError(
                    f"{self.path} is on a file system without shared memory files, which WAL needs"
                )
            # fullfsync: macOS else leaves what was synced in the drive's own memory. Nothing elsewhere.
            connection.executescript(
                "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY;"
                f"PRAGMA fullfsync={self._power_safe:d}; PRAGMA checkpoint_fullfsync={self._power_safe:d}"
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _patiently(action: Callable[[], T], deadline: float) -> T:
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
