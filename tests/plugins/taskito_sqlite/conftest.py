"""Storage objects on fresh files, and other processes that hammer them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskito_core.storage import StorageConfig
from taskito_sqlite.storage import SqliteStorage

Open = Callable[..., SqliteStorage]
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def open_storage(sqlite_path: Path) -> Iterator[Open]:
    """Opens storage on this test's file, closed after the test; keywords go to StorageConfig."""
    opened: list[SqliteStorage] = []

    def make(**config: Any) -> SqliteStorage:
        opened.append(SqliteStorage(StorageConfig(**{"db_path": str(sqlite_path), **config})))
        return opened[-1]

    yield make
    for storage in opened:
        storage.close()


@pytest.fixture
def storage(open_storage: Open) -> SqliteStorage:
    return open_storage()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Runs a function of actors.py in a process of its own, which is gone when the test ends."""
    started: list[subprocess.Popen[bytes]] = []

    def start(function: str, *args: object) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("actors.py")),
            function,
            *map(str, args),
        ]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        started.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
