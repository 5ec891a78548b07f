"""Outcomes that SQLite cannot keep: their batch is refused as a whole, and the worker takes it apart."""

from __future__ import annotations

import sqlite3

import pytest

from taskito_core import JobStatus, StorageError, StorageUnavailable
from taskito_testing import claim, complete, make_job, make_worker
from taskito_testing.factories import status_of
from tests.plugins.taskito_sqlite.conftest import Open


def test_a_result_that_is_too_large_refuses_its_batch_and_nothing_of_it_is_recorded(
    open_storage: Open,
) -> None:
    storage = open_storage(pool_size=1)
    worker = make_worker()
    storage.register(worker)
    storage.enqueue([make_job(), make_job()])
    first, second = claim(storage, worker.id, 2)
    storage._database.alone(lambda connection: connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))

    with pytest.raises(StorageError) as refused:
        storage.exchange(worker.id, [complete(first), complete(second, bytes(20_000))], None)

    assert not isinstance(refused.value, StorageUnavailable)
    assert status_of(storage, first.id) is JobStatus.RUNNING
    assert storage.exchange(worker.id, [complete(first)], None).recorded == {first.id}
