"""The metrics suite against every sink of this project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito_core.job import new_id
from taskito_kv.store import forget
from taskito_testing import MetricsConformance


class TestMemory(MetricsConformance):
    single_process = True

    @pytest.fixture
    def metrics_url(self) -> Iterator[str]:
        name = new_id()
        yield f"memory://{name}"
        forget(name)


class TestSqlite(MetricsConformance):
    @pytest.fixture
    def metrics_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/metrics.db"

    @pytest.fixture
    def unreachable_url(self, tmp_path: Path) -> str:
        # A directory where the file should be: nobody can open a database there.
        (tmp_path / "a-directory.db").mkdir()
        return f"sqlite:///{tmp_path}/a-directory.db"


class TestPostgres(MetricsConformance):
    @pytest.fixture
    def metrics_url(self, postgres_url: str) -> str:
        return postgres_url
