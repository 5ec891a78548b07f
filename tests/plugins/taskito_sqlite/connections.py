"""Every kind of connection that a caller may pass, and how its transaction ends."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

#: Gives what is passed as ``connection``, and the functions that commit and roll back.
Opened = tuple[Any, Callable[[], None], Callable[[], None]]


@contextmanager
def plain(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def cursor(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection.cursor(), connection.commit, connection.rollback


@contextmanager
def own_rows(path: Path) -> Iterator[Opened]:
    """Everything that changes what is read: rows, texts and the cursor itself."""

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = None) -> Any:
            raise AssertionError("this connection makes cursors in its own way")

    with closing(sqlite3.connect(path, factory=Connection)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        yield connection, connection.commit, connection.rollback


@contextmanager
def explicit(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:

        def end(how: str) -> None:
            connection.execute(how)
            connection.execute("BEGIN")

        connection.execute("BEGIN")
        yield connection, lambda: end("COMMIT"), lambda: end("ROLLBACK")
        connection.execute("ROLLBACK")


@contextmanager
def pep_249(path: Path) -> Iterator[Opened]:
    with closing(sqlite3.connect(path, autocommit=False)) as connection:  # type: ignore[call-overload]
        yield connection, connection.commit, connection.rollback


def plain_engine(path: Path) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=NullPool)


def explicit_engine(path: Path) -> sqlalchemy.Engine:
    """As SQLAlchemy's manual has it, for savepoints that work."""
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}", poolclass=NullPool, connect_args={"isolation_level": None}
    )
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


@contextmanager
def of_sqlalchemy(path: Path) -> Iterator[Opened]:
    with plain_engine(path).connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def of_sqlalchemy_that_begins(path: Path) -> Iterator[Opened]:
    with explicit_engine(path).connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def sqlalchemy_session(path: Path) -> Iterator[Opened]:
    with Session(plain_engine(path)) as session:
        yield session, session.commit, session.rollback


@contextmanager
def sqlalchemy_raw(path: Path) -> Iterator[Opened]:
    with closing(plain_engine(path).raw_connection()) as connection:
        yield connection, connection.commit, connection.rollback


KINDS = {
    "connection": plain,
    "cursor": cursor,
    "own rows, texts and cursors": own_rows,
    "explicit transactions": explicit,
    "SQLAlchemy": of_sqlalchemy,
    "SQLAlchemy that begins": of_sqlalchemy_that_begins,
    "SQLAlchemy session": sqlalchemy_session,
    "SQLAlchemy raw": sqlalchemy_raw,
}
if sys.version_info >= (3, 12):
    KINDS["autocommit=False"] = pep_249
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
