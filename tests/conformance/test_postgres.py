"""The suite against PostgreSQL: one database for all tests, a schema of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from taskito_core import Storage
from taskito_testing import StorageConformance
from tools import leaks
from tools.private_postgres import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def postgres_database(postgres_server: Server) -> Iterator[str]:
    url = postgres_server.new_database("taskito_conformance")
    yield url
    # A session that was closed may show for a moment.
    connected = leaks.settled(lambda: postgres_server.connections(url))
    postgres_server.drop_database(url)
    assert connected == []


class TestPostgres(StorageConformance):
    @pytest.fixture
    def storage_url(self, postgres_database: str) -> str:
        return postgres_database

    @pytest.fixture
    def storage_schema(self) -> str:
        # A new database for every test would take longer than most tests.
        return f"conformance_{next(_numbers)}"

    @pytest.fixture
    def raw_connect(self, storage: Storage, storage_url: str) -> Iterator[Callable[[], Any]]:
        opened: list[psycopg.Connection[Any]] = []

        def raw_connect() -> psycopg.Connection[Any]:
            opened.append(psycopg.connect(storage_url))
            return opened[-1]

        yield raw_connect
        for connection in opened:
            connection.close()
