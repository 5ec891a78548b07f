"""Storage objects on fresh databases, closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from taskito_core import StorageConfig
from taskito_postgres.storage import PostgresStorage
from taskito_testing.factories import make_worker

OpenStorage = Callable[..., PostgresStorage]
OpenKeeper = Callable[..., Any]


@pytest.fixture
def open_storage(postgres_url: str) -> Iterator[OpenStorage]:
    """``open_storage(url=…, **config)``: a storage object, by default on this test's database."""
    opened: list[PostgresStorage] = []

    def make(url: str = postgres_url, **config: Any) -> PostgresStorage:
        opened.append(PostgresStorage(StorageConfig(backend="postgres", db_url=url, **config)))
        return opened[-1]

    yield make
    for storage in opened:
        storage.close()


@pytest.fixture
def storage(open_storage: OpenStorage) -> PostgresStorage:
    return open_storage()


@pytest.fixture
def worker_id(storage: PostgresStorage) -> str:
    """A worker that is alive."""
    worker = make_worker()
    storage.register(worker)
    return worker.id


@pytest.fixture
def database(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A plain connection to this test's database, to see what the storage does not show."""
    with psycopg.connect(postgres_url, autocommit=True, application_name="the test") as connection:
        yield connection


@pytest.fixture
def open_keeper() -> Iterator[OpenKeeper]:
    """``open_keeper(kind, url, **config)``: a limiter or breakers, closed after the test."""
    opened: list[Any] = []

    def make(kind: type, url: str, **config: Any) -> Any:
        opened.append(kind(StorageConfig(backend="postgres", db_url=url, **config)))
        return opened[-1]

    yield make
    for keeper in opened:
        keeper.close()
