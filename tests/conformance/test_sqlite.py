"""The suite against SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskito_core.testing import StorageConformance


class TestSqlite(StorageConformance):
    @pytest.fixture
    def storage_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/jobs.db"

    @pytest.fixture
    def unreachable_url(self, tmp_path: Path) -> str:
        # A file where a directory is needed: nobody can open or create a database below it.
        (tmp_path / "a-file").write_text("")
        return f"sqlite:///{tmp_path}/a-file/jobs.db"
