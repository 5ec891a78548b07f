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
        # A link to itself where the file should be: nobody can open a database there, until it is gone.
        (tmp_path / "a-loop.db").symlink_to("a-loop.db")
        return f"sqlite:///{tmp_path}/a-loop.db"


class TestPostgres(MetricsConformance):
    @pytest.fixture
    def metrics_url(self, postgres_url: str) -> str:
        return postgres_url
