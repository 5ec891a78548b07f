"""A PostgreSQL server for tests, examples and benchmarks, gone without a trace afterwards.

``with private_postgres() as server`` takes the first of: the server that TASKITO_TEST_POSTGRES_URL
names (only databases are made there), a container if a Docker engine answers, a server of our
own in a temporary directory. The last one runs as another user when we are root, keeps fsync on
(durability is what is being tested) and ends even when this process is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tools import postgres_binaries
from tools.postgres_engines import (
    CannotRestart,
    ContainerEngine,
    Engine,
    ExternalEngine,
    LocalEngine,
    docker_answers,
)


class Server:
    """One PostgreSQL server. ``stop``, ``start`` and ``restart`` keep its address and its data."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.running = True

    @property
    def restartable(self) -> bool:
        """False for a server that somebody else started."""
        return self._engine.restartable

    def url(self, dbname: str = "postgres") -> str:
        parts = urlsplit(self._engine.base_url)
        return urlunsplit(parts._replace(path=f"/{dbname}"))

    def new_database(self, prefix: str = "taskito") -> str:
        """Create an empty database with a name nobody has used; its URL."""
        name = f"{prefix}_{secrets.token_hex(6)}"
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that ``new_database`` made, with whoever is still connected to it."""
        name = urlsplit(url).path.lstrip("/")
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def connections(self, url: str) -> list[str]:
        """Who is connected to a database: ``application_name state: last query``, one each."""
        name = urlsplit(url).path.lstrip("/")
        rows = self.execute(
            "SELECT application_name, coalesce(state, ''), left(query, 120) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' ORDER BY backend_start",
            (name,),
        )
        return [f"{application or '(no name)'} {state}: {query}" for application, state, query in rows]

    def execute(self, statement: Any, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on the maintenance database, in autocommit; its rows, if any."""
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``smart``, ``fast`` or ``immediate`` (as a crash would) as in pg_ctl."""
        if not self.restartable:
            raise CannotRestart("the server of TASKITO_TEST_POSTGRES_URL is not ours to stop")
        self._engine.stop(mode)
        self.running = False

    def start(self) -> None:
        """Start it again on the same address; returns when it answers."""
        self._engine.start()
        self.running = True

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def ensure_running(self) -> None:
        if not self.running:
            self.start()

    def close(self) -> None:
        self._engine.close()


@contextlib.contextmanager
def private_postgres(*, external: bool = True, settings: Sequence[str] = ()) -> Iterator[Server]:
    """A running server, ended and removed at the end of the block.

    ``external=False`` passes over TASKITO_TEST_POSTGRES_URL, for those who must stop the server.
    ``settings`` are ``name=value`` pairs for a server of our own. Raises NoPostgres if there is none.
    """
    server = Server(_engine(external, settings))
    try:
        yield server
    finally:
        server.close()


def _engine(external: bool, settings: Sequence[str]) -> Engine:
    if external and (url := os.environ.get("TASKITO_TEST_POSTGRES_URL")):
        return ExternalEngine(url)
    if docker_answers():
        try:
            return ContainerEngine(settings)
        except Exception as exc:
            # An engine that cannot fetch the image is no reason to go without a server.
            print(f"no PostgreSQL container ({exc}); trying a local server", file=sys.stderr)
    return LocalEngine(postgres_binaries.find(), settings)


def main() -> int:
    """Run a command with TASKITO_BACKEND and TASKITO_DB_URL naming a new database on a private server."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    command = parser.parse_args().command
    with private_postgres() as server:
        url = server.new_database()
        environment = {**os.environ, "TASKITO_BACKEND": "postgres", "TASKITO_DB_URL": url}
        try:
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            server.drop_database(url)


if __name__ == "__main__":
    sys.exit(main())
