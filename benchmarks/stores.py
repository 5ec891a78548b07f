"""Fresh, empty stores to measure on, and the plain connections beside them that nothing of ours touches."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from taskito import Queue
from tools.private_postgres import Server, private_postgres


class Drained(NamedTuple):
    """What the store says about a finished batch of jobs."""

    complete: int
    first_start: int  #: epoch milliseconds
    last_end: int

    @property
    def seconds(self) -> float:
        return max(self.last_end - self.first_start, 1) / 1000


class Store(ABC):
    """One empty store."""

    backend: str
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process needs to find it."""
        return {"TASKITO_BACKEND": self.backend, "TASKITO_DB_URL": self.url}

    def queue(self) -> Queue:
        return Queue(backend=self.backend, db_url=self.url)

    def drained(self, which: str = "true") -> Drained:
        """How many of the jobs (a condition in SQL) are complete; when the first began and the last ended."""
        [row] = self.query(
            "SELECT count(*), coalesce(min(started_at), 0), coalesce(max(completed_at), 0) FROM "
            f"{self.jobs} WHERE status = 'complete' AND {which}"
        )
        return Drained(*row)

    def unfinished(self) -> int:
        [[count]] = self.query(f"SELECT count(*) FROM {self.jobs} WHERE status IN ('pending', 'running')")
        return int(count)

    jobs: str  #: the table as SQL names it

    @abstractmethod
    def query(self, statement: str) -> list[Sequence[Any]]: ...

    @abstractmethod
    def bare_rows(self, count: int, *, one_by_one: bool) -> None:
        """Insert rows of a job's size into a plain table as fast as the driver can: durable commits."""


class SqliteStore(Store):
    backend = "sqlite"
    jobs = "jobs"

    def __init__(self, directory: str) -> None:
        self._path = str(Path(directory, "bench.db"))
        self._bare = str(Path(directory, "bare.db"))
        self.url = f"sqlite:///{self._path}"

    def query(self, statement: str) -> list[Sequence[Any]]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)
        ) as connection:
            return list(connection.execute(statement))

    def bare_rows(self, count: int, *, one_by_one: bool) -> None:
        with contextlib.closing(sqlite3.connect(self._bare, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(_BARE_TABLE.format(bytes="BLOB"))
            insert = "INSERT INTO bare VALUES (?, ?, ?, ?, ?, ?)"
            if one_by_one:
                for row in _rows(count):
                    connection.execute(insert, row)
                return
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, _rows(count))
            connection.execute("COMMIT")


class PostgresStore(Store):
    backend = "postgres"
    jobs = "taskito.jobs"

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def query(self, statement: str) -> list[Sequence[Any]]:
        return list(self._connection.execute(statement).fetchall())

    def bare_rows(self, count: int, *, one_by_one: bool) -> None:
        connection = self._connection
        connection.execute(_BARE_TABLE.format(bytes="BYTEA"))
        if one_by_one:
            insert = "INSERT INTO bare VALUES (%b, %b, %b, %b, %b, %b)"
            for row in _rows(count):
                connection.execute(insert, row, prepare=True)
            return
        with (
            connection.transaction(),
            connection.cursor().copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["text", "text", "text", "bytea", "int8", "int8"])
            for row in _rows(count):
                copy.write_row(row)


_BARE_TABLE = (
    "CREATE TABLE IF NOT EXISTS bare (id TEXT PRIMARY KEY, task_name TEXT, queue TEXT, payload {bytes}, "
    "priority BIGINT, scheduled_at BIGINT)"
)


def _rows(count: int) -> Iterator[tuple[str, str, str, bytes, int, int]]:
    for _ in range(count):
        yield os.urandom(16).hex(), "noop", "default", b"[[],{}]", 0, 1_700_000_000_000


class Backend(ABC):
    """Makes stores of one kind."""

    name: str

    @abstractmethod
    def fresh(self) -> contextlib.AbstractContextManager[Store]: ...


class Sqlite(Backend):
    name = "sqlite"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Store]:
        with tempfile.TemporaryDirectory(prefix="taskito-bench-") as directory:
            yield SqliteStore(directory)


class Postgres(Backend):
    name = "postgres"

    def __init__(self, server: Server) -> None:
        self.server = server

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Store]:
        url = self.server.new_database("taskito_bench")
        store = PostgresStore(url)
        try:
            yield store
        finally:
            store.close()
            self.server.drop_database(url)


@contextlib.contextmanager
def backends(which: str) -> Iterator[list[Backend]]:
    """``sqlite``, ``postgres`` or ``all``; a server is started only if it is needed."""
    with contextlib.ExitStack() as stack:
        found: list[Backend] = []
        if which in ("sqlite", "all"):
            found.append(Sqlite())
        if which in ("postgres", "all"):
            found.append(Postgres(stack.enter_context(private_postgres())))
        yield found
