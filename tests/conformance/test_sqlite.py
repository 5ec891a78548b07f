"""The suite against SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskito_core import Storage
from taskito_testing import StorageConformance


class TestSqlite(StorageConformance):
    @pytest.fixture
    def storage_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/jobs.db"

    @pytest.fixture
    def unreachable_url(self, tmp_path: Path) -> str:
        # A link to itself where the file should be: nobody can open a database there, until it is gone.
        (tmp_path / "a-loop.db").symlink_to("a-loop.db")
        return f"sqlite:///{tmp_path}/a-loop.db"

    @pytest.fixture
    def raw_connect(self, storage: Storage, tmp_path: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
        opened: list[sqlite3.Connection] = []

        def raw_connect() -> sqlite3.Connection:
            opened.append(sqlite3.connect(tmp_path / "jobs.db"))
            return opened[-1]

        yield raw_connect
        for connection in opened:
            connection.close()
