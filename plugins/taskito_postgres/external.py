"""The caller's own connection: found in whatever the caller holds, and used without leaving a trace.

Nothing is set on its session, nothing is prepared, and its adapters and row factory stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from taskito_core import Complete, ConfigError
from taskito_postgres import arrays, sql
from taskito_postgres.arrays import Bigints, Blobs, Texts
from taskito_postgres.follow import Follow, Run
from taskito_postgres.sql import Statements


class External(Follow):
    """``complete_in`` of the contract."""

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        doing = f"complete job {outcome.job_id}"
        self._connections.ready(doing)
        parameters = {
            "ids": Texts([outcome.job_id]),
            "tokens": Bigints([outcome.token]),
            "results": Blobs([outcome.result]),
            "started": Bigints([outcome.started_at]),
            "shift": self.clock_shift,
        }
        told = {"channel": self._done_channel, "payloads": Texts([f'["{outcome.job_id}"]'])}
        with self._connections.translated(doing), borrowed(connection) as cursor:
            if not run(cursor, self._statements[sql.COMPLETE_WITHIN], parameters):
                # Somebody may just have changed the row, and then this waits until it stays as it is.
                held = {name: parameters[name] for name in ("ids", "tokens")}
                if not run(cursor, self._statements[sql.HOLD], held):
                    return False
                run(cursor, self._statements[sql.COMPLETE_WITHIN], parameters)
            run(cursor, self._statements[sql.SHOUT], told)
        return True


def runner(cursor: psycopg.Cursor[Any], statements: Statements) -> Run:
    """What runs one statement after the other on a borrowed connection."""
    return lambda statement, parameters: run(cursor, statements[statement], parameters)


def run(cursor: psycopg.Cursor[Any], statement: bytes, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    cursor.execute(statement, parameters, prepare=False, binary=True)
    return cursor.fetchall() if cursor.description else []


@contextmanager
def borrowed(connection: object) -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of our own on the caller's connection."""
    found = driver_connection(connection)
    idle = found.info.transaction_status is TransactionStatus.IDLE
    # A connection in autocommit mode that is in no transaction gets one: all or none.
    whole = found.transaction() if found.autocommit and idle else nullcontext()
    with whole, psycopg.Cursor(found, row_factory=tuple_row) as cursor:
        arrays.register(cursor)
        yield cursor


def driver_connection(given: object) -> psycopg.Connection[Any]:
    """The driver's connection in ``given``: itself, a cursor's, or an SQLAlchemy Connection's or Session's.

    SQLAlchemy is known by its shape and never imported.
    """
    _refuse_async(given)
    found: Any = given
    if isinstance(found, psycopg.Cursor):
        found = found.connection
    if callable(getattr(found, "get_bind", None)) and callable(getattr(found, "connection", None)):
        found = found.connection()  # a Session: the Connection of its transaction, begun if need be
    if callable(getattr(found, "in_transaction", None)) and not found.in_transaction():
        found.begin()  # else its commit and rollback would not know of what is done below them
    while not isinstance(found, psycopg.Connection):
        inner = getattr(found, "driver_connection", None) or getattr(found, "connection", None)
        if inner is None or inner is found or callable(inner):
            break
        found = inner
    _refuse_async(found)
    if not isinstance(found, psycopg.Connection):
        raise ConfigError(
            "connection must be a psycopg 3 Connection or Cursor, or an SQLAlchemy Connection or Session on "
            f"postgresql+psycopg, got {_named(given)}"
        )
    return found


def _refuse_async(given: object) -> None:
    asynchronous = isinstance(given, (psycopg.AsyncConnection, psycopg.AsyncCursor)) or any(
        hasattr(given, name) for name in ("sync_connection", "sync_session")
    )
    if asynchronous:
        raise ConfigError(
            f"connection must be a synchronous one, got {_named(given)}; with SQLAlchemy's AsyncSession use "
            "session.run_sync"
        )


def _named(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"
