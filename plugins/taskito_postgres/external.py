"""The caller's own connection, used without leaving a trace.

Nothing is set on its session, nothing is prepared, and its adapters and row factory stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from taskito_core import ConfigError, driver_connection
from taskito_postgres import arrays

WANTED = "a psycopg 3 Connection or Cursor, or an SQLAlchemy Connection or Session on postgresql+psycopg"


class ExternalConnection(NamedTuple):
    """A cursor of our own on the caller's connection."""

    cursor: psycopg.Cursor[Any]
    statements: Mapping[str, bytes]
    is_two_phase: bool  #: it will be prepared, which PostgreSQL refuses for a transaction that has notified

    def run(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement of ``sql``; its rows."""
        self.cursor.execute(self.statements[statement], parameters, prepare=False, binary=True)
        return self.cursor.fetchall() if self.cursor.description else []

    def notify(self, statement: str, parameters: dict[str, Any]) -> None:
        """Run a statement that notifies, unless that would cost the caller the transaction."""
        if not self.is_two_phase:
            self.run(statement, parameters)


@contextmanager
def borrowed(connection: object, statements: Mapping[str, bytes]) -> Iterator[ExternalConnection]:
    """The caller's connection, in the caller's transaction."""
    found: psycopg.Connection[Any] = driver_connection(
        connection,
        psycopg.Connection,
        psycopg.Cursor,
        wanted=WANTED,
        asynchronous=(psycopg.AsyncConnection, psycopg.AsyncCursor),
    )
    if found.info.encoding != "utf-8":
        encoding = found.info.parameter_status("client_encoding")
        raise ConfigError(f"connection must have the client_encoding UTF8, got {encoding}")
    idle = found.info.transaction_status is TransactionStatus.IDLE
    # A connection in autocommit mode that is in no transaction gets one: all or none.
    whole = found.transaction() if found.autocommit and idle else nullcontext()
    with whole, psycopg.Cursor(found, row_factory=tuple_row) as cursor:
        arrays.register(cursor)
        yield ExternalConnection(cursor, statements, _is_two_phase(connection, found))


def _is_two_phase(given: Any, found: psycopg.Connection[Any]) -> bool:
    """True inside of psycopg's ``tpc_begin`` and SQLAlchemy's ``begin_twophase``.

    That SQL of the caller's own will prepare the transaction cannot be foreseen.
    """
    if getattr(found, "_tpc", None) is not None:  # psycopg tells it nowhere else
        return True
    if callable(getattr(given, "get_bind", None)):
        given = given.connection()  # a Session's
    transaction = getattr(given, "get_transaction", None)
    return callable(transaction) and hasattr(transaction(), "prepare")
