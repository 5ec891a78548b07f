"""Stores that can be taken away for a while, as an operator or an accident does."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from psycopg import sql

from tools.private_postgres import Server

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


class Store(Protocol):
    """A database whose absence the test decides about."""

    url: str

    def go_away(self, mode: str = "fast") -> None:
        """From now on nobody can write to it; returns when that is so."""
        ...

    def come_back(self) -> None: ...


class LockedSqlite:
    """Another process holds the file locked: the way in which a file is away."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        self._holder: subprocess.Popen[bytes] | None = None

    def go_away(self, mode: str = "fast") -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(self._path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._holder = holder
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"

    def come_back(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.communicate(timeout=20)


class StoppedPostgres:
    """A server that is stopped and started again, with a database of this test's own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.new_database("taskito_test")

    def go_away(self, mode: str = "fast") -> None:
        self._server.stop(mode)

    def come_back(self) -> None:
        self._server.ensure_running()

    def drop(self) -> None:
        self._server.ensure_running()
        self._server.drop_database(self.url)


class SmallDisk:
    """A file system of a few megabytes in memory, and a ballast that fills it to the last byte."""

    def __init__(self, megabytes: int) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can mount the small file system that is to be filled")
        # Not in pytest's directory: a database server runs as another user.
        self.path = Path(tempfile.mkdtemp(prefix="taskito-disk-"))
        options = f"size={megabytes}m,mode=0777"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "taskito", str(self.path)], check=False
        )
        if mounted.returncode:
            self.path.rmdir()
            pytest.skip("this machine lets nobody mount a file system")
        self._ballast = self.path / "ballast"

    def fill(self) -> None:
        with open(self._ballast, "wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                # Down to pages: what is left at the end is less than any write needs.
                ballast.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()

    def remove(self) -> None:
        # Lazily: whoever still has a file open keeps it until he closes it.
        subprocess.run(["umount", "-l", str(self.path)], check=True)
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def sqlite_on(disk: SmallDisk) -> Iterator[str]:
    yield f"sqlite:///{disk.path / 'taskito.db'}"


@contextlib.contextmanager
def postgres_on(disk: SmallDisk, server: Server) -> Iterator[str]:
    """A database whose tables are on that disk; the server's log of changes is not."""
    place, name = disk.path / "tables", f"small_{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    [(data,)] = server.execute("SHOW data_directory")
    if not os.path.exists(data):
        pytest.skip("this server cannot see our file systems: it runs in a container")
    owner = os.stat(data)
    os.chown(place, owner.st_uid, owner.st_gid)
    tablespace, database = sql.Identifier(name), sql.Identifier(name)
    server.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(tablespace, sql.Literal(str(place))))
    server.execute(sql.SQL("CREATE DATABASE {} TABLESPACE {}").format(database, tablespace))
    try:
        yield server.url(name)
    finally:
        server.drop_database(server.url(name))
        server.execute(sql.SQL("DROP TABLESPACE {}").format(tablespace))
