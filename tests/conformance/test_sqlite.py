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
        # A directory where the file should be: nobody can open a database there.
        (tmp_path / "a-directory.db").mkdir()
        return f"sqlite:///{tmp_path}/a-directory.db"
