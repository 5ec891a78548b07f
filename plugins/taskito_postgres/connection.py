"""Connections to one database: a pool for callers, one connection for the worker.

Both open on first use. Nothing relies on the state of a session, because a pooler may give every
transaction another one: names are qualified, and what must be set is set inside the transaction.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool

from taskito_core import StorageConfig, StorageError, StorageUnavailable, TaskitoError, mask_url
from taskito_postgres import location
from taskito_postgres.session import Connection, Session, Settings, connect

T = TypeVar("T")
log = logging.getLogger("taskito.postgres")

_POOL_NAME = "taskito-pool"
DEFAULT_POOL_SIZE = 10
#: Seconds to wait for one of the pool's connections before saying that the store does not answer.
POOL_TIMEOUT = 30.0
#: Seconds after which the pool closes one connection that was not needed in the meantime.
MAX_IDLE = 20.0
#: Two transactions met on the same rows: at once again, this many times in all.
ATTEMPTS = 8

#: Where a connection leads whose statements fail so: to a server that is a standby now, or is going down.
_READ_ONLY, _SHUTDOWN = "25006", "57P"
#: Answers that another try may change although psycopg does not file them under OperationalError.
_PASSING = frozenset({_READ_ONLY, "25P03", "25P04", "26000"})  # stood still, lost prepared statement
#: What is missing while a backup is restored: schema, table, column, key, right.
_RESTORING = frozenset({"3F000", "42P01", "42703", "42P10", "42501"})


class _InUse(threading.local):
    """Whether this thread is at work for a ``Connections``."""

    depth = 0


_in_use = _InUse()


def _is_news(record: logging.LogRecord) -> bool:
    """False for what the driver warns of while it works for us: our errors and our log say it once."""
    ours = _in_use.depth or (record.threadName or "").startswith(_POOL_NAME)
    return not ours or record.levelno > logging.WARNING or log.isEnabledFor(logging.DEBUG)


for _name in ("psycopg", "psycopg.pool"):
    logging.getLogger(_name).addFilter(_is_news)


class _Opened(psycopg.Connection[Any]):
    """What the pool calls to connect: returns the connection that was opened to see the server answer."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
        opener: Callable[[], Connection] = kwargs["opener"]
        return opener()


class Connections:
    """All connections of one storage object. Thread-safe; dead in a forked child."""

    def __init__(self, config: StorageConfig, first_use: Callable[[Session], None]) -> None:
        self.url = config.db_url or ""
        self.schema = config.schema
        self.shown = mask_url(self.url)
        self._size = config.pool_size or DEFAULT_POOL_SIZE
        self._lazy_commit = config.durability == "process"
        self._first_use = first_use
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Any] | None = None
        self._spare: list[Connection] = []
        self._prepared = False
        self._worker: Session | None = None
        self._worker_lock = threading.Lock()
        #: Times a connection was found to lead to the wrong server: then all others may, silent ones too.
        self.renewals = 0
        #: Every connection that may be open, for the child that must not touch them.
        self._opened: weakref.WeakSet[Connection] = weakref.WeakSet()
        _ALIVE.add(self)

    # ---- use ----

    def on_pool(self, doing: str, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        """Run ``work`` on a connection of the pool; ``doing`` completes "cannot ..." in an error.

        ``repeatable``: done twice it is as good as once, so a connection that died unnoticed, as all do when
        the server restarts, is replaced and the caller does not hear of it.
        """
        with self.translated(doing):
            pool = self._open_pool()
            try:
                connection = pool.getconn(timeout=POOL_TIMEOUT)
            except psycopg.OperationalError:
                if pool.closed:  # closed under us: another thread lost the server
                    return self._on_new_pool(work)
                raise
            try:
                return again(work, Session(connection, self.settings()))
            except psycopg.Error as error:
                self._leave_if_astray(connection, error)
                if not (repeatable and connection.closed):
                    raise
            finally:
                lost = connection.closed
                pool.putconn(connection)
                if lost:
                    self._drop_pool(pool)
            return self._on_new_pool(work)

    def _on_new_pool(self, work: Callable[[Session], T]) -> T:
        with self._open_pool().connection(timeout=POOL_TIMEOUT) as connection:
            try:
                return again(work, Session(connection, self.settings()))
            except psycopg.Error as error:
                self._leave_if_astray(connection, error)
                raise

    def ready(self, doing: str) -> None:
        """See that the schema is there and current, before work on the caller's connection."""
        with self.translated(doing):
            self._prepare()

    def on_worker(self, doing: str, work: Callable[[Session], T]) -> T:
        """Run ``work`` on the worker's own connection; one caller at a time."""
        with self.translated(doing), self._worker_lock:
            return self._on_worker(work)

    def _on_worker(self, work: Callable[[Session], T]) -> T:
        if self._worker is None or self._worker.connection.closed:
            self._worker = None
            self._prepare(keep=False)
            self._worker = Session(self.open(self.worker_settings()), self.worker_settings())
        try:
            return again(work, self._worker)
        except psycopg.Error as error:
            self._leave_if_astray(self._worker.connection, error)
            raise
        finally:
            if self._worker.connection.closed:
                self._worker = None

    def beside_worker(
        self, doing: str, work: Callable[[Session], T], instead: Callable[[Session, int], T]
    ) -> T:
        """``on_worker`` if nobody else does; or ``instead``, on a connection of its own.

        It is told which process of the server the worker's connection waits for; 0: none.
        """
        if not self._worker_lock.acquire(blocking=False):
            busy = self._worker
            pid = 0 if busy is None or busy.connection.closed else busy.connection.info.backend_pid
            return self.apart(doing, lambda session: instead(session, pid))
        try:
            with self.translated(doing):
                return self._on_worker(work)
        finally:
            self._worker_lock.release()

    def apart(self, doing: str, work: Callable[[Session], T]) -> T:
        """Run ``work`` on a connection outside the pool, closed afterwards, whatever the schema's version."""
        with self.translated(doing):
            connection = self.open(self.settings())
            try:
                return work(Session(connection, self.settings()))
            finally:
                connection.close()

    def _leave_if_astray(self, connection: Connection, error: psycopg.Error) -> None:
        """Close a connection that leads to the wrong server: the next one may lead to the right one."""
        if leads_astray(error) and not connection.closed:
            connection.close()
            self.renewals += 1

    def open(self, settings: Settings) -> Connection:
        """A connection outside the pool; the caller closes it. Raises psycopg's errors."""
        self._check_process()
        connection = connect(self.url, settings)
        self._opened.add(connection)
        return connection

    def settings(self) -> Settings:
        return Settings(schema=self.schema, lazy_commit=self._lazy_commit)

    def worker_settings(self) -> Settings:
        return Settings(schema=self.schema, lazy_commit=self._lazy_commit, hurried=True)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn what the driver raises into StorageUnavailable or StorageError."""
        self._check_process()
        _in_use.depth += 1
        try:
            yield
        except TaskitoError:
            raise
        except (psycopg.Error, UnicodeError, OverflowError, struct.error, OSError) as error:
            raise self.translate(error, doing) from error
        finally:
            _in_use.depth -= 1

    def translate(self, error: Exception, doing: str) -> StorageError:
        """What this driver's error means to a caller; names the server, keeps the password."""
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        said = location.without_secrets(first_line, self.url)
        kind = StorageUnavailable if _passes(error) or self._is_restored(error) else StorageError
        return kind(f"cannot {doing} at {self.shown}: {said}")

    def _is_restored(self, error: Exception) -> bool:
        """True if the schema was whole and is not now: somebody is at it, and it may become whole again."""
        return self._prepared and isinstance(error, psycopg.Error) and error.sqlstate in _RESTORING

    # ---- open and close ----

    def _prepare(self, keep: bool = True) -> None:
        """Once: see that the schema is there and current; ``keep`` the connection for the pool."""
        with self._lock:
            if self._prepared:
                return
            connection = self.open(self.settings())
            try:
                self._first_use(Session(connection, self.settings()))
            except BaseException:
                connection.close()
                raise
            self._prepared = True
            if keep and not self._spare:
                self._spare.append(connection)
            else:
                connection.close()

    def _open_pool(self) -> ConnectionPool[Any]:
        self._prepare()
        with self._lock:
            pool = self._pool
            if pool is not None and not pool.closed and pool.get_stats()["pool_size"]:
                return pool
            # An empty pool connects in a thread of its own and would let the caller wait for a server that
            # is down: connect here, where the reason is known, and hand the connection over.
            if not self._spare:
                self._spare.append(self.open(self.settings()))
            if pool is None or pool.closed:
                pool = self._pool = self._new_pool()
            return pool

    def _new_pool(self) -> ConnectionPool[Any]:
        return ConnectionPool(
            connection_class=_Opened,
            kwargs={"opener": self._next_connection},
            min_size=0,
            max_size=self._size,
            max_idle=MAX_IDLE,
            num_workers=1,
            name=_POOL_NAME,
            open=True,
        )

    def _next_connection(self) -> Connection:
        try:
            spare = self._spare.pop()
        except IndexError:
            return self.open(self.settings())
        return self.open(self.settings()) if spare.closed else spare

    def _drop_pool(self, pool: ConnectionPool[Any]) -> None:
        """A connection was lost, so the others probably are: the next caller connects anew and sees why."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.close(timeout=2.0)

    def close(self) -> None:
        """Close every connection and thread; later calls open again. Not to be called in a forked child."""
        with self._lock:
            pool, self._pool = self._pool, None
            spare, self._spare = self._spare, []
            self._prepared = False
        if pool is not None:
            pool.close()
        for connection in spare:
            connection.close()
        with self._worker_lock:
            if self._worker is not None:
                self._worker.connection.close()
                self._worker = None

    # ---- forks ----

    @property
    def is_mine(self) -> bool:
        """False in a forked child."""
        return os.getpid() == self._pid

    def _check_process(self) -> None:
        if not self.is_mine:
            raise StorageError(
                f"this storage was made in process {self._pid} and carried across a fork into {os.getpid()}; "
                "a connection cannot be shared, so open another storage in the child"
            )

    def abandon(self) -> None:
        """In a forked child: make sure that nothing we do can reach the parent's sockets."""
        null = os.open(os.devnull, os.O_RDWR)
        for connection in list(self._opened):
            if not connection.closed:
                os.dup2(null, connection.pgconn.socket)
                _ABANDONED.append(connection)
        os.close(null)
        # Kept for ever: their destructors talk to the server, or wait for threads that are not here.
        _ABANDONED.extend((self._pool, self._worker, list(self._spare)))


_ALIVE: weakref.WeakSet[Connections] = weakref.WeakSet()
_ABANDONED: list[object] = []


def _after_fork() -> None:
    for connections in list(_ALIVE):
        connections.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def again(work: Callable[[Session], T], session: Session) -> T:
    """Run ``work``, which is one transaction, until it meets no other one on the same rows."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work(session)
        except (errors.SerializationFailure, errors.DeadlockDetected):
            # A row that another transaction moved to jobs_done fails the whole batch: only try again.
            continue
    return work(session)


def leads_astray(error: psycopg.Error) -> bool:
    """True if the server that answers is not the one to talk to, or not for long.

    A standby also ends what stands in the way of its replay. That comes as a serialization failure, but from
    the part of the server that takes in messages, and not from that which runs statements.
    """
    if isinstance(error, errors.SerializationFailure):
        return error.diag.source_file == "postgres.c"
    return error.sqlstate is not None and error.sqlstate.startswith((_READ_ONLY, _SHUTDOWN))


def _passes(error: Exception) -> bool:
    """True if the same call may succeed later."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        if error.sqlstate[:2] == "54":  # a limit of the server, such as the size of an index entry
            return False
        if error.sqlstate in _PASSING:
            return True
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, OSError))
