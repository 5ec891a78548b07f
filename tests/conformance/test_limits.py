"""The suites of limiters and breakers against every one of this project."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito_core.job import new_id
from taskito_kv.store import forget
from taskito_testing import CircuitBreakerConformance, RateLimiterConformance
from tools import leaks
from tools.private_postgres import Server

_numbers = itertools.count(1)


class InMemory:
    single_process = True

    @pytest.fixture
    def limits_url(self) -> Iterator[str]:
        name = new_id()
        yield f"memory://{name}"
        forget(name)


class OnSqlite:
    @pytest.fixture
    def limits_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/limits.db"

    @pytest.fixture
    def unreachable_url(self, tmp_path: Path) -> str:
        # A link to itself where the file should be: nobody can open a database there, until it is gone.
        (tmp_path / "a-loop.db").symlink_to("a-loop.db")
        return f"sqlite:///{tmp_path}/a-loop.db"


@pytest.fixture(scope="module")
def postgres_database(postgres_server: Server) -> Iterator[str]:
    url = postgres_server.new_database("taskito_limits")
    yield url
    # A session that was closed may show for a moment.
    connected = leaks.settled(lambda: postgres_server.connections(url))
    postgres_server.drop_database(url)
    assert connected == []


class OnPostgres:
    @pytest.fixture
    def limits_url(self, postgres_database: str) -> str:
        return postgres_database

    @pytest.fixture
    def limits_schema(self) -> str:
        # A new database for every test would take longer than most tests.
        return f"gates_{next(_numbers)}"


class TestLimiterInMemory(InMemory, RateLimiterConformance):
    pass


class TestBreakersInMemory(InMemory, CircuitBreakerConformance):
    pass


class TestSqliteLimiter(OnSqlite, RateLimiterConformance):
    pass


class TestSqliteBreakers(OnSqlite, CircuitBreakerConformance):
    pass


class TestPostgresLimiter(OnPostgres, RateLimiterConformance):
    pass


class TestPostgresBreakers(OnPostgres, CircuitBreakerConformance):
    pass
