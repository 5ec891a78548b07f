"""Work on a connection that is not ours: the caller's, inside the caller's transaction.

Names are qualified, nothing is set on the session, nothing is committed unless no transaction was open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from taskito_core import ConfigError
from taskito_postgres import arrays
from taskito_postgres.session import Parameters
from taskito_postgres.sql import Statements

T = TypeVar("T")
Runner = Callable[[str, Parameters], list[tuple[Any, ...]]]


def driver_connection(connection: object) -> psycopg.Connection[Any]:
    """The psycopg connection under whatever the caller has. Raises ConfigError for what is none."""
    found: Any = connection
    if isinstance(found, psycopg.Cursor):
        return found.connection
    if not isinstance(found, psycopg.Connection):
        # SQLAlchemy's: a Session gives its Connection when it is asked, and that holds the driver's.
        if callable(getattr(found, "connection", None)):
            found = found.connection()
        found = getattr(getattr(found, "connection", None), "driver_connection", None)
    if not isinstance(found, psycopg.Connection):
        raise ConfigError(
            "connection must be a psycopg 3 connection or cursor, not an async one, or SQLAlchemy's "
            f"connection or session on one, got {connection!r:.100}"
        )
    return found


def run(connection: object, statements: Statements, work: Callable[[Runner], T]) -> T:
    """Run ``work`` on the caller's connection: all of it or nothing, in the caller's transaction."""
    found = driver_connection(connection)

    def runner(statement: str, parameters: Parameters) -> list[TupleRow]:
        cursor = found.cursor(binary=True, row_factory=tuple_row)
        arrays.register(cursor)  # for this cursor alone
        # Not prepared: what is left behind in a session is the caller's to decide.
        cursor.execute(statements[statement], parameters, prepare=False)
        return cursor.fetchall() if cursor.description else []

    with _nested(found):
        return work(runner)


@contextmanager
def _nested(connection: psycopg.Connection[Any]) -> Iterator[None]:
    if not connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
        # What the driver would do before the first statement; the caller ends it. Else the block below
        # would be the outermost one, and commit.
        connection.execute(b"SELECT 1")
    with connection.transaction():
        yield
