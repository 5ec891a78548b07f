"""One connection: how it is opened, what is set on it, and how statements travel in one round trip."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.pq import PipelineStatus
from psycopg.rows import TupleRow

from taskito_postgres import arrays
from taskito_postgres.location import quoted

Connection = psycopg.Connection[TupleRow]
Cursor = psycopg.Cursor[TupleRow]
Parameters = Mapping[str, Any]

#: Seconds; used where the URL says nothing.
CONNECT_TIMEOUT = 10
#: A statement that waits longer for a row, say for one that a caller's transaction holds, fails.
LOCK_TIMEOUT = "10s"
#: A dead peer is noticed after about 25 seconds of silence, on idle connections too.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # Milliseconds after which sent data without an acknowledgement is a lost connection: a network that went
    # silent would otherwise hold the caller for a quarter of an hour.
    "tcp_user_timeout": 10_000,
}
#: The same at the server's end: what a host that is gone has locked is free again after that time.
_SERVER_KEEPALIVES = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
}
#: For a process that stands still in the middle of a transaction, and whose host answers for it. Below the
#: lease of 30 s, and above what the statements of one transaction may take together.
_LONGEST_TRANSACTION = "20s"
#: The servers that can end one which waits for its client inside of a pipeline.
_WITH_TRANSACTION_TIMEOUT = 17_00_00


#: Every session of ours holds a shared lock on this number and its schema's, so that others can tell it from
#: those of the application, whatever is named in its URL.
MARK = 0x7A5C171


def mark_of(schema: str) -> int:
    """The second half of the lock that marks the sessions of one schema."""
    return zlib.crc32(schema.encode())


#: For all other statements: planned once, and never by scanning a table. The statistics of a table that is
#: empty one minute and full the next mislead the planner: leave it no choice but the indexes.
_FIXED = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
#: For statements with filters: each planned for the values it is sent with.
_FREE = {
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "on",
    "enable_hashjoin": "on",
    "enable_mergejoin": "on",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a transaction needs to be set, for the session or, behind a pooler, for itself."""

    schema: str
    lazy_commit: bool = False  #: commits need not survive a power cut
    hurried: bool = False  #: the worker's statements end before the next heartbeat

    def statement(self, server_version: int, *, local: bool) -> bytes:
        values = {
            "search_path": f'"{self.schema}"',
            "jit": "off",
            "lock_timeout": LOCK_TIMEOUT,
            "idle_in_transaction_session_timeout": "60s",
            **_FIXED,
        }
        if not local:
            # Whatever the role or the database has as its default: the statements rely on seeing what others
            # have committed in the meantime. For a single transaction its BEGIN says so.
            values["default_transaction_isolation"] = "read committed"
            values |= _SERVER_KEEPALIVES
        if self.lazy_commit:
            values["synchronous_commit"] = "off"
        if self.hurried:
            values["statement_timeout"] = "4s"  # below the heartbeat of 5 s
            values["lock_timeout"] = "2s"  # below that
            values["idle_in_transaction_session_timeout"] = _LONGEST_TRANSACTION
            if server_version >= _WITH_TRANSACTION_TIMEOUT:
                values["transaction_timeout"] = _LONGEST_TRANSACTION
        calls = _set(values, local)
        # A session that a pooler shares out is nobody's.
        mark = f", pg_advisory_lock_shared({MARK << 32 | mark_of(self.schema)})"
        return calls if local else calls + mark.encode()


def _set(values: Mapping[str, str], local: bool) -> bytes:
    calls = (f"set_config('{name}', '{value}', {str(local).lower()})" for name, value in values.items())
    return f"SELECT {', '.join(calls)}".encode()


_PLAN_FREELY = _set(_FREE, local=True)
_COMMIT_LOCALLY = b"""
SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') <> 'off'
"""
_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"


def connect(url: str, settings: Settings) -> Connection:
    """Open a connection in autocommit mode. Raises psycopg's errors."""
    given = conninfo.conninfo_to_dict(url)
    options: dict[str, Any] = {
        **_KEEPALIVES,
        "connect_timeout": CONNECT_TIMEOUT,
        "fallback_application_name": "taskito",
    }
    if _names_several(given) and "PGTARGETSESSIONATTRS" not in os.environ:
        options["target_session_attrs"] = "read-write"  # of several servers, the one that can be used
    connection: Connection = psycopg.connect(
        url,
        autocommit=True,
        client_encoding="utf8",  # whatever the URL says: it is what our arrays are packed in
        **{name: value for name, value in options.items() if name not in given},
    )
    try:
        set_up(connection, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def _names_several(given: Mapping[str, Any]) -> bool:
    names = (given.get("hostaddr"), given.get("host"), os.getenv("PGHOSTADDR"), os.getenv("PGHOST"))
    return "," in str(next(filter(None, names), ""))


def set_up(connection: Connection, settings: Settings) -> None:
    """Make a new connection one of ours; behind a pooler, where sessions are shared, nothing is set on it."""
    arrays.register(connection)
    if is_pooled(connection):
        connection.prepare_threshold = None
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    else:
        connection.execute(settings.statement(connection.info.server_version, local=False))


def is_pooled(connection: Connection) -> bool:
    """True if a pooler sits in between: the process we logged in to is not the one that answers."""
    if connection.prepare_threshold is None:
        return True
    row = connection.execute(b"SELECT pg_backend_pid()", prepare=False).fetchone()
    return row is None or row[0] != connection.info.backend_pid


class Statements(dict[str, bytes]):
    """The statements of ``sql`` with one schema filled in, once per statement: ``statements[sql.CLAIM]``."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self._prefix = f"{quoted(schema)}."

    def __missing__(self, text: str) -> bytes:
        statement = self[text] = text.replace("taskito.", self._prefix).encode()
        return statement


class RoundTrip:
    """Statements on their way to the server together; one transaction from ``commit`` to ``commit``.

    Behind a pooler each is sent by itself, between a BEGIN and a COMMIT. There the server's connection is
    somebody else's as soon as a transaction ends, and a pipeline sends more after that: psycopg a Flush,
    behind the last Sync. If it arrives late, it takes one of the pooler's connections and keeps it.
    """

    __slots__ = ("_connection", "_pipeline", "_preamble")

    def __init__(
        self, connection: Connection, pipeline: psycopg.Pipeline | None, preamble: bytes | None
    ) -> None:
        self._connection = connection
        self._pipeline = pipeline  #: None: behind a pooler
        self._preamble = preamble
        self._begin()

    def _begin(self) -> None:
        if self._preamble is not None:
            self._connection.execute(self._preamble)

    def run(self, statement: bytes, parameters: Parameters) -> Cursor:
        """Send a statement; its cursor holds the rows once the round trip is over."""
        cursor = self._connection.cursor(binary=True)
        return cursor.execute(statement, parameters, prepare=True)

    def commit(self) -> None:
        """Commit what was sent so far. The rest is another transaction, in the same round trip if it can."""
        if self._pipeline is not None:
            # Pipeline.sync() would also wait for the answers, and so for the disk, before going on.
            getattr(self._pipeline, "_enqueue_sync", self._pipeline.sync)()
        self.end()
        self._begin()

    def end(self) -> None:
        """Nothing more follows: an explicit transaction needs its COMMIT."""
        if self._preamble is not None:
            self._connection.execute(b"COMMIT")

    def commit_lazily(self) -> None:
        """Let this transaction's commit return before it is on disk."""
        self._connection.execute(b"SELECT set_config('synchronous_commit', 'off', true)", prepare=True)

    def commit_locally(self) -> None:
        """Let this transaction's commit wait for this server's disk at most, and for no standby."""
        self._connection.execute(_COMMIT_LOCALLY, prepare=True)


class Session:
    """A connection in use, and what its transactions need to have set."""

    __slots__ = ("_preamble", "_settings", "connection")

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        pooled = connection.prepare_threshold is None
        #: What a transaction needs to be set, and what begins one with it; None: the session has it.
        self._settings = settings.statement(connection.info.server_version, local=True) if pooled else None
        self._preamble = None if self._settings is None else _BEGIN + b";" + self._settings

    @contextmanager
    def round_trip(self) -> Iterator[RoundTrip]:
        """Send statements without waiting for each: in one transaction unless some are committed before.

        Leaving the block waits for all answers and commits; any error undoes what followed the last commit.
        """
        # Without BEGIN and COMMIT: up to its Sync a pipeline is one implicit transaction. Only a pooler's
        # session gets them: nothing else changes the isolation of one transaction and leaves no trace.
        if self._preamble is not None:
            yield from self._explicit_trip(self._preamble)
            return
        try:
            with self.connection.pipeline() as pipeline:
                yield RoundTrip(self.connection, pipeline, None)
        except (IndexError, psycopg.OperationalError) as error:
            if not isinstance(error, IndexError) and not self._is_in_pipeline():
                raise
            # A commit that the server refuses is an answer more than psycopg has sent statements. It stumbles
            # over that in two ways, as the answer comes early or late, and the reason is lost.
            self.connection.close()
            raise psycopg.OperationalError("the server refused the commit") from error

    def _is_in_pipeline(self) -> bool:
        connection = self.connection
        return not connection.closed and connection.info.pipeline_status is not PipelineStatus.OFF

    def _explicit_trip(self, preamble: bytes) -> Iterator[RoundTrip]:
        try:
            trip = RoundTrip(self.connection, None, preamble)
            yield trip
            trip.end()
        except BaseException:
            with suppress(psycopg.Error):  # the first one counts
                self.connection.rollback()
            raise

    def rows(self, statement: bytes, parameters: Parameters) -> list[TupleRow]:
        """Run one statement in a transaction of its own; its rows."""
        if self._preamble is None:
            cursor = self.connection.cursor(binary=True)
            return cursor.execute(statement, parameters, prepare=True).fetchall()
        with self.round_trip() as trip:
            cursor = trip.run(statement, parameters)
        return cursor.fetchall()

    def searched(self, statement: bytes, parameters: Parameters) -> list[TupleRow]:
        """The same for a statement that looks through tables: planned for the values it is sent with."""
        with self.round_trip():
            self.connection.execute(_PLAN_FREELY)
            cursor = self.connection.cursor(binary=True).execute(statement, parameters, prepare=False)
        return cursor.fetchall()

    def runner(self, statements: Mapping[str, bytes]) -> Callable[[str, dict[str, Any]], list[TupleRow]]:
        """What runs one statement after the other, inside of ``transaction``."""

        def run(statement: str, parameters: dict[str, Any]) -> list[TupleRow]:
            cursor = self.connection.cursor(binary=True)
            cursor.execute(statements[statement], parameters, prepare=None if self._preamble else True)
            return cursor.fetchall() if cursor.description else []

        return run

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """An explicit transaction, for work that depends on answers in between."""
        with self.connection.transaction():
            if self._settings is not None:
                self.connection.execute(self._settings)
            yield
