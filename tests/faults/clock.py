"""A plugin for workers and producers of a test: their stores' clocks are ahead by what a file says.

Put it into a directory of ``PYTHONPATH`` with ``install``. Nothing of the product knows of it.
"""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from taskito_core import StorageConfig, hookimpl

_FILE = "TEST_CLOCK_AHEAD"
#: Backend -> the module and class of its storage, limiter and breaker.
_CLASSES = {
    "sqlite": {
        "storage": ("taskito_sqlite.storage", "SqliteStorage"),
        "limiter": ("taskito_sqlite.rate_limiter", "SqliteRateLimiter"),
    },
    "postgres": {
        "storage": ("taskito_postgres.storage", "PostgresStorage"),
        "limiter": ("taskito_postgres.rate_limiter", "PostgresRateLimiter"),
    },
}


class Ahead:
    """Mixed into a store's class: its ``clock_shift`` is what the file says at that moment."""

    @property
    def clock_shift(self) -> int:
        return int(Path(os.environ[_FILE]).read_text())

    @clock_shift.setter
    def clock_shift(self, milliseconds: int) -> None:
        """The file alone decides."""


def _opened(backend: str, what: str, config: StorageConfig) -> Any:
    if backend not in _CLASSES:
        return None
    module, name = _CLASSES[backend][what]
    base = getattr(importlib.import_module(module), name)
    return type(f"{name}Ahead", (Ahead, base), {})(config)


@hookimpl(tryfirst=True)
def taskito_open_storage(config: StorageConfig) -> Any:
    return _opened(config.backend, "storage", config)


@hookimpl(tryfirst=True)
def taskito_open_limiter(url: str, config: StorageConfig) -> Any:
    return _opened(config.backend, "limiter", config)


class SetClock:
    """The clocks of the processes that are started with ``env``."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock-ahead"
        self.env = {_FILE: os.fspath(self._file)}
        shutil.copy(__file__, directory / "test_clock_plugin.py")
        metadata = directory / "test_clock_plugin-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: test-clock-plugin\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[taskito]\ntest_clock = test_clock_plugin\n")
        self.ahead(0)

    def ahead(self, milliseconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(milliseconds))
        fresh.replace(self._file)
