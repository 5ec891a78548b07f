"""What SQLite refuses, as the core's errors: for good, or as passing trouble."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from taskito_core import StorageError, StorageUnavailable
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import make_job
from tests.plugins.taskito_sqlite.conftest import Open


def test_a_file_that_is_no_database_is_refused_for_good(sqlite_path: Path, storage: SqliteStorage) -> None:
    sqlite_path.write_bytes(b"no database at all, " * 100)

    with pytest.raises(StorageError, match="not a database") as caught:
        storage.counts()

    assert not isinstance(caught.value, StorageUnavailable)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_a_full_disk_is_passing_trouble_and_stores_nothing(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)
    storage.enqueue([make_job()])
    pages = storage._database.alone(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    storage._database.alone(lambda c: c.execute(f"PRAGMA max_page_count={pages + 2}").fetchone())

    with pytest.raises(StorageUnavailable, match="full") as caught:
        storage.enqueue([make_job(payload=bytes(100_000)), make_job()])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert storage.counts().by_queue["default"].pending == 1

    storage._database.alone(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
    storage.enqueue([make_job()])
    assert storage.counts().by_queue["default"].pending == 2


@pytest.mark.parametrize(
    "job",
    [make_job(queue="\ud800"), make_job(priority=2**63), make_job(metadata='"\udfff"')],
    ids=["surrogate", "too large", "surrogate in metadata"],
)
def test_a_value_that_cannot_be_stored_is_refused_with_the_whole_batch(
    storage: SqliteStorage, job: object
) -> None:
    with pytest.raises(StorageError, match="cannot store a value"):
        storage.enqueue([make_job(), job])  # type: ignore[list-item]

    assert storage.counts().by_queue == {}
