"""The conformance suite for people without a repository: any backend, from its URL alone.

``python -m taskito_testing.check URL``, or through pytest with the URL in the environment:
``TASKITO_CHECK_URL=URL pytest --pyargs taskito_testing.check``. The URL names a place for
scratch data. Each test gets an empty store of its own there: on a server a schema
``taskito_check_…`` (drop the database afterwards), elsewhere the URL with a number behind it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from taskito_core.errors import ConfigError, TaskitoError
from taskito_testing import StorageConformance, open_storage

VARIABLE = "TASKITO_CHECK_URL"
_run = uuid.uuid4().hex[:8]
_numbers = itertools.count(1)


class TestStorage(StorageConformance):
    """The suite against the URL in ``TASKITO_CHECK_URL``."""

    single_process = os.environ.get(VARIABLE, "").startswith("memory:")

    @pytest.fixture
    def storage_url(self) -> str:
        url = os.environ.get(VARIABLE)
        if not url:
            pytest.skip(f"{VARIABLE} names no store to check")
        return url if _is_server(url) else f"{url}-{_run}-{next(_numbers)}"

    @pytest.fixture
    def storage_schema(self) -> str:
        return f"taskito_check_{_run}_{next(_numbers)}"


def check(url: str, *options: str) -> int:
    """Check the backend that ``url`` names in a pytest of its own; ``options`` are pytest's. Its exit code.

    Raises ConfigError for a URL that no plugin opens, or a store that has a taskito schema already.
    """
    refuse_a_store_in_use(url)
    with tempfile.TemporaryDirectory() as scratch:
        # Another process: pytest rewrites assertions only in what it imports itself.
        command = [sys.executable, "-m", "pytest", *_options(scratch), *options]
        return subprocess.run(command, env={**os.environ, VARIABLE: url}, check=False).returncode


def refuse_a_store_in_use(url: str) -> None:
    """Raise ConfigError if the store has a taskito schema: the suite must not touch jobs of others."""
    storage = open_storage(url, auto_migrate=False)
    try:
        info = storage.info()
    finally:
        storage.close()
    if info.schema_version:
        raise ConfigError(f"{info.location} holds taskito tables already; the check wants a scratch database")


def _is_server(url: str) -> bool:
    return bool(urlsplit(url).hostname) and not url.startswith("memory:")


def _options(scratch: str) -> list[str]:
    """Run this file alone, whatever pytest configuration the current directory has."""
    ini = Path(scratch) / "pytest.ini"
    ini.write_text("[pytest]\n")
    alone = ["-c", str(ini), "--rootdir", scratch, "--noconftest", "-p", "no:cacheprovider"]
    ours = [
        "-p",
        "taskito_testing.tally",
        "--import-mode=importlib",
        "--pyargs",
        "taskito_testing.check",
    ]
    return [*alone, *ours, "-q"]


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: python -m taskito_testing.check URL [PYTEST-OPTION]...", file=sys.stderr)
        return 2
    try:
        return check(*sys.argv[1:])
    except TaskitoError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
