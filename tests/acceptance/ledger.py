"""Tables of the tests' own: when every run began and ended, and what was killed.

Tasks write here through connections of their own, so that what is counted afterwards does not come from
the product. Moments are float seconds since the epoch, by one clock: the database server's, or, for
SQLite, the machine's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg

from taskito import current_job

_TABLES = """
CREATE TABLE {own}runs (job TEXT, token {int}, task TEXT, pid {int}, session {int}, place TEXT,
                        began {moment}, ended {moment}, how TEXT, PRIMARY KEY (job, token));
CREATE TABLE {own}kills (at {moment}, kind TEXT, pid {int}, session {int})
"""
_SQLITE_NOW = "(julianday('now') - 2440587.5) * 86400.0"


class Run(NamedTuple):
    """One run of one job, as the task itself wrote it down."""

    job: str
    token: int
    task: str
    pid: int
    session: int  #: of its process: the worker's pid
    place: str  #: the key under which runs of this kind must not meet; '' if they may
    began: float
    ended: float | None  #: None: its process was gone before
    how: str | None  #: ``returned``, or the name of the exception that ended it


class Kill(NamedTuple):
    """One SIGKILL."""

    at: float  #: a moment before it was sent
    kind: str  #: ``worker``, ``zygote`` or ``child``
    pid: int
    session: int


class Ledger:
    """One connection to the tables. Not to be shared by threads, nor carried across a fork."""

    def __init__(self, url: str) -> None:
        self.url = url
        if url.startswith("sqlite"):
            connection: Any = sqlite3.connect(
                url.removeprefix("sqlite://"), timeout=60, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous = OFF")
            self._mark, self._now = "?", _SQLITE_NOW
            self._types = {"own": "", "int": "INTEGER", "moment": "REAL"}
        else:
            connection = psycopg.connect(url, autocommit=True)
            # What a killed process has committed stays; only the machine must not lose its power.
            connection.execute("SET synchronous_commit = off")
            self._mark, self._now = "%s", "extract(epoch FROM clock_timestamp())::float8"
            self._types = {"own": "public.", "int": "BIGINT", "moment": "DOUBLE PRECISION"}
        self._connection = connection

    def open(self) -> None:
        """Make the tables, once."""
        for table in _TABLES.format_map(self._types).split(";"):
            self._connection.execute(table)
        if self._mark == "?":
            self._connection.execute("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        self._connection.close()

    # ---- written by the tasks, and by whoever kills ----

    def begin(self, job: str, token: int, task: str, pid: int, session: int, place: str) -> None:
        columns = "job, token, task, pid, session, place, began"
        self.query(
            f"INSERT INTO runs ({columns}) VALUES (%s, %s, %s, %s, %s, %s, {self._now}) RETURNING began",
            (job, token, task, pid, session, place),
        )

    def end(self, job: str, token: int, how: str) -> None:
        statement = (
            f"UPDATE runs SET ended = {self._now}, how = %s WHERE job = %s AND token = %s RETURNING how"
        )
        self.query(statement, (how, job, token))

    def kill(self, at: float, kind: str, pid: int, session: int) -> None:
        self.query("INSERT INTO kills VALUES (%s, %s, %s, %s) RETURNING at", (at, kind, pid, session))

    # ---- read ----

    def now(self) -> float:
        [(moment,)] = self.query(f"SELECT {self._now}")
        return float(moment)

    def ended_so(self, job: str, how: str) -> int:
        """How many runs of this job ended in this way so far."""
        [(count,)] = self.query("SELECT count(*) FROM runs WHERE job = %s AND how = %s", (job, how))
        return int(count)

    def runs(self) -> list[Run]:
        return [Run(*row) for row in self.query(f"SELECT {', '.join(Run._fields)} FROM runs ORDER BY began")]

    def kills(self) -> list[Kill]:
        return [Kill(*row) for row in self.query("SELECT at, kind, pid, session FROM kills ORDER BY at")]

    def query(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement.replace("%s", self._mark), parameters)
        return list(cursor.fetchall())


@functools.cache
def own_ledger() -> Ledger:
    """Of a process that runs jobs: the first one opens it, after the fork."""
    return Ledger(os.environ["LEDGER"])


@contextlib.contextmanager
def written_down(place: str = "") -> Iterator[None]:
    """The run is in the ledger before the body begins, and its end after it, whatever that is."""
    job, token = current_job.id, current_job.token
    own_ledger().begin(job, token, current_job.task_name, os.getpid(), os.getsid(0), place)
    how = "returned"
    try:
        yield
    except BaseException as exc:
        how = type(exc).__name__
        raise
    finally:
        own_ledger().end(job, token, how)
