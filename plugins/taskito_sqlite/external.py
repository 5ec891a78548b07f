"""The caller's own connection: found in what the caller passes, and left as it was.

The caller's transaction is neither committed nor rolled back. Where none is open we do what the connection
would do by itself: begin one that is left to the caller, or commit at once in autocommit mode.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from taskito_core import ConfigError, StorageUnavailable, driver_connection
from taskito_sqlite import migrate
from taskito_sqlite.connection import Database
from taskito_sqlite.file.errors import UNSTORABLE, is_stale, translated
from taskito_sqlite.sql import enqueue as sql

T = TypeVar("T")

_WANTED = "a sqlite3 Connection or Cursor, or an SQLAlchemy Connection or Session on sqlite"


class _Plain:
    """Runs statements on the caller's connection with rows as we expect them, whatever its row_factory."""

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
    connection = driver_connection(given, sqlite3.Connection, sqlite3.Cursor, wanted=_WANTED)
    try:
        with _texts(connection):
            _check_file(connection, database.path)
            with _within(connection, database):
                _check_origin(connection, database)
                answer = work(cast(sqlite3.Connection, _Plain(connection)))
        return answer, not connection.in_transaction
    except (sqlite3.Error, *UNSTORABLE) as exc:
        raise translated(exc, database.path) from exc


def _check_file(connection: sqlite3.Connection, path: str) -> None:
    files = {name: file for _, name, file in _Plain(connection).execute("PRAGMA database_list")}
    if not files["main"] or os.path.realpath(files["main"]) != os.path.realpath(path):
        raise ConfigError(
            f"connection must be on the queue's own database {path}, it is on {files['main'] or ':memory:'}"
        )


def _check_origin(connection: sqlite3.Connection, database: Database) -> None:
    """Raise StorageUnavailable if the caller has a file open that was at the path once.

    Not before its transaction has the write lock: one that has read cannot wait for it.
    """
    database.check()
    try:
        found = migrate.origin(cast(sqlite3.Connection, _Plain(connection)))
    except sqlite3.OperationalError:
        found = None
    if found != database.origin:
        raise StorageUnavailable(
            f"connection has a file open that is not at {database.path} any more: open a new connection"
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
    # With the write lock: of two busy writers SQLite lets one starve.
    database.with_write_lock(lambda: _Plain(connection).execute("BEGIN IMMEDIATE"))
    try:
        yield
        if _commits_by_itself(connection):
            _Plain(connection).execute("COMMIT")
    except BaseException:
        _undo(connection, "ROLLBACK")
        raise


def _take_lock(connection: sqlite3.Connection, database: Database) -> None:
    """Have an open transaction write before it reads: one that has read cannot wait for other writers.

    Without the write lock of ours: if the caller has written already, its holder waits for the caller.
    """
    try:
        database.patiently(lambda: _Plain(connection).execute(sql.TAKE_WRITE_LOCK))
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
    """Whether it is in autocommit mode: by the attribute that Python 3.12 brought, else by the older one."""
    autocommit = getattr(connection, "autocommit", None)
    return autocommit is True or (autocommit is not False and connection.isolation_level is None)
