"""The caller's own connection: found in whatever the caller holds, and used without leaving a trace.

The caller's transaction is neither committed nor rolled back. Where none is open we do what the connection
would do by itself: begin one that is left to the caller, or commit at once in autocommit mode.
"""

from __future__ import annotations

import inspect
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from taskito_core import ConfigError, StorageUnavailable
from taskito_sqlite import sql
from taskito_sqlite.connection import Database
from taskito_sqlite.errors import UNSTORABLE, is_stale, translated

T = TypeVar("T")


class _Plain:
    """Runs statements on somebody's connection with rows as we expect them, whatever its row_factory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        return self._cursor().execute(statement, values)

    def executemany(self, statement: str, rows: Sequence[Any]) -> sqlite3.Cursor:
        return self._cursor().executemany(statement, rows)

    def _cursor(self) -> sqlite3.Cursor:
        # Not connection.cursor(): an application may have put a factory of its own there.
        cursor = sqlite3.Cursor(self._connection)
        cursor.row_factory = None
        return cursor


def run(given: object, database: Database, work: Callable[[sqlite3.Connection], T]) -> tuple[T, bool]:
    """Run ``work``, all of it or nothing, on the caller's connection; its answer, and if it is committed."""
    connection = driver_connection(given)
    try:
        with _texts(connection):
            _check_file(connection, database.path)
            with _within(connection, database):
                answer = work(cast(sqlite3.Connection, _Plain(connection)))
        return answer, not connection.in_transaction
    except (sqlite3.Error, *UNSTORABLE) as exc:
        raise translated(exc, database.path) from exc


def driver_connection(given: object) -> sqlite3.Connection:
    """The driver's connection in ``given``: itself, a cursor's, or an SQLAlchemy Connection's or Session's.

    SQLAlchemy is known by its shape and never imported.
    """
    found: Any = given
    if any(hasattr(found, name) for name in ("sync_connection", "sync_session")):
        raise ConfigError(
            f"connection must be a synchronous one, got {_named(given)}; with SQLAlchemy's AsyncSession use "
            "session.run_sync"
        )
    if isinstance(found, sqlite3.Cursor):
        found = found.connection
    if callable(getattr(found, "get_bind", None)) and callable(getattr(found, "connection", None)):
        found = found.connection()  # a Session: the Connection of its transaction, begun if need be
    if callable(getattr(found, "in_transaction", None)) and not found.in_transaction():
        found.begin()  # else its commit and rollback would not know of what is done below them
    while not isinstance(found, sqlite3.Connection):
        inner = getattr(found, "driver_connection", None) or getattr(found, "connection", None)
        # The driver's connection can be called too, so that does not tell a method from it.
        if inner is None or inner is found or inspect.ismethod(inner):
            raise ConfigError(
                "connection must be a sqlite3 Connection or Cursor, or an SQLAlchemy Connection or Session "
                f"on sqlite, got {_named(given)}"
            )
        found = inner
    return found


def _named(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"


def _check_file(connection: sqlite3.Connection, path: str) -> None:
    files = {name: file for _, name, file in _Plain(connection).execute("PRAGMA database_list")}
    if not files["main"] or os.path.realpath(files["main"]) != os.path.realpath(path):
        raise ConfigError(
            f"connection must be on the queue's own database {path}, it is on {files['main'] or ':memory:'}"
        )


@contextmanager
def _texts(connection: sqlite3.Connection) -> Iterator[None]:
    """Have text read as str meanwhile, which cannot be set for a cursor alone."""
    theirs = connection.text_factory
    if theirs is str:
        yield
        return
    connection.text_factory = str
    try:
        yield
    finally:
        connection.text_factory = theirs


@contextmanager
def _within(connection: sqlite3.Connection, database: Database) -> Iterator[None]:
    if connection.in_transaction:
        _Plain(connection).execute("SAVEPOINT taskito")
        try:
            _take_lock(connection, database)
            yield
        except BaseException:
            _undo(connection, "ROLLBACK TO taskito", "RELEASE taskito")
            raise
        _Plain(connection).execute("RELEASE taskito")
        return
    # In our turn: of two busy writers SQLite lets one starve.
    database.in_turn(lambda: _Plain(connection).execute("BEGIN IMMEDIATE"))
    try:
        yield
        if _commits_by_itself(connection):
            _Plain(connection).execute("COMMIT")
    except BaseException:
        _undo(connection, "ROLLBACK")
        raise


def _take_lock(connection: sqlite3.Connection, database: Database) -> None:
    """Have an open transaction write before it reads: one that has read cannot wait for other writers.

    Not in our turn: if the caller has written already, whoever has the turn waits for the caller.
    """
    try:
        database.patiently(lambda: _Plain(connection).execute(sql.WRITE_NOTHING))
    except sqlite3.OperationalError as exc:
        if not is_stale(exc):
            raise
        raise StorageUnavailable(
            f"the transaction on {database.path} read before somebody else wrote, and cannot write any more: "
            "roll it back, and begin it with BEGIN IMMEDIATE or enqueue before it reads"
        ) from exc


def _undo(connection: sqlite3.Connection, *statements: str) -> None:
    # Some errors (a full disk) have rolled back already.
    if connection.in_transaction:
        for statement in statements:
            _Plain(connection).execute(statement)


def _commits_by_itself(connection: sqlite3.Connection) -> bool:
    """Is it in autocommit mode? Asked of the attribute that Python 3.12 brought, else of the older one."""
    autocommit = getattr(connection, "autocommit", None)
    return autocommit is True or (autocommit is not False and connection.isolation_level is None)
