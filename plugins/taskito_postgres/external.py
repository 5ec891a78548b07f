"""The caller's own connection, used without leaving a trace.

Nothing is set on its session, nothing is prepared, and its adapters and row factory stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from taskito_core import driver_connection
from taskito_postgres import arrays

WANTED = "a psycopg 3 Connection or Cursor, or an SQLAlchemy Connection or Session on postgresql+psycopg"


def runner(
    cursor: psycopg.Cursor[Any], statements: Mapping[str, bytes]
) -> Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]:
    """What runs one statement after the other on a borrowed connection."""

    def run(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor.execute(statements[statement], parameters, prepare=False, binary=True)
        return cursor.fetchall() if cursor.description else []

    return run


@contextmanager
def borrowed(connection: object) -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of our own on the caller's connection."""
    found: psycopg.Connection[Any] = driver_connection(
        connection,
        psycopg.Connection,
        psycopg.Cursor,
        wanted=WANTED,
        asynchronous=(psycopg.AsyncConnection, psycopg.AsyncCursor),
    )
    idle = found.info.transaction_status is TransactionStatus.IDLE
    # A connection in autocommit mode that is in no transaction gets one: all or none.
    whole = found.transaction() if found.autocommit and idle else nullcontext()
    with whole, psycopg.Cursor(found, row_factory=tuple_row) as cursor:
        arrays.register(cursor)
        yield cursor
