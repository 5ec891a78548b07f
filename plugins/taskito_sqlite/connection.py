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
from contextlib import suppress
from typing import TypeVar

from taskito_core import StorageError, StorageUnavailable
from taskito_sqlite.file import forks, identity, opening
from taskito_sqlite.file.errors import UNSTORABLE, is_busy, translated
from taskito_sqlite.file.identity import FileGone, FileIdentity
from taskito_sqlite.file.write_lock import WriteLock

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

#: Seconds any call waits for locks and connections before it gives up.
PATIENCE = 30.0
#: Seconds a fork waits for running transactions to end.
FORK_PATIENCE = 2.0
#: Pages in the write-ahead log after which a commit also checkpoints: SQLite's own default.
CHECKPOINT_PAGES = 1000
#: Seconds after which a connection asks again, before it is used, whether its files are still at the path.
CHECK_EVERY = 0.02


class Handle:
    """Holds one connection, once it is opened, how that is set, and which files it has open."""

    __slots__ = ("checked_at", "checkpoint_pages", "connection", "durable", "files", "generation")

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self.files: FileIdentity | None = None
        self.checked_at = 0.0
        self.generation = -1  #: of the database, when it was opened
        self.durable = True
        self.checkpoint_pages = CHECKPOINT_PAGES


class Database:
    """One file, at most ``pool_size`` connections, opened when first needed."""

    def __init__(self, path: str, *, pool_size: int, power_safe: bool) -> None:
        self.path = path
        #: Set on the connections before their next transaction; 0: another process does the checkpoints.
        self.checkpoint_pages = CHECKPOINT_PAGES
        #: Grows when the files are found to be gone: what was known of them holds no longer.
        self.generation = 0
        #: Tells what is in the file from what may be in another one at its path; of the schema's making.
        self.origin: object = None
        self._opened_last = Handle()
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
        """Whether the file is there. Raises StorageUnavailable if that cannot be found out.

        And for a moment after it has gone: another may be on its way into its place.
        """
        self._check_process()
        try:
            os.stat(self.path)
        except FileNotFoundError:
            identity.check_absence(self.path)
            return False
        except OSError as exc:
            if not self._checked:
                opening.check_path(self.path)
            raise translated(exc, self.path) from exc
        return True

    def read(self, work: Work[T]) -> T:
        """Run ``work`` on one consistent view of the database."""
        return self._run(lambda handle, deadline: self._transact(handle, "BEGIN", work, deadline))

    def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run ``work`` in a write transaction of its own: all of it or nothing.

        It holds the only write lock from its first statement on, so it may read before it writes.
        ``durable=False``: the commit survives this process, but perhaps not a power cut. ``work`` may
        be run again if another connection was in the way. A file that does not exist is made. Raises
        FileGone unless the file that was written to is at the path after the commit.
        """

        def attempt(handle: Handle, deadline: float) -> T:
            self._tune(handle, durable and self._power_safe)
            try:
                self._write_lock.acquire()
                self._opened(handle, deadline, may_create=True)
                result = self._transact(handle, "BEGIN IMMEDIATE", work, deadline)
                self._check(handle)
                return result
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
        opening.patiently(action, time.monotonic() + PATIENCE)

    def check(self) -> None:
        """Raise FileGone if the file at the path is not the one that was opened last."""
        opened = self._opened_last
        if opened.files is not None and opened.files.main != identity.inode(self.path):
            self._lose(opened)
            raise FileGone(self.path)

    @property
    def foreign(self) -> bool:
        """True in a process that a fork carried this object into."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Close idle connections now, and busy ones when they are returned. Later calls open again."""
        if self.foreign:
            return
        self._close_all()
        identity.not_in_use(self.path)

    def _close_all(self) -> None:
        with self._changed:
            self._close_idle()
            # A busy handle is closed on return, because it is not in this set any more.
            self._busy.clear()
            self._checked = False
            self._opened_last = Handle()
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
        except FileGone:
            self._lose(handle)
            self._close(handle)
            raise
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
        except FileGone:
            self._lose(handle)
            raise
        except (sqlite3.Error, OSError, *UNSTORABLE) as exc:
            raise translated(exc, self.path) from exc
        finally:
            self._release(handle)

    def _transact(self, handle: Handle, begin: str, work: Work[T], deadline: float) -> T:
        connection = self._opened(handle, deadline)
        try:
            opening.patiently(lambda: connection.execute(begin), deadline)
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

    def _opened(self, handle: Handle, deadline: float, *, may_create: bool = False) -> sqlite3.Connection:
        now = time.monotonic()
        if handle.connection is None:
            handle.generation = self.generation
            handle.connection, handle.files = self._open(deadline, may_create)
            handle.durable, handle.checkpoint_pages, handle.checked_at = True, CHECKPOINT_PAGES, now
            self._opened_last = handle
        elif now - handle.checked_at > CHECK_EVERY:
            self._check(handle)
        return handle.connection

    def _open(self, deadline: float, may_create: bool) -> tuple[sqlite3.Connection, FileIdentity]:
        if not self._checked:
            opening.check_path(self.path)
            self._checked = True
        forks.check(self.path)
        self.check()
        if may_create:
            opening.create(self.path, deadline)
        return opening.open_file(self.path, deadline, power_safe=self._power_safe)

    # ---- files that are gone ----

    def _check(self, handle: Handle) -> None:
        if handle.files is not None and not handle.files.are_there():
            raise FileGone(self.path)
        handle.checked_at = time.monotonic()

    def _lose(self, handle: Handle) -> None:
        """Its files are not at the path any more: close what has them open; later calls open anew."""
        with self._changed:
            self._busy.discard(handle)
            if handle.generation != self.generation:
                return  # Another thread was first, and what is open by now may be open anew.
            self.generation += 1
        if handle.files is not None:
            identity.report(handle.files)
        if handle.files is not None and handle.connection is not None:
            deadline = time.monotonic() + PATIENCE
            # Before they are closed: the number of a file that is closed may be given to a new one.
            with suppress(OSError, StorageUnavailable), identity.directory_lock(self.path, deadline):
                identity.put_aside(identity.files_at(self.path), handle.files)
        self._close_all()
