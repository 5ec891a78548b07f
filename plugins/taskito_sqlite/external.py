"""Work on a connection that is not ours: the caller's, inside the caller's transaction.

Nothing of the connection is changed, and nothing is committed unless no transaction was open.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from taskito_core import ConfigError
from taskito_sqlite.errors import UNSTORABLE, translated

T = TypeVar("T")

#: Seconds for which a commit of the caller's is looked out for, to wake workers; and between two looks.
LOOK_OUT = 30.0
LOOK_FIRST, LOOK_LAST = 0.005, 0.1


class _Plain:
    """Runs statements on somebody's connection with rows as we expect them, whatever its row_factory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        return self._cursor().execute(statement, values)

    def executemany(self, statement: str, rows: Sequence[Any]) -> sqlite3.Cursor:
        return self._cursor().executemany(statement, rows)

    def _cursor(self) -> sqlite3.Cursor:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor


def driver_connection(connection: object) -> sqlite3.Connection:
    """The sqlite3 connection under whatever the caller has. Raises ConfigError for what is none."""
    found: Any = connection
    if isinstance(found, sqlite3.Cursor):
        return found.connection
    if not isinstance(found, sqlite3.Connection):
        # SQLAlchemy's: a Session gives its Connection when it is asked, and that holds the driver's.
        if callable(getattr(found, "connection", None)):
            found = found.connection()
        found = getattr(getattr(found, "connection", None), "driver_connection", None)
    if not isinstance(found, sqlite3.Connection):
        raise ConfigError(
            "connection must be a sqlite3 connection or cursor, or SQLAlchemy's connection or session, "
            f"got {connection!r:.100}"
        )
    return found


def run(connection: object, path: str, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``work`` on the caller's connection: all of it or nothing, in the caller's transaction."""
    found = driver_connection(connection)
    try:
        _check_file(found, path)
        with _nested(found):
            return work(cast(sqlite3.Connection, _Plain(found)))
    except (sqlite3.Error, *UNSTORABLE) as exc:
        raise translated(exc, path) from exc


def _check_file(connection: sqlite3.Connection, path: str) -> None:
    files = {name: file for _, name, file in _Plain(connection).execute("PRAGMA database_list")}
    if os.path.realpath(files["main"] or ":memory:") != os.path.realpath(path):
        raise ConfigError(
            f"connection must be on the queue's own database {path}, it is on {files['main'] or ':memory:'}"
        )


@contextmanager
def _nested(connection: sqlite3.Connection) -> Iterator[None]:
    if not connection.in_transaction and connection.isolation_level is not None:
        # The driver would begin one by itself before the first INSERT; and leaves it to the caller to end.
        connection.execute("BEGIN IMMEDIATE")
    connection.execute("SAVEPOINT taskito")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO taskito")
        connection.execute("RELEASE taskito")
        raise
    connection.execute("RELEASE taskito")


class LookOut:
    """Rings once jobs are there that were stored in a transaction of somebody else's.

    SQLite tells nobody of a commit, so a thread looks for the jobs, often at first and for half a minute.
    """

    def __init__(self, is_stored: Callable[[str], bool], ring: Callable[[set[str]], None]) -> None:
        self._is_stored = is_stored
        self._ring = ring
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[set[str], float]] = {}  #: job id -> queues to ring for, and until when
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def expect(self, job_id: str, queues: set[str]) -> None:
        """Ring for these queues when this job can be seen."""
        with self._lock:
            self._jobs[job_id] = queues, time.monotonic() + LOOK_OUT
            if self._thread is None:
                self._closing.clear()
                self._thread = threading.Thread(target=self._run, name="taskito-lookout", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if (thread := self._thread) is not None:
            thread.join(timeout=5.0)

    def _run(self) -> None:
        pause = LOOK_FIRST
        while not self._closing.wait(pause):
            pause = min(pause * 1.5, LOOK_LAST)
            self._look()
            with self._lock:
                if not self._jobs:
                    break
        with self._lock:
            self._jobs.clear()
            self._thread = None

    def _look(self) -> None:
        with self._lock:
            expected = dict(self._jobs)
        now = time.monotonic()
        for job_id, (queues, until) in expected.items():
            stored = self._is_stored(job_id)
            if stored:
                self._ring(queues)
            if stored or now >= until:
                with self._lock:
                    self._jobs.pop(job_id, None)
